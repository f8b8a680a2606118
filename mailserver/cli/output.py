"""How the command line speaks: tables for people, JSON for programs, errors that say what to do.

Invariants: with ``--json`` stdout holds one JSON document and nothing else; errors go to stderr
and end the program with 1 (2 is usage, which typer answers).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from directory.errors import DirectoryError
from mailserver.errors import CommandError, MailServerError
from mailserver.settings import Environment, Site

T = TypeVar("T")

SiteArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The site's directory, made by 'pli init'.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

MAX_KEY: Final = 2**63 - 1
"""The largest key of a table."""

_errors = Console(stderr=True, highlight=False)
_PIPED_WIDTH = 200
"""Columns of a table that no terminal shows; long cells fold, nothing is cut off."""
_out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def a_key(value: int | list[int] | None) -> int | list[int] | None:
    """Let pass what can be the key of a row; the rest is usage, and never reaches a database."""
    for key in value if isinstance(value, list) else [value]:
        if key is not None and not 0 <= key <= MAX_KEY:
            raise typer.BadParameter("no line has this number")
    return value


def fail(text: str, *, code: int = 1) -> NoReturn:
    """Say what is wrong on stderr and end the program."""
    complain(text)
    raise typer.Exit(code)


def complain(text: str) -> None:
    """Say what is wrong on stderr."""
    _errors.print("[bold red]error:[/]", escape(text), soft_wrap=True)


def note(text: str) -> None:
    """Say on stderr what is no answer and no error."""
    _errors.print(text, soft_wrap=True, markup=False)


def say(text: str) -> None:
    """Print one line for a person."""
    _out.print(text, soft_wrap=True, markup=False)


def print_json(value: object) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def done(told: object, text: str, *, as_json: bool) -> None:
    """Say what was done: as JSON what the server told, else in a sentence."""
    if as_json:
        print_json(told)
    else:
        say(text)


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool
) -> None:
    """Print rows as JSON (all their keys) or as a table (the columns named: key -> heading)."""
    if as_json:
        print_json(list(rows))
        return
    if not rows:
        say("(nothing)")
        return
    table = Table(box=None, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    _out.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return str(value)


def opened(root: Path) -> Site:
    """Give the site, or say that there is none."""
    site = Site(root)
    guarded(site.settings)
    return site


def opened_for_reading(root: Path, reason: str | None) -> tuple[Site, str | None]:
    """Give the site to a command that shows personal content; production asks why (RULES §13)."""
    site = opened(root)
    if site.settings().environment is Environment.PRODUCTION and not (reason or "").strip():
        fail("a production site asks for --reason: it is written in the trail", code=2)
    return site, reason


def guarded(action: Callable[[], T]) -> T:
    """Run a blocking action; our own errors end the program with their text."""
    try:
        return action()
    except CommandError as refusal:
        fail(refusal.text)
    except (MailServerError, DirectoryError) as error:
        fail(str(error))


def run(action: Awaitable[T]) -> T:
    """Run an async action to its end; our own errors end the program with their text."""

    async def main() -> T:
        return await action

    return guarded(lambda: asyncio.run(main()))
