"""``pli report send`` and ``pli hospital serve``: the hospital's side of the main job."""

import asyncio
import errno
import signal
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mailserver.cli.output import fail, print_json, say

if TYPE_CHECKING:
    from mailserver.hospital import ReceiverSettings, SendRequest

report = typer.Typer(help="Send reports as a hospital does.", no_args_is_help=True)
receiver = typer.Typer(help="The hospital's small receiver.", no_args_is_help=True)


class Exit(IntEnum):
    """What ``pli report send`` ends with."""

    ACCEPTED = 0
    FORBIDDEN = 1
    USAGE = 2
    NONE_ACCEPTED = 4
    TLS_FAILURE = 5


@report.callback()
def _report() -> None:
    """Send reports as a hospital does."""


@receiver.callback()
def _receiver() -> None:
    """The hospital's small receiver."""


@report.command("send")
def send(
    host: Annotated[str, typer.Option(help="The operator's server.")],
    ca: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="PEM: whom we believe.")],
    cert: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Our TLS certificate.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its private key.")],
    sender: Annotated[str, typer.Option("--from", help="The sending mailbox.")],
    recipients: Annotated[list[str], typer.Option("--to", help="Repeat for several.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(exists=True, dir_okay=False, metavar="FILE.xml...", help="CDA documents."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 25,
    smime_cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Seal; unsigned without.")
    ] = None,
    smime_key: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    raw: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Send this message as it is."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Messages, each with fresh ids.")] = 1,
    connections: Annotated[int, typer.Option(min=1, max=200)] = 1,
    *,
    as_is: Annotated[bool, typer.Option("--as-is", help="Send what the rules forbid.")] = False,
) -> None:
    """Build the MSSanté message, sign it, send it with mutual TLS; prints JSON.

    Exit 0 when at least one recipient was accepted, 4 none, 5 TLS failure.
    """
    if (raw is None) == (not files):
        fail("give either CDA files or --raw FILE.eml", code=Exit.USAGE)
    if (smime_cert is None) != (smime_key is None):
        fail("--smime-cert and --smime-key go together", code=Exit.USAGE)
    # Imported here: a command line answers at once, whatever the server needs.
    from mailserver.hospital import (  # noqa: PLC0415
        RefusedReportError,
        SendRequest,
        TlsFailureError,
        send_report,
    )
    from mailserver.outbound.errors import UnreachableError  # noqa: PLC0415
    from mailserver.report_message import WAIVED_AS_IS  # noqa: PLC0415

    request = SendRequest(
        host=host,
        port=port,
        ca=ca,
        cert=cert,
        key=key,
        sender=sender,
        recipients=tuple(recipients),
        files=tuple(files or ()),
        raw=raw,
        smime_cert=smime_cert,
        smime_key=smime_key,
        as_is=as_is,
        repeat=repeat,
        connections=connections,
    )
    try:
        result = asyncio.run(send_report(request))
    except RefusedReportError as refusal:
        _show_nothing_sent(request)
        hint = " (--as-is sends it anyway)" if refusal.reason in WAIVED_AS_IS else ""
        fail(f"{refusal}{hint}", code=Exit.FORBIDDEN)
    except TlsFailureError as failure:
        _show_nothing_sent(request)
        fail(str(failure), code=Exit.TLS_FAILURE)
    except UnreachableError:
        _show_nothing_sent(request)
        fail(f"no mail server answers at {host}:{port}", code=Exit.NONE_ACCEPTED)
    print_json(result.to_json())
    raise typer.Exit(Exit.ACCEPTED if result.any_accepted else Exit.NONE_ACCEPTED)


def _show_nothing_sent(request: "SendRequest") -> None:
    from mailserver.hospital import RecipientResult, SendResult  # noqa: PLC0415

    rows = tuple(
        RecipientResult(address, accepted=False, reply="") for address in request.recipients
    )
    print_json(SendResult(None, rows).to_json())


@receiver.command("serve")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")],
    ca: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="PEM: who may send.")],
    cert: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    directory: Annotated[Path, typer.Option("--dir", file_okay=False, help="Where mail goes.")],
) -> None:
    """Receive mail over mutual TLS, one file a message; stdout says 'ready {port}'."""
    from certs.errors import KeyStoreError  # noqa: PLC0415
    from mailserver.hospital import ReceiverSettings  # noqa: PLC0415

    try:
        asyncio.run(_serve(ReceiverSettings(port, ca, cert, key, directory.resolve())))
    except KeyStoreError:
        fail("--ca, --cert and --key cannot be used: PEM files, and the key must be the cert's")
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        fail(f"port {port} cannot be listened on: another program has it, or this user may not")


async def _serve(settings: "ReceiverSettings") -> None:
    from mailserver.hospital import serve_receiver  # noqa: PLC0415

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with serve_receiver(settings) as bound:
        say(f'ready {{"smtp": {bound}}}')
        await stopping.wait()
