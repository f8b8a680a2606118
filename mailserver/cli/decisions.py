"""``pli quarantine show|decide|undo`` and ``pli record withdraw|restore|refile``.

What a person decides about documents: each decision has a reason and can be undone (RULES §6, §9).
"""

from enum import Enum
from typing import Annotated, Any

import typer

from mailserver.cli.options import ReasonOption, StructureOption, WhyOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    opened,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

ItemArgument = Annotated[
    int, typer.Argument(metavar="ID", callback=a_key, help="From 'pli quarantine list'.")
]
DocumentArgument = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its unique id.")]


class DecisionOption(Enum):
    """What can be decided on an item."""

    FILE = "file"
    SEND_BACK = "send-back"
    SET_ASIDE = "set-aside"


_DECISIONS = {
    DecisionOption.FILE: "filed",
    DecisionOption.SEND_BACK: "sent_back",
    DecisionOption.SET_ASIDE: "set_aside",
}
_TRAITS = ("family", "given", "birth_date", "sex", "birth_place")
_CANDIDATES = {
    "ins": "INS",
    "oid": "OID",
    **{name: name.replace("_", " ") for name in _TRAITS},
    "status": "status",
    "differs": "differs",
}


def register(quarantine: typer.Typer, record: typer.Typer) -> None:
    """Add the commands to ``pli quarantine`` and ``pli record``."""
    quarantine.command("show")(show_item)
    quarantine.command("decide")(decide_item)
    quarantine.command("undo")(undo_item)
    record.command("withdraw")(withdraw_document)
    record.command("restore")(restore_document)
    record.command("refile")(refile_document)
    record.command("notices")(list_notices)


def show_item(
    site: SiteArgument,
    item: ItemArgument,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show an item: what it says of its patient beside the identities it may mean."""
    place, given = opened_for_reading(site, reason)
    found = run(ask(place, Owner.BRIDGE, "quarantine_show", {"id": item, "reason": given}))
    if as_json:
        print_json(found)
        return
    say(f"{found['code']} {found['code_label']}: {found['reason_label']}")
    say(f"state: {found['state']}, for {found['age_hours']} hours")
    say(f"addressed to: {', '.join(found['addressees'])}; sent by {found['sender']}")
    say(f"asked for an answer, and has the code: {'yes' if found['answered'] else 'no'}")
    document = found["document"]
    if document is not None:
        say(f"document: {document['title']} ({document['type']}), {document['author']}")
    claimed = found["claimed"]
    if claimed is None:
        say("It names no patient that can be read.")
    else:
        numbers = ", ".join(f"{each['ins']} ({each['oid']})" for each in claimed["ids"])
        say(f"it says: {numbers or 'no INS'}")
        say("  " + "; ".join(f"{name} {claimed[name] or '-'}" for name in _TRAITS))
    say("identities it may mean:")
    show_rows(found["candidates"], _CANDIDATES, as_json=False)


def decide_item(
    site: SiteArgument,
    item: ItemArgument,
    decision: Annotated[DecisionOption, typer.Argument(help="file, send-back or set-aside.")],
    reason: WhyOption,
    ins: Annotated[str | None, typer.Option("--ins", help="To file: whose it is.")] = None,
    oid: Annotated[str | None, typer.Option("--oid", help="OID of that matricule.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Decide on an item, and on all that came with it in one message."""
    arguments = {
        "id": item,
        "decision": _DECISIONS[decision],
        "reason": reason,
        "ins": ins,
        "oid": oid,
    }
    result = run(ask(opened(site), Owner.BRIDGE, "quarantine_decide", arguments))
    if as_json:
        print_json(result)
        return
    say(f"Decided: {decision.value}; documents: {result['rows']}.")
    if decision is DecisionOption.SEND_BACK and not result["answered"]:
        say("The sender asked for no answer and has none: write to them.")


def undo_item(
    site: SiteArgument, item: ItemArgument, reason: WhyOption, *, as_json: JsonOption = False
) -> None:
    """Undo a decision: the item waits again, what was filed leaves its record."""
    arguments = {"id": item, "reason": reason}
    result = run(ask(opened(site), Owner.BRIDGE, "quarantine_undo", arguments))
    _tell(result, f"Undone; waiting again: {result['rows']}.", as_json=as_json)


def withdraw_document(
    site: SiteArgument,
    document: DocumentArgument,
    reason: WhyOption,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a document: it stays in the history and leaves every list."""
    result = _about(site, "record_withdraw", _named(document, reason, structure))
    told = f"told to those who had opened it: {result['notices']}."
    _tell(result, f"Withdrawn; {told}", as_json=as_json)


def restore_document(
    site: SiteArgument,
    document: DocumentArgument,
    reason: WhyOption,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Undo a withdrawal."""
    result = _about(site, "record_restore", _named(document, reason, structure))
    _tell(result, "Restored.", as_json=as_json)


def refile_document(
    site: SiteArgument,
    document: DocumentArgument,
    reason: WhyOption,
    ins: Annotated[str | None, typer.Option("--ins", help="Whose it is; else quarantine.")] = None,
    oid: Annotated[str | None, typer.Option("--oid", help="OID of that matricule.")] = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Put a wrong filing right: move it to the right patient, or back into quarantine."""
    result = _about(
        site, "record_refile", {**_named(document, reason, structure), "ins": ins, "oid": oid}
    )
    told = f"told to those who had opened it: {result['notices']}."
    where = "In quarantine" if ins is None else "Moved"
    _tell(result, f"{where}: {result['documents']} documents; {told}", as_json=as_json)


def list_notices(
    site: SiteArgument, structure: StructureOption = None, *, as_json: JsonOption = False
) -> None:
    """List who is told of a document that left after they had opened it."""
    rows = run(ask(opened(site), Owner.BRIDGE, "notice_list", {"structure": structure}))
    columns = {"at": "when", "addressee": "who", "kind": "what", "seen": "seen"}
    show_rows(rows, columns, as_json=as_json)


def _named(document: str, reason: str, structure: str | None) -> dict[str, Any]:
    return {"document": document, "reason": reason, "structure": structure}


def _about(
    site: SiteArgument,
    command: str,
    arguments: dict[str, Any],
) -> dict[str, Any]:
    result: dict[str, Any] = run(ask(opened(site), Owner.BRIDGE, command, arguments))
    return result


def _tell(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        say(text)
