"""``pli record``, ``pli agenda``, ``pli quarantine`` and ``pli audit``."""

from pathlib import Path
from typing import Annotated

import typer

from mailserver.cli.options import InsOption, OidOption, ReasonOption, StructureOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    guarded,
    opened,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

record = typer.Typer(help="Patients' records.", no_args_is_help=True)
agenda = typer.Typer(help="Patients' agendas.", no_args_is_help=True)
quarantine = typer.Typer(help="Documents that a person must decide on.", no_args_is_help=True)
audit = typer.Typer(help="Proofs that nothing was lost or guessed.", no_args_is_help=True)


@record.command("list")
def list_record(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List a patient's documents; the look is written in the trail."""
    place, given = opened_for_reading(site, reason)
    rows = run(
        ask(
            place,
            Owner.BRIDGE,
            "record_list",
            {"ins": ins, "oid": oid, "structure": structure, "reason": given},
        )
    )
    columns = {
        "unique_id": "document",
        "type_code": "type",
        "title": "title",
        "status": "status",
        "visibility": "visibility",
        "marks": "marks",
    }
    show_rows(rows, columns, as_json=as_json)


@record.command("release")
def release_document(
    site: SiteArgument,
    unique_id: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its unique id.")],
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let the patient see a document that awaits release (RULES §7)."""
    place, given = opened_for_reading(site, reason)
    arguments = {"unique_id": unique_id, "structure": structure, "reason": given}
    result = run(ask(place, Owner.BRIDGE, "record_release", arguments))
    if as_json:
        print_json(result)
    else:
        say("Released: the patient sees it now.")


@record.command("export")
def export_record(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    output: Annotated[Path, typer.Option(help="The archive to make; never over another file.")],
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a whole record to one archive: documents, agenda, accesses, consents."""
    place, given = opened_for_reading(site, reason)
    arguments = {
        "ins": ins,
        "oid": oid,
        "structure": structure,
        "reason": given,
        "path": str(output.absolute()),
    }
    counts = run(ask(place, Owner.BRIDGE, "record_export", arguments))
    if as_json:
        print_json(counts)
    else:
        say(f"Written: {counts['document']} documents. It holds health data: keep it safe.")


@record.command("import")
def import_record(
    site: SiteArgument,
    archive: Annotated[Path, typer.Argument(help="Made by 'pli record export'.")],
    ins: InsOption,
    oid: OidOption,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Fill the empty record of a registered patient from an archive."""
    place, given = opened_for_reading(site, reason)
    arguments = {
        "ins": ins,
        "oid": oid,
        "structure": structure,
        "reason": given,
        "path": str(archive.absolute()),
    }
    counts = run(ask(place, Owner.BRIDGE, "record_import", arguments))
    if as_json:
        print_json(counts)
    else:
        say(f"Imported: {counts['document']} documents.")


@agenda.command("list")
def list_agenda(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="AAAA-MM-JJ: as its patient is shown it on that day, prevention included.",
        ),
    ] = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List a patient's agenda; the look is written in the trail."""
    place, given = opened_for_reading(site, reason)
    arguments = {"ins": ins, "oid": oid, "structure": structure, "reason": given}
    command = "agenda_list"
    if at is not None:
        command, arguments = "agenda_at", {**arguments, "day": at}
    rows = run(ask(place, Owner.BRIDGE, command, arguments))
    columns = {
        "start": "when",
        "title": "title",
        "kind": "kind",
        "status": "status",
        "source_unique_id": "from document",
    }
    show_rows(rows, columns, as_json=as_json)


@quarantine.command("list")
def list_quarantine(
    site: SiteArgument,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the documents in quarantine with their codes."""
    place, given = opened_for_reading(site, reason)
    rows = run(
        ask(
            place,
            Owner.BRIDGE,
            "quarantine_list",
            {"structure": structure, "reason": given},
        )
    )
    columns = {
        "id": "id",
        "age_hours": "hours",
        "late": "late",
        "code": "code",
        "reason": "reason",
        "type_label": "type",
        "addressees": "addressed to",
        "unique_id": "document",
        "ins": "INS",
        "structure": "structure",
    }
    show_rows(rows, columns, as_json=as_json)


@audit.callback()
def _audit() -> None:
    """Proofs that nothing was lost or guessed."""


@audit.command("verify")
def verify(
    site: SiteArgument,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the hashes.")] = False,
    roots: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder with copies of DIR/roots/*.jsonl that were kept elsewhere.",
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="One such copy; may be given several times.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute from the raw mail that every document is filed, quarantined or a duplicate.

    Exit 0 balanced, 1 a problem, 3 only pending.
    """
    # Imported here: a command line answers at once, whatever the server needs.
    from mailserver.audit import outside_roots, verify_audit  # noqa: PLC0415

    place = opened(site)
    kept = [*([] if roots is None else [roots]), *(root or [])]
    outside = guarded(lambda: outside_roots(kept))
    result = run(verify_audit(place, quick=quick, roots=outside))
    if as_json:
        print_json(result)
    else:
        say(
            f"received {result['received']} = filed {result['filed']} + quarantined "
            f"{result['quarantined']} + duplicates {result['duplicates']} + pending "
            f"{result['pending']}; mail without documents: {result['other']}"
        )
        if result["by_hand"]:
            say(f"filed by hand from mail without documents, beside these: {result['by_hand']}")
        if result["gone"]:
            say(f"left the application mailbox before they were opened: {result['gone']}")
        for problem in result["problems"]:
            say(f"problem: {problem}")
        for name, found in result["trails"].items():
            proof = (
                f"held against {found['outside_roots']} outside roots"
                if found["outside_roots"]
                else "without outside roots, so a cut tail would not be seen"
            )
            say(
                f"trail of {name}: {'sound' if found['sound'] else found['problem']}, "
                f"{found['sealed']} sealed, {found['unsealed']} unsealed, {proof}"
            )
        say("balanced" if result["balanced"] else "NOT balanced")
    raise typer.Exit(result["exit_code"])
