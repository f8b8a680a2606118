"""``pli structure``: whom this site hosts."""

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
from mailserver.settings import Site

structures = typer.Typer(help="The structures hosted on this site.", no_args_is_help=True)

_STRUCTURE_COLUMNS = {
    "id": "id",
    "name": "name",
    "organization": "FINESS/SIRET",
    "domain": "domain",
    "patient_domain": "patients' domain",
    "application_address": "application mailbox",
}


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
