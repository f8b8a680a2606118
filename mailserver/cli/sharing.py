"""``pli mailbox``: who shares the mailbox of a team, who writes as whom, who read."""

from typing import Annotated, Any

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    opened,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

mailboxes = typer.Typer(help="Mailboxes that several people share.", no_args_is_help=True)

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The mailbox.")]
PersonArgument = Annotated[
    str, typer.Argument(metavar="PERSON", help="Address of the person's own (PER) mailbox.")
]


@mailboxes.command("share")
def share(
    site: SiteArgument,
    address: AddressArgument,
    person: PersonArgument,
    rights: Annotated[
        str | None,
        typer.Option(
            help="Letters of lrswipkxtea (RFC 4314); p: write under its address."
            " Without: all but x (delete folders) and a (share on)."
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a person into an ORG or CAB mailbox, or change what they may do there."""
    arguments = {"address": address, "person": person, "rights": rights}
    result: dict[str, Any] = run(ask(opened(site), Owner.MAIL, "mailbox_share", arguments))
    if as_json:
        print_json(result)
        return
    say(f"{result['person']} shares {result['address']} with the rights {result['rights']}.")
    say("Their mail client shows it under 'Other Users'. For one that knows a single mailbox:")
    say(f"  pli device add {site.resolve()} {address} NAME-OF-THE-DEVICE --person {person}")


@mailboxes.command("unshare")
def unshare(site: SiteArgument, address: AddressArgument, person: PersonArgument) -> None:
    """Take a person out of a mailbox, with the device passwords that opened it for them."""
    _done(site, "mailbox_unshare", (address, person))


@mailboxes.command("rights")
def rights(site: SiteArgument, address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Say who may do what in a mailbox; a folder's own word replaces the mailbox's."""
    rows = run(ask(opened(site), Owner.MAIL, "mailbox_rights", {"address": address}))
    columns = {"person": "person", "folder": "folder", "rights": "rights", "delegate": "delegate"}
    if not as_json:
        rows = [
            {
                **row,
                "folder": row["folder"] or "(all)",
                "delegate": "writes as it" if row["delegate"] else "",
            }
            for row in rows
        ]
    show_rows(rows, columns, as_json=as_json)


@mailboxes.command("readings")
def readings(site: SiteArgument, address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Say who read messages of a mailbox, a patient's too: when, how, and how many."""
    rows = run(ask(opened(site), Owner.MAIL, "mailbox_readings", {"address": address}))
    columns = {"at": "when", "who": "who", "via": "by", "messages": "messages"}
    show_rows(rows, columns, as_json=as_json)


@mailboxes.command("list")
def list_shared(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """List the mailboxes of teams, and those that somebody writes for."""
    rows = run(ask(opened(site), Owner.MAIL, "mailbox_list", {}))
    columns = {
        "address": "address",
        "type": "type",
        "structure": "structure",
        "people": "people",
        "delegates": "delegates",
    }
    show_rows(rows, columns, as_json=as_json)


@mailboxes.command("delegate")
def delegate(
    site: SiteArgument,
    address: AddressArgument,
    person: PersonArgument,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a person write as a mailbox; their messages say who wrote them (Sender)."""
    arguments = {"address": address, "person": person}
    result: dict[str, Any] = run(ask(opened(site), Owner.MAIL, "mailbox_delegate", arguments))
    if as_json:
        print_json(result)
        return
    say(f"{result['person']} may write as {result['address']}.")


@mailboxes.command("undelegate")
def undelegate(site: SiteArgument, address: AddressArgument, person: PersonArgument) -> None:
    """End a delegation."""
    _done(site, "mailbox_withdraw", (address, person))


def _done(site: Any, command: str, who: tuple[str, str]) -> None:
    """Any: typer's path."""
    run(ask(opened(site), Owner.MAIL, command, {"address": who[0], "person": who[1]}))
    say("Done.")
