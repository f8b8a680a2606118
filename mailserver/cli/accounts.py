"""``pli account``: mailboxes of professionals and services, and their webmail accounts."""

import csv
import io
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    fail,
    opened,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner
from mailserver.settings import Site

accounts = typer.Typer(help="Mailboxes of professionals and services.", no_args_is_help=True)

_ACCOUNT_COLUMNS = {
    "address": "address",
    "type": "type",
    "structure": "structure",
    "name": "name",
    "rpps": "RPPS",
    "filing": "filing",
    "closed": "closed",
}
_CSV_COLUMNS = (
    "address", "type", "structure", "rpps", "name", "filing", "profession", "specialty",
)  # fmt: skip


class AccountType(Enum):
    """The kinds of mailbox that a person may open (TRE_R257)."""

    PER = "PER"
    ORG = "ORG"
    APP = "APP"
    CAB = "CAB"


@accounts.command("add")
def add_account(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    kind: Annotated[AccountType, typer.Option("--type", help="PER, ORG, APP or CAB.")],
    structure: Annotated[str, typer.Option(help="Id of the structure it belongs to.")],
    rpps: Annotated[str | None, typer.Option(help="RPPS of the holder (PER, CAB).")] = None,
    name: Annotated[str | None, typer.Option(help="Name shown to correspondents.")] = None,
    profession: Annotated[str | None, typer.Option(help="TRE_G15 code, 10 for médecin.")] = None,
    specialty: Annotated[str | None, typer.Option(help="TRE_R38 code, e.g. SM26.")] = None,
    *,
    filing: Annotated[
        bool, typer.Option("--filing/--no-filing", help="File its inbound reports (RULES §3).")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Open a mailbox and publish it in the annuaire."""
    result = run(
        ask(
            opened(site),
            Owner.MAIL,
            "account_add",
            {
                "address": address,
                "type": kind.value,
                "structure": structure,
                "rpps": rpps,
                "name": name or address.partition("@")[0],
                "profession": profession,
                "specialty": specialty,
                "filing": filing,
            },
        )
    )
    if as_json:
        print_json(result)
        return
    say(f"Mailbox {address} opened. Give its holder a device password:")
    say(f"  pli device add {site.resolve()} {address} NAME-OF-THE-DEVICE")


@accounts.command("login")
def open_account(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    login: Annotated[str, typer.Option(help="Its login, no address and no name of a patient.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the webmail account of a professional's mailbox."""
    result = run(_open_account(opened(site), {"address": address, "login": login}))
    if as_json:
        print_json(result)
        return
    say(f"Webmail login: {login}   password: {result['webmail_password']}   (shown once)")
    say(f"TOTP secret for the authenticator: {result['webmail_totp_secret']}")


async def _open_account(place: Site, wanted: dict[str, Any]) -> dict[str, Any]:
    await ask(place, Owner.MAIL, "login_free", {"login": wanted["login"]})
    made: dict[str, Any] = await ask(place, Owner.MAIL, "account_login", wanted)
    return made


@accounts.command("close")
def close_account(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Close a mailbox whose holder leaves: its passwords, sessions and tokens open nothing."""
    result = run(ask(opened(site), Owner.MAIL, "account_close", {"address": address}))
    if as_json:
        print_json(result)
    else:
        say(f"{address} is closed: nothing comes in, nobody reads it or writes under it.")


@accounts.command("reopen")
def reopen_account(
    site: SiteArgument,
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Open a closed mailbox again; its device passwords are to be made anew."""
    result = run(ask(opened(site), Owner.MAIL, "account_reopen", {"address": address}))
    if as_json:
        print_json(result)
    else:
        say(f"{address} is open again. Give its holder a device password.")


@accounts.command("profession")
def describe_account(
    site: SiteArgument,
    rpps: Annotated[str, typer.Argument(metavar="RPPS")],
    profession: Annotated[str, typer.Option(help="TRE_G15 code, 10 for médecin.")],
    specialty: Annotated[str | None, typer.Option(help="TRE_R38 code, e.g. SM26.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what a professional is; what they may read of a record depends on it (RULES §7)."""
    wanted = {"rpps": rpps, "profession": profession, "specialty": specialty}
    result = run(ask(opened(site), Owner.MAIL, "account_profession", wanted))
    if as_json:
        print_json(result)
    else:
        say(f"{rpps}: profession {profession}, specialty {specialty or 'none'}.")


@accounts.command("import")
def import_accounts(
    site: SiteArgument,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="FILE.csv",
            help="Columns address,type,structure,rpps,name,filing,profession,specialty"
            " with a header line; the first three must be there.",
        ),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Open the mailboxes of a CSV file; lines that fail are named, the others are kept."""
    place = opened(site)
    rows = _csv_rows(file)
    results = run(ask(place, Owner.MAIL, "account_import", {"rows": rows}))
    show_rows(results, {"line": "line", "outcome": "outcome", "text": ""}, as_json=as_json)
    if any(row["outcome"] != "added" for row in results):
        raise typer.Exit(1)


def _csv_rows(file: Path) -> list[dict[str, Any]]:
    """Read the file as a spreadsheet writes it: commas, or the semicolons of a French one."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        fail(f"{file.resolve()} is not UTF-8: save it as CSV UTF-8")
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    wanted = ("address", "type", "structure")
    if not set(wanted) <= {name.strip() for name in header.split(delimiter)}:
        fail(f"{file.resolve()} needs a header line with at least {', '.join(wanted)}")
    if not rows:
        fail(f"{file.resolve()} holds no line under its header")
    return [{name: row[name] for name in _CSV_COLUMNS if name in row} for row in rows]


@accounts.command("list")
def list_accounts(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """List the mailboxes of professionals and services."""
    rows = run(ask(opened(site), Owner.MAIL, "account_list", {}))
    show_rows(rows, _ACCOUNT_COLUMNS, as_json=as_json)
