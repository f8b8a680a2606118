"""``pli access``, and what rights add to ``pli patient`` and ``pli record`` (RULES §7)."""

from enum import Enum
from typing import Annotated, Any

import typer

from mailserver.cli.options import OptionalOid, ReasonOption, StructureOption, WhyOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    done,
    opened,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.patients import patients
from mailserver.cli.reach import ask
from mailserver.cli.records import record
from mailserver.control import Owner

access = typer.Typer(help="Who may see what of a record.", no_args_is_help=True)

PatientOption = Annotated[str, typer.Option("--patient", help="Matricule, 15 characters.")]
UntilOption = Annotated[
    str | None, typer.Option("--until", help="AAAA-MM-JJ, the first day that it no longer holds.")
]
DocumentArgument = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its unique id.")]

WHO = "RPPS, patient, representative:INS or delegate:INS."


class RightKind(Enum):
    """What may be given by command."""

    CARE_TEAM = "care_team"
    ATTENDING = "attending"
    CONSENT = "consent"
    REPRESENTATIVE = "representative"


class Mask(Enum):
    """What a document may be hidden from."""

    PROFESSIONALS = "masked_ps"
    REPRESENTATIVES = "invisible_representatives"


class SharedPart(Enum):
    """What a relative may be shown."""

    DOCUMENTS = "documents"
    AGENDA = "agenda"


MaskOption = Annotated[Mask, typer.Option("--mask", help="From whom it is hidden.")]


