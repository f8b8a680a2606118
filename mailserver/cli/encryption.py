"""``pli encryption``: recipients' certificates, and the mailboxes whose mail leaves encrypted."""

from pathlib import Path
from typing import Annotated

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

encryption = typer.Typer(help="Encryption of outgoing mail.", no_args_is_help=True)

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose certificate.")]


@encryption.command("record")
def record(
    site: SiteArgument,
    address: AddressArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="PEM.")
    ],
    *,
    gcm: Annotated[
        bool, typer.Option("--gcm", help="Its holder's program is known to open AES-GCM.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Instead of the one recorded before.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is replaced.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Record a recipient's certificate; it is checked against the address and its authority."""
    arguments = {
        "address": address,
        "path": str(file.resolve()),
        "gcm": gcm,
        "replace": replace,
        "reason": reason,
    }
    result = run(ask(opened(site), Owner.MAIL, "encryption_record", arguments))
    if as_json:
        print_json(result)
        return
    say(f"Recorded: {result['subject']}, until {result['until']}.")
    say(f"SHA-256 {result['fingerprint']}")


@encryption.command("list")
def list_certificates(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """List the recorded certificates, and whether they can be used today."""
    rows = run(ask(opened(site), Owner.MAIL, "encryption_list", {}))
    columns = {"address": "address", "state": "state", "until": "until", "cipher": "cipher"}
    show_rows(rows, columns, as_json=as_json)


@encryption.command("forget")
def forget(site: SiteArgument, address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Let go of a recipient's certificate."""
    result = run(ask(opened(site), Owner.MAIL, "encryption_forget", {"address": address}))
    if as_json:
        print_json(result)
    else:
        say("Forgotten: mail to this address leaves signed only.")


@encryption.command("ask")
def ask_for(
    site: SiteArgument,
    mailbox: Annotated[str, typer.Argument(metavar="MAILBOX", help="A mailbox of this site.")],
    *,
    off: Annotated[bool, typer.Option("--off", help="No more.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Encrypt what a mailbox sends, to each recipient whose certificate is recorded."""
    arguments = {"address": mailbox, "wanted": not off}
    result = run(ask(opened(site), Owner.MAIL, "encryption_ask", arguments))
    if as_json:
        print_json(result)
    else:
        say("Its mail leaves signed only." if off else "Its mail leaves encrypted where it can.")
