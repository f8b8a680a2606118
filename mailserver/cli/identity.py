"""``pli patient change``, ``merge`` and ``split``: identity vigilance (RULES §5)."""

from typing import Annotated, Any

import typer

from mailserver.cli.options import InsOption, OidOption, StructureOption, WhyOption
from mailserver.cli.output import JsonOption, SiteArgument, opened, print_json, run, say
from mailserver.cli.patients import IdentityStatusOption, Sex, settle_mailbox, tell_mailbox
from mailserver.cli.reach import ask
from mailserver.control import Owner
from mailserver.settings import Site


def register(patients: typer.Typer) -> None:
    """Add the commands to ``pli patient``."""
    patients.command("change")(change_patient)
    patients.command("merge")(merge_patients)
    patients.command("split")(split_patients)


def change_patient(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    reason: WhyOption,
    family: Annotated[str | None, typer.Option(help="Birth name.")] = None,
    given: Annotated[str | None, typer.Option(help="First birth name.")] = None,
    birth_date: Annotated[str | None, typer.Option(help="YYYY-MM-DD.")] = None,
    sex: Annotated[Sex | None, typer.Option(help="M or F.")] = None,
    birth_place: Annotated[str | None, typer.Option(help="Commune code, 5 characters.")] = None,
    status: Annotated[IdentityStatusOption | None, typer.Option()] = None,
    structure: StructureOption = None,
    login: Annotated[
        str | None, typer.Option(help="Also make this webmail account, if qualified.")
    ] = None,
    *,
    doubtful: Annotated[
        bool | None, typer.Option("--doubtful/--certain", help="Whether it is in doubt.")
    ] = None,
    fictitious: Annotated[
        bool | None, typer.Option("--fictitious/--real", help="Whether it is made up.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Correct, qualify or doubt an identity, and match the documents that wait for it.

    Its mailbox is open while it is qualified and beyond doubt (RULES §11).
    """
    changes = {
        "family": family,
        "given": given,
        "birth_date": birth_date,
        "sex": None if sex is None else sex.value,
        "birth_place": birth_place,
        "status": None if status is None else status.value,
        "doubtful": doubtful,
        "fictitious": fictitious,
    }
    named = {"ins": ins, "oid": oid, "structure": structure, "reason": reason}
    result = run(_change(opened(site), {**named, **changes}, login))
    if as_json:
        print_json(result)
    else:
        say(f"Changed; documents filed now: {result['filed']}.")
        tell_mailbox(result)


async def _change(place: Site, wanted: dict[str, Any], login: str | None) -> dict[str, Any]:
    if login is not None:
        await ask(place, Owner.MAIL, "login_free", {"login": login})
    changed: dict[str, Any] = await ask(place, Owner.BRIDGE, "patient_change", wanted)
    return {**changed, **await settle_mailbox(place, wanted, login)}


def merge_patients(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    into_ins: Annotated[str, typer.Option(help="Matricule of the identity that keeps it.")],
    into_oid: Annotated[str, typer.Option(help="OID of that matricule.")],
    reason: WhyOption,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring a patient's record into that of another identity of the same person."""
    result = run(
        ask(
            opened(site),
            Owner.BRIDGE,
            "patient_merge",
            {
                "ins": ins,
                "oid": oid,
                "into_ins": into_ins,
                "into_oid": into_oid,
                "structure": structure,
                "reason": reason,
            },
        )
    )
    _tell(result, "Merged", as_json=as_json)


def split_patients(
    site: SiteArgument,
    ins: InsOption,
    oid: OidOption,
    reason: WhyOption,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Undo a merge: every document goes back to the identity that it names."""
    arguments = {"ins": ins, "oid": oid, "structure": structure, "reason": reason}
    result = run(ask(opened(site), Owner.BRIDGE, "patient_split", arguments))
    _tell(result, "Split", as_json=as_json)


def _tell(result: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    say(
        f"{done}: {result['documents']} documents and {result['rows']} other rows moved;"
        f" documents filed now: {result['filed']}."
    )
    if result["ended"]:
        say(f"Rights and keys given while it was one record, ended now: {result['ended']}.")
    if result["left"]:
        say(f"Left where they were, because the record has their like: {result['left']}.")
