"""Threats S3, S7, S18 and S20 on a running server, and the list of tests for each of S1 to S20."""

import ast
import ssl
import tomllib
from pathlib import Path

import pytest

from certs.mime import find_named, scan
from mailserver.delivery.prepare import Prepared, prepare
from mailserver.message.index import PACKAGE_NAME
from record_bridge.opening import count_occurrences
from tests.support.mail_site import (
    DR,
    OURS,
    A,
    Line,
    MailSite,
    message,
    operator_line,
)

ROOT = Path(__file__).parents[2]
INDEX = tomllib.loads((Path(__file__).parent / "smtp_threats.toml").read_text("utf-8"))
SENDER = f"service@{A}"


def test_every_threat_of_smtp_has_tests() -> None:
    assert list(INDEX) == [f"S{number}" for number in range(1, 21)]
    assert all(threat["tests"] for threat in INDEX.values())


@pytest.mark.parametrize("named", sorted({t for x in INDEX.values() for t in x["tests"]}))
def test_each_named_test_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert function in names or (not function and any(n.startswith("test_") for n in names))


@pytest.mark.parametrize(
    "command", ["BDAT 10", "BDAT 4294967297", "BDAT 5 LAST", "BDAT 0 LAST", "BDAT"]
)
async def test_s3_chunks_are_never_taken(site: MailSite, command: str) -> None:
    line = await operator_line(site, site.world.a)
    offered = await line.say("EHLO x.test")
    await line.say(f"MAIL FROM:<{SENDER}>")
    await line.say(f"RCPT TO:<{DR}>")

    assert "CHUNKING" not in offered
    assert (await line.say(command)).startswith("502")
    # The transaction stands, and nothing was taken for content.
    assert (await line.say("DATA")).startswith("354")
    line.write(message(SENDER, DR) + b".\r\n")
    assert (await line.reply()).startswith("250")
    assert len(await site.inbox(DR)) == 1


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "CONNECT", "OPTIONS"])
async def test_s7_a_browser_gets_no_word_back(site: MailSite, verb: str) -> None:
    """Also under TLS, whatever protocol it says that it speaks there (ALPACA)."""
    tls = site.world.client_tls(None)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    line = await Line.open(site.submissions, tls)
    negotiated = line.writer.get_extra_info("ssl_object").selected_alpn_protocol()
    line.write(f"{verb} /<script>x</script> HTTP/1.1\r\nHost: {OURS}\r\n\r\nEHLO x\r\n".encode())

    try:
        said = await line.reader.read()
    except (OSError, ssl.SSLError):
        said = b""
    assert negotiated is None
    assert said == b""


@pytest.mark.parametrize(
    ("recipient", "reply"), [(f"nobody@{OURS}", "550 5.1.1"), ("x@evil.test", "550 5.7.1")]
)
async def test_s18_what_is_refused_is_refused_in_the_session_and_queues_nothing(
    site: MailSite, recipient: str, reply: str
) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<victim@{A}>")

    assert (await line.say(f"RCPT TO:<{recipient}> NOTIFY=FAILURE")).startswith(reply)
    assert await site.store.queue.items() == []


async def test_s18_the_null_sender_gets_no_notification(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    await line.say("MAIL FROM:<>")
    await line.say(f"RCPT TO:<{DR}> NOTIFY=SUCCESS,FAILURE,DELAY")
    await line.say("DATA")
    line.write(message(SENDER, DR) + b".\r\n")

    assert (await line.reply()).startswith("250")
    assert await site.store.queue.items() == []


_PART = b"--b\r\nContent-Type: application/zip; name=IHE_XDM.zip\r\n\r\nUEs=\r\n"
_HEAD = b"From: <a@b.test>\r\nMIME-Version: 1.0\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        _HEAD
        + b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + _PART
        + b"--b--\r\n",
        _HEAD + b'Content-Type: multipart/mixed; boundary="b"; boundary=c\r\n\r\n' + _PART,
        _HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + _PART,
        _HEAD
        + b"Content-Type: application/zip; name=IHE_XDM.zip\r\n"
        + b"Content-Transfer-Encoding: base64, quoted-printable\r\n\r\nUEs=\r\n",
        _HEAD
        + b"Content-Type: application/zip; name=IHE_XDM.zip\r\n"
        + b"Content-Transfer-Encoding: base64\r\n\r\nUE!!s=\r\nUEs=\r\n",
    ],
    ids=["two types", "two boundaries", "no end", "two encodings", "junk in base64"],
)
def test_s20_gate_and_store_split_an_ambiguous_message_alike(raw: bytes) -> None:
    """What the bridge would open, the gate has seen; never the other way round."""
    ready = prepare(raw, "mail.pli.test")

    assert isinstance(ready, Prepared)
    assert len(find_named(scan(raw), PACKAGE_NAME)) <= ready.packages
    assert bool(count_occurrences(raw)) <= bool(ready.packages)
    assert ready.index.has_package == bool(ready.packages)
