"""``pli queue`` and ``pli message``: mail on its way to other operators, and where it stands."""

from typing import Annotated, Any

import typer

from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    a_key,
    opened,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner

queue = typer.Typer(help="Outgoing mail.", no_args_is_help=True)
message = typer.Typer(help="Messages that were sent.", no_args_is_help=True)

LinesArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID...", callback=a_key, help="Lines of 'pli queue list'."),
]
DomainsOption = Annotated[
    list[str] | None, typer.Option("--domain", help="Every line to this domain; repeatable.")
]


_SAID = {
    "id": "id",
    "domain": "to domain",
    "state": "state",
    "attempts": "tries",
    "next_at": "next try",
    "last_reply": "last answer",
    "meaning": "which means",
    "queued_at": "queued at",
    "octets": "octets",
    "crashes": "crashes over it",
    "sender_told_at": "sender told that it waits",
    "receipt": "receipt, for 'pli message track'",
}


@queue.command("list")
def list_queue(
    site: SiteArgument,
    *,
    domains: Annotated[
        bool, typer.Option("--domains", help="The domains that are left alone for now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the mail that has not left yet."""
    if domains:
        rows = run(ask(opened(site), Owner.MAIL, "queue_domains", {}))
        columns = {
            "domain": "domain",
            "failures": "failures",
            "next_at": "next try",
            "last_reply": "last answer",
        }
    else:
        rows = run(ask(opened(site), Owner.MAIL, "queue_list", {}))
        columns = {
            "id": "id",
            "domain": "to domain",
            "state": "state",
            "attempts": "tries",
            "next_at": "next try",
            "last_reply": "last answer",
        }
    show_rows(rows, columns, as_json=as_json)


@queue.command("show")
def show_line(
    site: SiteArgument,
    line: Annotated[
        int, typer.Argument(metavar="ID", callback=a_key, help="A line of 'pli queue list'.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of one line, but for addresses."""
    found = run(ask(opened(site), Owner.MAIL, "queue_show", {"id": line}))
    if as_json:
        print_json(found)
        return
    rows = [{"what": _SAID[key], "value": value} for key, value in found.items()]
    show_rows(rows, {"what": "what", "value": "value"}, as_json=False)


@queue.command("retry")
def retry(
    site: SiteArgument,
    lines: LinesArgument = None,
    domains: DomainsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Try now what waits."""
    _act(site, "queue_retry", {"ids": lines or [], "domains": domains or []}, as_json=as_json)


@queue.command("hold")
def hold(
    site: SiteArgument,
    lines: LinesArgument = None,
    domains: DomainsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Keep what waits from being sent until it is released."""
    _act(site, "queue_hold", {"ids": lines or [], "domains": domains or []}, as_json=as_json)


@queue.command("release")
def release(
    site: SiteArgument,
    lines: LinesArgument = None,
    domains: DomainsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let go what is held, by a person or because it ended its worker three times."""
    _act(site, "queue_release", {"ids": lines or [], "domains": domains or []}, as_json=as_json)


@queue.command("delete")
def delete(
    site: SiteArgument,
    lines: LinesArgument = None,
    domains: DomainsOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take out of the queue for good; the sender sees it in 'pli message track', in no mail."""
    _act(site, "queue_delete", {"ids": lines or [], "domains": domains or []}, as_json=as_json)


def _act(site: Any, command: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    """Any: typer's path and JSON."""
    result = run(ask(opened(site), Owner.MAIL, command, chosen))
    if as_json:
        print_json(result)
        return
    say(f"changed: {result['changed']}")
    for line in result["unchanged"]:
        state = _LEFT_ALONE[line["state"]]
        say(f"not changed: {line['id']} {state}")
    if not result["changed"] and not result["unchanged"]:
        say("Nothing to this domain is in a state to be changed; see 'pli queue list DIR'.")


_LEFT_ALONE = {
    None: "is not in the queue: sent, given up or deleted",
    "leased": "is being sent at this moment",
    "held": "is held; 'pli queue release' lets it go",
    "queued": "is not held",
}


@message.callback()
def _message() -> None:
    """Messages that were sent."""


@message.command("track")
def track(
    site: SiteArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Receipt id or Message-ID.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Say where a message that an account here sent stands, recipient by recipient."""
    rows = run(ask(opened(site), Owner.MAIL, "message_track", {"name": name}))
    columns = {
        "recipient": "recipient",
        "sent_by": "sent by",
        "state": "state",
        "transport": "carried",
        "verdict": "record",
        "code": "code",
        "meaning": "which means",
        "displayed": "seen",
        "changed_at": "since",
    }
    show_rows(rows, columns, as_json=as_json)
