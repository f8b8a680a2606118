"""``pli account unread``: whose reports have waited too long for somebody to open them."""

import typer

from mailserver.cli.output import JsonOption, SiteArgument, opened, run, show_rows
from mailserver.cli.reach import ask
from mailserver.control import Owner

_COLUMNS = {
    "address": "address",
    "responsible": "who answers for it",
    "unread": "unread reports",
    "oldest": "the oldest came",
}


def register(accounts: typer.Typer) -> None:
    """Add this module's command to ``pli account``."""
    accounts.command("unread")(list_unread)


def list_unread(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """List the mailboxes with reports that nobody has opened for three working days."""
    rows = run(ask(opened(site), Owner.MAIL, "account_unread", {}))
    if not as_json:
        rows = [{**row, "responsible": row["responsible"] or "nobody"} for row in rows]
    show_rows(rows, _COLUMNS, as_json=as_json)
