"""``pli retention``: until when records are kept, by whose text, and what is past its day."""

from pathlib import Path
from typing import Annotated

import typer

from mailserver.cli.options import InsOption, OptionalOid, ReasonOption, StructureOption, WhyOption
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    done,
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

retention = typer.Typer(
    help="Until when records are kept; nothing is destroyed by it.", no_args_is_help=True
)

MAX_READ = 64 * 1024 + 1


@retention.command("policy")
def policy(
    site: SiteArgument,
    file: Annotated[
        Path | None, typer.Argument(help="TOML that becomes the policy; without, it is shown.")
    ] = None,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    text: Annotated[bool, typer.Option("--text", help="Print it as TOML, to begin from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a structure's policy, each rule with its source, or set it."""
    wanted = {"structure": structure, "reason": reason}
    if file is not None:
        try:
            with file.open(encoding="utf-8") as opened_file:
                wanted["text"] = opened_file.read(MAX_READ)
        except (OSError, UnicodeDecodeError):
            fail("This file cannot be read.")
    found = run(ask(opened(site), Owner.BRIDGE, "retention_policy", wanted))
    if as_json:
        print_json(found)
        return
    if text:
        say(found["text"].rstrip("\n"))
        return
    say(f"{found['title']} ({'set by ' + found['set_by'] if found['set_by'] else 'built in'})")
    names = ("id", "label", "starts", "years", "within_years", "source", "status")
    show_rows(found["rules"], {name: name for name in names}, as_json=False)


@retention.command("list")
def list_records(
    site: SiteArgument,
    structure: StructureOption = None,
    reason: ReasonOption = None,
    *,
    due: Annotated[bool, typer.Option("--due", help="Those whose day is past.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List records with the day until which each is kept; a person decides what follows."""
    place, given = opened_for_reading(site, reason)
    wanted = {"structure": structure, "reason": given, "due": due}
    rows = run(ask(place, Owner.BRIDGE, "retention_list", wanted))
    names = (
        "ins", "oid", "last_activity", "closed", "died", "suspended", "kept_until", "rule",
        "source", "status",
    )  # fmt: skip
    show_rows(rows, {name: name.replace("_", " ") for name in names}, as_json=as_json)


@retention.command("suspend")
def suspend(
    site: SiteArgument,
    ins: InsOption,
    reason: WhyOption,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Suspend a record's deadline: somebody is in dispute about what was done."""
    wanted = {"ins": ins, "oid": oid, "structure": structure, "reason": reason}
    told = run(ask(opened(site), Owner.BRIDGE, "retention_suspend", wanted))
    done(told, "Suspended: the record has no deadline.", as_json=as_json)


@retention.command("resume")
def resume(
    site: SiteArgument,
    ins: InsOption,
    reason: WhyOption,
    oid: OptionalOid = None,
    structure: StructureOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """End a suspension."""
    wanted = {"ins": ins, "oid": oid, "structure": structure, "reason": reason}
    told = run(ask(opened(site), Owner.BRIDGE, "retention_resume", wanted))
    done(told, "Resumed: the record has its deadline again.", as_json=as_json)
