"""``pli device``: what lets mail clients in."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    opened,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

devices = typer.Typer(
    help="What lets mail clients in: passwords, certificates, tokens.", no_args_is_help=True
)

_DEVICE_COLUMNS = {
    "id": "id",
    "name": "name",
    "by": "by",
    "scram": "SCRAM",
    "person": "person",
    "created_at": "made",
    "expires_at": "expires",
}


@devices.command("add")
def add_device(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which device, e.g. 'cabinet'.")],
    *,
    person: Annotated[
        str | None,
        typer.Option(help="Whose it is (PER address), on an ORG or CAB mailbox."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password instead of making one.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Let in who shows this certificate (PEM), by EXTERNAL, instead of a password.",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="Let in whom the identity provider's tokens call so, instead."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let one mail client in: by a password that is shown once, a certificate or a token."""
    if sum((password_stdin, certificate is not None, subject is not None)) > 1:
        raise typer.BadParameter("give one of --password-stdin, --certificate and --subject")
    secret = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    device = {
        "address": address,
        "name": name,
        "secret": secret,
        "certificate": None if certificate is None else certificate.read_text("ascii", "replace"),
        "subject": subject,
        "person": person,
    }
    result = run(ask(opened(site), Owner.MAIL, "device_add", device))
    if as_json:
        print_json(result)
        return
    until = f"it expires {result['expires_at']}"
    say(f"Login:    {result['login']}")
    if certificate is not None:
        say(f"By:       this certificate, EXTERNAL ({until})")
    elif subject is not None:
        say(f"By:       tokens of this subject, OAUTHBEARER or XOAUTH2 ({until})")
    elif secret is None:
        say(f"Password: {result['password']}   (shown once; {until})")
    else:
        say(f"Password: the one given ({until})")


@devices.command("list")
def list_devices(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    *,
    as_json: JsonOption = False,
) -> None:
    """List what opens a mailbox; never the passwords themselves."""
    rows = run(ask(opened(site), Owner.MAIL, "device_list", {"address": address}))
    show_rows(rows, _DEVICE_COLUMNS, as_json=as_json)


@devices.command("revoke")
def revoke_device(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    device: Annotated[
        int, typer.Argument(metavar="ID", callback=a_key, help="From 'pli device list'.")
    ],
) -> None:
    """Let one device in no more: its password, certificate or subject opens nothing."""
    run(ask(opened(site), Owner.MAIL, "device_revoke", {"address": address, "id": device}))
    say("Revoked.")
