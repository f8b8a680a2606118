"""``pli trust-list``: the list of operators, how it comes in, and what a person must look at."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

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

trust_list = typer.Typer(help="The list of operators.", no_args_is_help=True)

FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A list in the XML form."),
]


@trust_list.command("import")
def import_list(
    site: SiteArgument,
    file: FileArgument = None,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although it lost domains; a second person must agree."),
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why it may be forced.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a list into use: FILE, or the published one, or the site's own file."""
    arguments = {
        "path": None if file is None else str(file.resolve()),
        "force": force,
        "reason": reason,
    }
    result = run(ask(opened(site), Owner.MAIL, "trust_import", arguments))
    if as_json:
        print_json(result)
    elif result["outcome"] == "adopted":
        say(f"In use: {result['domains']} domains; {result['lost']} are gone.")
        if result["new_names"]:
            say(f"{result['new_names']} new names for known domains: see 'pli trust-list show'.")
    elif result["outcome"] == "proposed":
        say(
            f"It lacks {result['lost']} domains: another person must give the same file with "
            "--force --reason within a day."
        )
    else:
        say("Nothing new.")


@trust_list.command("show")
def show(
    site: SiteArgument,
    *,
    domain: Annotated[str | None, typer.Option(help="Who may speak for this domain.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the list in use and its alarms."""
    result = run(ask(opened(site), Owner.MAIL, "trust_show", {"domain": domain}))
    if as_json:
        print_json(result)
        return
    for key in ("generated_at", "freshness", "signed", "domains", "skipped", "refused"):
        say(f"{key.replace('_', ' ')}: {result[key]}")
    if result["alarms"]:
        say("new names for known domains, which nobody has looked at:")
        columns = {"at": "since", "domain": "domain", "name": "name"}
        show_rows(result["alarms"], columns, as_json=False)
    if domain:
        rows = [{"name": name} for name in result["names"]]
        show_rows(rows, {"name": f"may speak for {result['domain']}"}, as_json=False)
    else:
        show_rows(result["operators"], {"domains": "domains", "name": "name"}, as_json=False)


@trust_list.command("check")
def check(site: SiteArgument, file: FileArgument = None, *, as_json: JsonOption = False) -> None:
    """Check the list in use, or say what would become of FILE; exit 1 on a problem."""
    place = opened(site)
    if file is not None:
        result = run(ask(place, Owner.MAIL, "trust_judge", {"path": str(file.resolve())}))
        if as_json:
            print_json(result)
        else:
            say(
                f"Acceptable: {result['domains']} domains; {result['lost']} are gone, "
                f"{result['new_names']} new names for known ones."
            )
        return
    from mailserver.health import check_trust  # noqa: PLC0415 - as in 'pli check'

    findings = run(check_trust(place, at=datetime.now(UTC)))
    rows = [{"check": f.check, "state": f.state.value, "text": f.text} for f in findings]
    show_rows(rows, {"state": "state", "check": "check", "text": "finding"}, as_json=as_json)
    if any(finding.is_problem for finding in findings):
        raise typer.Exit(1)


@trust_list.command("acknowledge")
def acknowledge(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """Say that you have looked at the new names; the alarm ends."""
    result = run(ask(opened(site), Owner.MAIL, "trust_acknowledge", {}))
    if as_json:
        print_json(result)
    else:
        say(f"acknowledged: {result['acknowledged']}")
