"""``pli token``: what opens the FHIR interface to applications and to a structure's software."""

from enum import Enum
from typing import Annotated, Any

import typer

from mailserver.cli.options import ReasonOption, StructureOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    fail,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

tokens = typer.Typer(help="Tokens of the FHIR interface.", no_args_is_help=True)

OptionalIns = Annotated[str | None, typer.Option("--ins", help="A patient's matricule.")]
OptionalOid = Annotated[str | None, typer.Option("--oid", help="OID of the matricule.")]
AsOption = Annotated[
    str | None,
    typer.Option("--as", help="RPPS of the professional for whom the software works."),
]


class Scope(Enum):
    """What a token may read."""

    DOCUMENTS = "DocumentReference"
    BINARY = "Binary"
    PATIENT = "Patient"
    APPOINTMENT = "Appointment"
    IMMUNIZATION = "Immunization"
    AUDIT = "AuditEvent"


def _whose(ins: str | None, oid: str | None, structure: str | None) -> dict[str, Any]:
    return {"ins": ins, "oid": oid, "structure": structure}


@tokens.command("add")
def add(
    site: SiteArgument,
    name: Annotated[str, typer.Option(help="What it is for, as its holder will read it.")],
    ins: OptionalIns = None,
    oid: OptionalOid = None,
    rpps: AsOption = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="May be given several times; without, everything.")
    ] = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a token for a patient (--ins) or a professional's software (--as); shown this once."""
    if (ins is None) == (rpps is None):
        fail("say whose token it is: --ins, or --as RPPS", code=2)
    place, given = opened_for_reading(site, reason)
    arguments = {
        **_whose(ins, oid, structure),
        "rpps": rpps,
        "name": name,
        "scopes": [each.value for each in scope or ()],
        "reason": given,
    }
    made = run(ask(place, Owner.BRIDGE, "api_token_make", arguments))
    if as_json:
        print_json(made)
    else:
        say(f"Token {made['id']}, shown this once: {made['token']}")


@tokens.command("list")
def list_tokens(
    site: SiteArgument,
    ins: OptionalIns = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the tokens in force: of a structure's software, or of a patient (--ins)."""
    place, given = opened_for_reading(site, reason)
    arguments = {**_whose(ins, oid, structure), "reason": given}
    rows = run(ask(place, Owner.BRIDGE, "api_token_list", arguments))
    columns = {
        "id": "id",
        "name": "name",
        "rpps": "as",
        "scopes": "reads",
        "expires_at": "until",
    }
    show_rows(rows, columns, as_json=as_json)


@tokens.command("stop")
def stop(
    site: SiteArgument,
    token: Annotated[
        int, typer.Argument(metavar="ID", callback=a_key, help="A line of 'pli token list'.")
    ],
    ins: OptionalIns = None,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Stop a token at once."""
    place, given = opened_for_reading(site, reason)
    arguments = {**_whose(ins, oid, structure), "id": token, "reason": given}
    result = run(ask(place, Owner.BRIDGE, "api_token_stop", arguments))
    if as_json:
        print_json(result)
    else:
        say("Stopped: it opens nothing any more.")
