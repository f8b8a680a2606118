"""``pli structure``, ``pli account``, ``pli device`` and ``pli patient``."""

import csv
import io
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    fail,
    opened,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner
from mailserver.errors import CommandError
from mailserver.settings import Site

structures = typer.Typer(help="The structures hosted on this site.", no_args_is_help=True)
accounts = typer.Typer(help="Mailboxes of professionals and services.", no_args_is_help=True)
devices = typer.Typer(
    help="What lets mail clients in: passwords, certificates, tokens.", no_args_is_help=True
)
patients = typer.Typer(help="Patients registered in a structure.", no_args_is_help=True)

_STRUCTURE_COLUMNS = {
    "id": "id",
    "name": "name",
    "organization": "FINESS/SIRET",
    "domain": "domain",
    "patient_domain": "patients' domain",
    "application_address": "application mailbox",
}
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
_PATIENT_COLUMNS = {
    "structure": "structure",
    "ins": "INS",
    "oid": "OID",
    "family": "birth name",
    "given": "first name",
    "birth_date": "born",
    "sex": "sex",
    "status": "status",
    "merged_into": "merged into",
}
_DEVICE_COLUMNS = {
    "id": "id",
    "name": "name",
    "by": "by",
    "scram": "SCRAM",
    "person": "person",
    "created_at": "made",
    "expires_at": "expires",
}


class AccountType(Enum):
    """The kinds of mailbox that a person may open (TRE_R257)."""

    PER = "PER"
    ORG = "ORG"
    APP = "APP"
    CAB = "CAB"


class IdentityStatusOption(Enum):
    """How far an identity was checked (RNIV)."""

    PROVISOIRE = "provisoire"
    RECUPEREE = "recuperee"
    VALIDEE = "validee"
    QUALIFIEE = "qualifiee"


class Sex(Enum):
    """Administrative sex as the INS has it."""

    M = "M"
    F = "F"


