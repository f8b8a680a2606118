"""``pli init``, ``pli serve``, ``pli status``, ``pli check`` and ``pli wait``."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from mailserver import logs
from mailserver.cli.output import (
    JsonOption,
    SiteArgument,
    fail,
    guarded,
    note,
    opened,
    print_json,
    run,
    say,
    show_rows,
)
from mailserver.cli.reach import ask
from mailserver.control import Owner, call, sole_owner
from mailserver.errors import CommandError, SiteError
from mailserver.settings import PORT_OFFSETS, Environment, Ports, Site

HIGHEST_BASE = 65535 - max(PORT_OFFSETS.values())
EXIT_TIMEOUT = 1
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_POLL_S = 0.05
_PASSING_COMMAND_S = 2.0
_ENDING_SERVER_S = 35.0
"""Its processes end within half a minute (``supervisor.STOP_TIMEOUT_S``)."""
_IDLE_LOOKS = 2
"""Nothing queued and nothing pending must be seen this often in a row: work moves between them."""


def register(app: typer.Typer) -> None:
    """Add this module's commands to the program."""
    for command in (init, serve, status, check, wait, migrate, dns):
        app.command()(command)


def init(
    site: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    *,
    demo: Annotated[
        bool, typer.Option("--demo", help="Fictitious structures and people.")
    ] = False,
    environment: Annotated[Environment, typer.Option()] = Environment.TEST,
    host: Annotated[str, typer.Option(help="DNS name or IP address of the server.")] = "localhost",
    base_port: Annotated[
        int,
        typer.Option(
            min=0, max=HIGHEST_BASE, help="Ports are base + 25, 587, 465, 143, 993, 443."
        ),
    ] = 10000,
    plaintext_on_loopback: Annotated[
        bool,
        typer.Option(
            "--plaintext-on-loopback", help="127.0.0.1 may log in without TLS (test tools)."
        ),
    ] = False,
) -> None:
    """Make a site: settings, databases, a practice PKI."""
    if environment is Environment.PRODUCTION and (demo or plaintext_on_loopback):
        fail("--demo and --plaintext-on-loopback are refused for production", code=2)
    # Imported here: a command line answers at once, whatever the server needs.
    from mailserver.demo import make_demo  # noqa: PLC0415
    from mailserver.installation import SiteOptions, create_site  # noqa: PLC0415

    if not _HOST.fullmatch(host) and not _is_address(host):
        fail("--host takes a DNS name or an IP address, such as mail.example.org", code=2)
    place = Site(site)
    options = SiteOptions(
        environment=environment,
        host=host,
        ports=Ports.from_base(base_port),
        demo=demo,
        plaintext_on_loopback=plaintext_on_loopback,
    )
    now = datetime.now(UTC)
    guarded(lambda: create_site(place, options, at=now))
    if demo:
        run(make_demo(place, at=now))
    say(f"Site made in {place.root}")
    if demo:
        say(f"Accounts, passwords and certificates of the demo: {place.demo_file}")
    say(f"Start it with: pli serve {place.root}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def serve(site: SiteArgument) -> None:
    """Run the server until SIGTERM; stdout says 'ready {ports}' once it listens."""
    from mailserver.practice import refuse_practice  # noqa: PLC0415
    from mailserver.supervisor import supervise  # noqa: PLC0415

    place = opened(site)
    with guarded(lambda: _sole_server(place)):
        guarded(lambda: refuse_practice(place, place.settings()))
        logs.configure()
        code = asyncio.run(supervise(place.root))
    if code:
        fail(f"the server ended with an error; 'pli check {place.root}' says what is wrong")
    raise typer.Exit(code)


def _sole_server(place: Site) -> ExitStack:
    """Refuse a second server with a sentence; give what holds the place of this one.

    What passes is waited for: a command, and the processes of a server that was killed, which
    finish what is in flight. The kernel tells the two apart: the server's own lock ends with it.
    """
    stack = ExitStack()
    served = f"{place.root} is served already: see 'pli status {place.root}'"
    began = time.monotonic()
    until = began + _PASSING_COMMAND_S
    stack.enter_context(_held_when_free(place.run / "serve.lock", until, served))
    until = began + _ENDING_SERVER_S
    for owner in Owner:
        with _held_when_free(place.run / f"{owner.value}.lock", until, served):
            pass
    return stack


@contextmanager
def _held_when_free(path: Path, until: float, served: str) -> Iterator[None]:
    """Hold a lock, once whoever has it ends, before an instant of the monotonic clock.

    Raises:
        SiteError: ``served``, when it is still held then.
    """
    with ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(sole_owner(path))
                break
            except SiteError as error:
                left_s = until - time.monotonic()
                if left_s < 0:
                    raise SiteError(served) from error
                if not told:
                    told = True
                    note(f"{path} is held: waiting for its process, {left_s:.0f} s at most")
                time.sleep(_POLL_S)
            except OSError as error:
                raise SiteError(
                    f"{path.parent} cannot be written: run pli as the site's own user"
                ) from error
        yield


def status(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """Say what the running server does."""
    place = opened(site)
    result = run(_status(place))
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        if isinstance(value, dict):
            held = ", ".join(
                f"{name.replace('_', ' ')} {count}"
                for name, count in value.items()
                if name != "running"
            )
            say(f"{key}: running; {held}")
        else:
            say(f"{key}: {value}")


async def _status(place: Site) -> dict[str, object]:
    result: dict[str, object] = {"site": str(place.root)}
    for owner in Owner:
        try:
            answer = await call(place.run / f"{owner.value}.sock", "status", {})
        except ConnectionError:
            result[owner.value] = "not running"
        else:
            result[owner.value] = answer
    return result


def check(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """Check permissions, ports, certificates, trust list and disk; exit 1 on a problem."""
    from mailserver.health import check_site  # noqa: PLC0415

    place = opened(site)
    findings = run(check_site(place, at=datetime.now(UTC)))
    rows = [{"check": f.check, "state": f.state.value, "text": f.text} for f in findings]
    show_rows(rows, {"state": "state", "check": "check", "text": "finding"}, as_json=as_json)
    if any(finding.is_problem for finding in findings):
        raise typer.Exit(1)


def wait(
    site: SiteArgument,
    *,
    idle: Annotated[
        bool, typer.Option("--idle", help="Until nothing is queued or pending.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds.")] = 60.0,
) -> None:
    """Wait for the server; exit 1 when the time is over."""
    place = opened(site)
    if not run(_wait(place, idle=idle, until=time.monotonic() + timeout)):
        fail(
            f"not {'idle' if idle else 'up'} after {timeout:g} s: see 'pli status {place.root}'"
            + (f" and 'pli queue list {place.root}'" if idle else ""),
            code=EXIT_TIMEOUT,
        )


async def _wait(place: Site, *, idle: bool, until: float) -> bool:
    looks = 0
    while True:
        try:
            done = await _is_up(place) and (not idle or await _is_idle(place))
        except (ConnectionError, CommandError):
            done = False
        looks = looks + 1 if done else 0
        if looks >= (_IDLE_LOOKS if idle else 1):
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_POLL_S)


async def _is_up(place: Site) -> bool:
    for owner in Owner:
        await call(place.run / f"{owner.value}.sock", "status", {})
    return True


async def _is_idle(place: Site) -> bool:
    # Mail, bridge, mail: what the bridge answers is mail again.
    for owner in (Owner.MAIL, Owner.BRIDGE, Owner.MAIL):
        if not (await ask(place, owner, "idle", {}))["idle"]:
            return False
    return True


def migrate(site: SiteArgument) -> None:
    """Bring the databases of a stopped site to this version's schema; back them up first."""
    from mailserver.installation import migrate_site  # noqa: PLC0415 - as in init

    place = opened(site)
    guarded(lambda: migrate_site(place))
    say(f"The databases of {place.root} have this version's schema.")


def dns(site: SiteArgument, *, as_json: JsonOption = False) -> None:
    """Print the DNS records to publish for the domains of this site."""
    from mailserver.installation import mail_service  # noqa: PLC0415
    from mailserver.webmail.autoconfig import dns_records  # noqa: PLC0415

    place = opened(site)
    rows = run(ask(place, Owner.MAIL, "structure_list", {}))
    domains = sorted({row["domain"] for row in rows} | {row["patient_domain"] for row in rows})
    records = dns_records(mail_service(place.settings()), domains)
    if as_json:
        print_json(records)
        return
    for record in records:
        say(record)
    say("; CAA: name the authority that issues your server's certificate, at its own domain.")