@access.command("check")
def check_access(
    site: SiteArgument,
    actor: Annotated[str, typer.Option("--actor", help=WHO)],
    patient: PatientOption,
    document: Annotated[
        str | None, typer.Option("--document", help="Its unique id; without, the record.")
    ] = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say whether somebody sees a record or a document, and by which rule."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"who": actor, "document": document}
    result = run(ask(place, Owner.BRIDGE, "access_check", wanted))
    if as_json:
        print_json(result)
    else:
        say(f"{'shown' if result['shown'] else 'refused'}: {result['rule']}")


@access.command("list")
def list_access(
    site: SiteArgument,
    patient: PatientOption,
    seen_by: Annotated[str | None, typer.Option("--as", help=f"What this one sees: {WHO}")] = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List who has which right on a record, or with --as what somebody sees of it."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"as": seen_by}
    rows = run(ask(place, Owner.BRIDGE, "access_list", wanted))
    columns: tuple[str, ...] = ("id", "kind", "holder", "holds", "until", "ended", "told")
    if seen_by is not None:
        columns = ("unique_id", "type_code", "title", "status", "visibility", "rule")
    show_rows(rows, dict(zip(columns, columns, strict=True)), as_json=as_json)


@access.command("grant")
def grant_access(
    site: SiteArgument,
    patient: PatientOption,
    kind: Annotated[RightKind, typer.Option("--kind", help="What is given.")],
    holder: Annotated[str, typer.Option("--to", help="RPPS; of a representative the matricule.")],
    until: UntilOption = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Note a care team, an attending physician, a consent (24 h), or a child's representative."""
    place, given = opened_for_reading(site, reason)
    named = "holder_ins" if kind is RightKind.REPRESENTATIVE else "holder"
    wanted = _of(patient, oid, structure, given)
    wanted |= {"kind": kind.value, named: holder, "until": until}
    result = run(ask(place, Owner.BRIDGE, "right_give", wanted))
    done(result, f"Given: {kind.value}, right {result['id']}.", as_json=as_json)


@access.command("revoke")
def revoke_access(
    site: SiteArgument,
    patient: PatientOption,
    right: Annotated[int, typer.Option("--right", callback=a_key, help="From 'pli access list'.")],
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """End a right, whatever its kind; a block is lifted."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"id": right}
    result = run(ask(place, Owner.BRIDGE, "right_end", wanted))
    done(result, "Ended.", as_json=as_json)


@patients.command("block")
def block_professional(
    site: SiteArgument,
    patient: PatientOption,
    professional: Annotated[str, typer.Option("--professional", help="RPPS.")],
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Close a record to one professional, whatever else is said of them."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"kind": "block", "holder": professional}
    result = run(ask(place, Owner.BRIDGE, "right_give", wanted))
    done(result, "Blocked: this professional reads nothing of it.", as_json=as_json)


@patients.command("unblock")
def unblock_professional(
    site: SiteArgument,
    patient: PatientOption,
    professional: Annotated[str, typer.Option("--professional", help="RPPS.")],
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Lift a block; other rights of the professional hold again."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"kind": "block", "holder": professional}
    result = run(ask(place, Owner.BRIDGE, "right_end", wanted))
    done(result, "No longer blocked.", as_json=as_json)


@patients.command("delegate")
def delegate_to_relative(
    site: SiteArgument,
    patient: PatientOption,
    relative: Annotated[str, typer.Option("--to", help="Matricule of the relative.")],
    until: UntilOption = None,
    part: Annotated[
        list[SharedPart] | None, typer.Option("--part", help="Only this; may be repeated.")
    ] = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a relative read a record, for a year at most."""
    place, given = opened_for_reading(site, reason)
    parts = None if part is None else [each.value for each in part]
    wanted = _of(patient, oid, structure, given)
    wanted |= {"kind": "delegate", "holder_ins": relative, "until": until, "parts": parts}
    result = run(ask(place, Owner.BRIDGE, "right_give", wanted))
    done(result, f"Given until {result['until'][:10]}.", as_json=as_json)


@patients.command("close")
def close_record(
    site: SiteArgument,
    patient: PatientOption,
    reason: WhyOption,
    died: Annotated[
        str | None, typer.Option("--died", metavar="AAAA-MM-JJ", help="When the patient died.")
    ] = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Close a record: it is kept, takes nothing more, and its patient alone may still read it."""
    wanted = _of(patient, oid, structure, reason) | {"died": died}
    result = run(ask(opened(site), Owner.BRIDGE, "record_close", wanted))
    kept = result.get("kept_until")
    until = f" Kept until {kept}: {result['source']} ({result['status']})." if kept else ""
    done(result, f"Closed.{until}", as_json=as_json)


@patients.command("reopen")
def reopen_record(
    site: SiteArgument,
    patient: PatientOption,
    reason: WhyOption,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Open a closed record again; what waited for it is judged again."""
    wanted = _of(patient, oid, structure, reason)
    result = run(ask(opened(site), Owner.BRIDGE, "record_open_again", wanted))
    done(result, f"Open; filed now: {result['filed']}.", as_json=as_json)


@record.command("trends")
def list_trends(
    site: SiteArgument,
    patient: PatientOption,
    seen_by: Annotated[str, typer.Option("--as", help=f"What this one sees: {WHO}")] = "patient",
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List a patient's laboratory results by analysis, as somebody sees them."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"as": seen_by}
    rows = run(ask(place, Owner.BRIDGE, "record_trends", wanted))
    columns = ("name", "loinc", "day", "sign", "value", "unit", "document")
    show_rows(rows, dict(zip(columns, columns, strict=True)), as_json=as_json)


@record.command("medications")
def list_medications(
    site: SiteArgument,
    patient: PatientOption,
    seen_by: Annotated[str, typer.Option("--as", help=f"What this one sees: {WHO}")] = "patient",
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the medicines that a patient's documents name, as somebody sees them."""
    place, given = opened_for_reading(site, reason)
    wanted = _of(patient, oid, structure, given) | {"as": seen_by}
    rows = run(ask(place, Owner.BRIDGE, "record_medications", wanted))
    columns = ("kind", "name", "low", "high", "as_needed", "renewals", "document")
    show_rows(rows, dict(zip(columns, columns, strict=True)), as_json=as_json)


@record.command("show")
def show_document(
    site: SiteArgument,
    document: DocumentArgument,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is kept of a document, its content apart; the look is in the trail."""
    place, given = opened_for_reading(site, reason)
    wanted = {"document": document, "structure": structure, "reason": given}
    result = run(ask(place, Owner.BRIDGE, "record_show", wanted))
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        say(f"{name}: {', '.join(value) if isinstance(value, list) else value}")


@record.command("mask")
def mask_document(
    site: SiteArgument,
    document: DocumentArgument,
    mask: MaskOption = Mask.PROFESSIONALS,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Hide a document in all its versions, those to come too."""
    place, given = opened_for_reading(site, reason)
    wanted = {"document": document, "structure": structure, "reason": given, "mask": mask.value}
    result = run(ask(place, Owner.BRIDGE, "record_mask", wanted))
    done(result, f"Now: {' '.join(result['visibility'])}.", as_json=as_json)


@record.command("unmask")
def unmask_document(
    site: SiteArgument,
    document: DocumentArgument,
    mask: MaskOption = Mask.PROFESSIONALS,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Lift a mask of a document, from every version."""
    place, given = opened_for_reading(site, reason)
    wanted = {"document": document, "structure": structure, "reason": given, "mask": mask.value}
    result = run(ask(place, Owner.BRIDGE, "record_unmask", wanted))
    done(result, f"Now: {' '.join(result['visibility'])}.", as_json=as_json)


def _of(
    patient: str, oid: str | None, structure: str | None, reason: str | None
) -> dict[str, Any]:
    """Name a patient to the record."""
    return {"ins": patient, "oid": oid, "structure": structure, "reason": reason}
