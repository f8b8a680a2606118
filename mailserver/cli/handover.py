"""``pli handover``: filed documents on their way to a structure's own software."""

import typer

from mailserver.cli.options import ReasonOption, StructureOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    opened_for_reading,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

handover = typer.Typer(help="Documents for the structure's own software.", no_args_is_help=True)


@handover.command("list")
def list_handovers(
    site: SiteArgument,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the documents that the software has not taken, with the codes it refused them by."""
    place, given = opened_for_reading(site, reason)
    arguments = {"structure": structure, "reason": given}
    rows = run(ask(place, Owner.BRIDGE, "handover_list", arguments))
    columns = {
        "id": "id",
        "structure": "structure",
        "unique_id": "document",
        "action": "action",
        "state": "state",
        "code": "code",
        "attempts": "tries",
        "next_at": "next try",
    }
    show_rows(rows, columns, as_json=as_json)


@handover.command("retry")
def retry(
    site: SiteArgument,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Hand over again at once what waits or was refused."""
    place, given = opened_for_reading(site, reason)
    arguments = {"structure": structure, "reason": given}
    answer = run(ask(place, Owner.BRIDGE, "handover_retry", arguments))
    if as_json:
        print_json(answer)
    else:
        say(f"To be handed over again: {answer['queued']}.")
