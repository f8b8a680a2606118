"""``pli patient``: who is registered in a structure, and the mailbox that goes with it.

The rest of the family is in ``identity`` (changes, merges) and ``rights`` (blocks, delegates).
"""

from enum import Enum
from typing import Annotated, Any

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
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

patients = typer.Typer(help="Patients registered in a structure.", no_args_is_help=True)

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