@structures.command("add")
def add_structure(
    site: SiteArgument,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Short name, e.g. cabinet.")],
    name: Annotated[str, typer.Option(help="Name as people know it.")],
    organization: Annotated[str, typer.Option(help="FINESS (9 digits) or SIRET (14 digits).")],
    domain: Annotated[str, typer.Option(help="Domain of its professionals' mailboxes.")],
    patient_domain: Annotated[str, typer.Option(help="Domain of its patients' mailboxes.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Host one more structure, with its application mailbox."""
    structure = {
        "id": identifier,
        "name": name,
        "organization": organization,
        "domain": domain,
        "patient_domain": patient_domain,
    }
    result = run(_add_structure(opened(site), structure))
    if as_json:
        print_json(result)
        return
    say(f"Structure {identifier} added.")
    say(f"Its application mailbox is {result['application_address']}.")


async def _add_structure(place: Site, structure: dict[str, Any]) -> dict[str, Any]:
    """Add it, then tell a running bridge to watch its application mailbox."""
    added: dict[str, Any] = await ask(place, Owner.MAIL, "structure_add", structure)
    await ask(place, Owner.BRIDGE, "structures_changed", {})
    return added


@structures.command("list")
def list_structures(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """List the structures."""
    rows = run(ask(opened(site), Owner.MAIL, "structure_list", {}))
    show_rows(rows, _STRUCTURE_COLUMNS, as_json=as_json)


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


@patients.command("add")
def add_patient(
    site: SiteArgument,
    ins: Annotated[str, typer.Option(help="Matricule, 15 characters.")],
    oid: Annotated[str, typer.Option(help="OID of the matricule, e.g. 1.2.250.1.213.1.4.8.")],
    family: Annotated[str, typer.Option(help="Birth name.")],
    given: Annotated[str, typer.Option(help="First birth name.")],
    birth_date: Annotated[str, typer.Option(help="YYYY-MM-DD.")],
    sex: Annotated[Sex, typer.Option(help="M or F.")],
    birth_place: Annotated[str | None, typer.Option(help="Commune code, 5 characters.")] = None,
    status: Annotated[IdentityStatusOption, typer.Option()] = IdentityStatusOption.QUALIFIEE,
    structure: Annotated[
        str | None, typer.Option(help="Needed when the site has several structures.")
    ] = None,
    login: Annotated[str | None, typer.Option(help="Also make this webmail account.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Register a patient, open the mailbox if qualified, and match the documents that wait."""
    place = opened(site)
    if login is not None and status is not IdentityStatusOption.QUALIFIEE:
        fail("only a qualified identity has a mailbox to log in to; give --login to 'change' then")
    result = run(
        _register(
            place,
            {
                "ins": ins,
                "oid": oid,
                "family": family,
                "given": given,
                "birth_date": birth_date,
                "sex": sex.value,
                "birth_place": birth_place,
                "status": status.value,
                "structure": structure,
            },
            login,
        )
    )
    if as_json:
        print_json(result)
        return
    say(f"Patient registered in {result['structure']}; documents filed now: {result['filed']}.")
    tell_mailbox(result)


def tell_mailbox(result: dict[str, Any]) -> None:
    """Say whether an identity has a mailbox, and the secrets of a login made for it."""
    if result["address"] is None:
        say("No mailbox: the identity is not qualified ('pli patient change' opens it then).")
    if "webmail_login" in result:
        login, password = result["webmail_login"], result["webmail_password"]
        say(f"Webmail login: {login}   password: {password}   (shown once)")
        say(f"TOTP secret for the authenticator: {result['webmail_totp_secret']}")


async def _register(place: Site, identity: dict[str, Any], login: str | None) -> dict[str, Any]:
    """Record first (it refuses a second identity), then the mailbox: a retry completes it."""
    structure = await ask(
        place, Owner.MAIL, "structure_resolve", {"structure": identity["structure"]}
    )
    identity = {**identity, "structure": structure["id"]}
    if login is not None:
        await ask(place, Owner.MAIL, "login_free", {"login": login})
    patient = await _record_patient(place, identity)
    mailbox = await settle_mailbox(place, identity, login)
    return {**patient, **mailbox, "structure": structure["id"]}


async def settle_mailbox(place: Site, named: dict[str, Any], login: str | None) -> dict[str, Any]:
    """Open the mailbox of a qualified identity, close that of another (RULES §11).

    The record says which it is; asked again after a crash, the same command completes it.
    """
    names = {name: named[name] for name in ("structure", "ins", "oid")}
    held = await ask(place, Owner.BRIDGE, "patient_address", names)
    mailbox = {"structure": held["structure"], "ins": held["ins"]}
    if not held["qualified"]:
        closed: dict[str, Any] = await ask(place, Owner.MAIL, "patient_close", mailbox)
        return closed
    opened: dict[str, Any] = await ask(
        place, Owner.MAIL, "patient_open", {**mailbox, "login": login}
    )
    return opened


async def _record_patient(place: Site, identity: dict[str, Any]) -> dict[str, Any]:
    """Register in the record; a qualified one without a mailbox is a registration cut short."""
    try:
        patient: dict[str, Any] = await ask(place, Owner.BRIDGE, "patient_add", identity)
    except CommandError as refusal:
        if refusal.code != "patient_exists" or not await _cut_short(place, identity):
            raise
        return {**identity, "filed": 0}
    return patient


async def _cut_short(place: Site, identity: dict[str, Any]) -> bool:
    half = {"structure": identity["structure"], "ins": identity["ins"]}
    if (await ask(place, Owner.MAIL, "patient_mailbox", half))["exists"]:
        return False
    try:
        held = await ask(place, Owner.BRIDGE, "patient_address", {**half, "oid": identity["oid"]})
    except CommandError:  # the number is taken under another OID
        return False
    return bool(held["qualified"])


@patients.command("list")
def list_patients(
    site: SiteArgument,
    structure: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why you look (RULES §13).")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the patients; the look is written in the trail."""
    place, given = opened_for_reading(site, reason)
    rows = run(ask(place, Owner.BRIDGE, "patient_list", {"structure": structure, "reason": given}))
    if not as_json:
        rows = [{**row, "birth_date": _dashed(row["birth_date"])} for row in rows]
    show_rows(rows, _PATIENT_COLUMNS, as_json=as_json)


def _dashed(day: str) -> str:
    """Write a day as it is given on the command line."""
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
