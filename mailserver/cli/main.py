"""The ``pli`` command as a whole: every family of subcommands under one name."""

from importlib import metadata
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from mailserver.cli import (
    accounts,
    decisions,
    devices,
    encryption,
    handover,
    hospital,
    identity,
    offers,
    outgoing,
    packs,
    patients,
    records,
    reminders,
    retention,
    rights,
    sharing,
    site,
    structures,
    tokens,
    trust,
    unread,
)
from mailserver.cli.output import say

_WHOLE: Final = 1000
"""Characters of a command's first sentence, which lists show: more than any has."""


class _Commands(TyperGroup):
    """A group whose list says of each command its whole first sentence, folded and never cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list. Any: typer has its own copy of click's classes, and names it nowhere."""
        rows = [
            (name, self.commands[name].get_short_help_str(_WHOLE))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="pli",
    cls=_Commands,
    help="Pli, an open MSSanté operator: secure health messaging, an annuaire, and a bridge "
    "that files reports into patients' records.",
    epilog="A site is a directory: 'pli init DIR' makes it ('--demo' with fictitious people), "
    "'pli serve DIR' runs it, 'pli check DIR' says what is wrong with it. Nearly every command "
    "names that directory first; each explains itself with --help.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
site.register(app)
unread.register(accounts.accounts)
identity.register(patients.patients)
decisions.register(records.quarantine, records.record)
reminders.register(records.agenda)
for _name, _family in {
    "structure": structures.structures,
    "account": accounts.accounts,
    "device": devices.devices,
    "mailbox": sharing.mailboxes,
    "patient": patients.patients,
    "record": records.record,
    "access": rights.access,
    "agenda": records.agenda,
    "quarantine": records.quarantine,
    "pack": packs.packs,
    "retention": retention.retention,
    "offer": offers.offers,
    "token": tokens.tokens,
    "handover": handover.handover,
    "queue": outgoing.queue,
    "message": outgoing.message,
    "encryption": encryption.encryption,
    "trust-list": trust.trust_list,
    "audit": records.audit,
    "report": hospital.report,
    "hospital": hospital.receiver,
}.items():
    app.add_typer(_family, name=_name, cls=_Commands)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - typer gives an option's value so
    if asked:
        say(f"pli {metadata.version('pli-sante')}")
        raise typer.Exit


@app.callback()
def pli(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """Take what stands before the command."""
