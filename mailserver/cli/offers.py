"""``pli offer``: file a PDF or HPRIM Médecin text that came without a package.

Nothing in such a file proves whose it is: it suggests patients, a person decides (RULES §4, §5).
"""

from typing import Annotated, Any

import typer

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
from mailserver.settings import Site

offers = typer.Typer(
    help="Files that came without a package: filed by a person only.", no_args_is_help=True
)

MailboxArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The mailbox.")]
UidArgument = Annotated[
    int, typer.Argument(metavar="UID", callback=a_key, help="From 'pli offer list'.")
]
PartArgument = Annotated[
    int, typer.Argument(metavar="PART", callback=a_key, help="From 'pli offer list'.")
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; production asks for it (RULES §13).")
]
_HINTS = ("family", "given", "birth_date", "number", "type_code")
_PATIENTS = {
    "ins": "INS",
    "oid": "OID",
    "family": "family",
    "given": "given",
    "birth_date": "birth date",
    "sex": "sex",
}
_FILES = {
    "mailbox": "mailbox",
    "uid": "UID",
    "part": "part",
    "type": "type",
    "octets": "octets",
    "received_at": "received",
}


@offers.command("list")
def list_files(
    site: SiteArgument,
    mailbox: Annotated[str | None, typer.Option(help="Of this mailbox only.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the files in inboxes that may be filed by hand; nothing of what they say."""
    rows = run(ask(opened(site), Owner.MAIL, "offer_list", {"mailbox": mailbox}))
    show_rows(rows, _FILES, as_json=as_json)


@offers.command("show")
def show_file(
    site: SiteArgument,
    mailbox: MailboxArgument,
    uid: UidArgument,
    part: PartArgument,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a file says of its patient, and the patients that it suggests."""
    place, given = opened_for_reading(site, reason)
    file = _read(place, (mailbox, uid, part), given)
    found = run(ask(place, Owner.BRIDGE, "offer_suggest", file))
    if as_json:
        print_json(found)
        return
    hints = found["hints"]
    say("it says: " + "; ".join(f"{name} {hints[name] or '-'}" for name in _HINTS))
    say("patients it may mean, best first:")
    show_rows(found["suggested"], _PATIENTS, as_json=False)


@offers.command("file")
def file_file(
    site: SiteArgument,
    mailbox: MailboxArgument,
    uid: UidArgument,
    part: PartArgument,
    ins: Annotated[str, typer.Option("--ins", help="Whose it is.")],
    type_code: Annotated[
        str,
        typer.Option(
            "--type",
            help="Its type, a code of the CI-SIS: 11502-2 biology, 18748-4 imaging,"
            " 34133-9 end of an episode, 11488-4 consultation...",
        ),
    ],
    title: Annotated[str, typer.Option(help="The document's title.")],
    oid: Annotated[str | None, typer.Option(help="OID of that matricule.")] = None,
    by: Annotated[
        str | None, typer.Option(help="RPPS of who decides; the holder of a PER mailbox else.")
    ] = None,
    reason: ReasonOption = None,
    *,
    visible: Annotated[
        bool, typer.Option("--visible", help="The patient sees it at once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """File it in a patient's record, under its author's name; 'pli record withdraw' undoes it."""
    place, given = opened_for_reading(site, reason)
    file = _read(place, (mailbox, uid, part), given)
    decided = {
        "rpps": by or file["rpps"],
        "ins": ins,
        "oid": oid,
        "type_code": type_code,
        "title": title,
        "visible": visible,
    }
    done: dict[str, Any] = run(ask(place, Owner.BRIDGE, "offer_file", {**file, **decided}))
    if as_json:
        print_json(done)
    elif done["state"] == "filed":
        say(f"Filed as {done['document']}.")
    else:
        say(f"This file is in that record already: {done['document']}.")


def _read(place: Site, where: tuple[str, int, int], reason: str | None) -> dict[str, Any]:
    mailbox, uid, part = where
    arguments = {"mailbox": mailbox, "uid": uid, "part": part, "reason": reason}
    file: dict[str, Any] = run(ask(place, Owner.MAIL, "offer_read", arguments))
    return {**file, "reason": reason}
