"""``pli agenda reminders``: whether a patient is reminded of their agenda (RULES §14)."""

from typing import Annotated

import typer

from mailserver.cli.options import InsOption, ReasonOption, StructureOption
from mailserver.cli.output import JsonOption, SiteArgument, done, opened_for_reading, run
from mailserver.cli.reach import ask
from mailserver.control import Owner


def register(agenda: typer.Typer) -> None:
    """Add this module's command to ``pli agenda``."""
    agenda.command("reminders")(set_reminders)


def set_reminders(
    site: SiteArgument,
    ins: InsOption,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    reminds: Annotated[
        bool | None,
        typer.Option("--on/--off", help="Remind them from now on, or no more; without, only say."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say or choose whether a patient is told, outside, on the eve of what is in their agenda.

    Only at an address that they confirmed themselves in the webmail; one mail a day at most,
    which says nothing of what it is.
    """
    place, given = opened_for_reading(site, reason)
    wanted = {"ins": ins, "structure": structure, "reminds": reminds, "reason": given}
    told = run(ask(place, Owner.MAIL, "agenda_reminders", wanted))
    said = "is reminded of the agenda" if told["reminders"] else "is not reminded of the agenda"
    last = f"; last on {told['last']}" if told["last"] else ""
    where = "" if told["confirmed"] else "; no address is confirmed"
    done(told, f"This patient {said}{last}{where}.", as_json=as_json)
