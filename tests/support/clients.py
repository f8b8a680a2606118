"""What operators, professionals and patients do to a demo site, with the standard library only."""

import contextlib
import email
import imaplib
import re
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.support.site import DemoSite, pli, pli_result

TIMEOUT_S = 30.0
_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_UID = re.compile(rb"UID (\d+)")
Account = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A message as IMAP shows it."""

    uid: int
    flags: frozenset[str]
    raw: bytes

    @property
    def message(self) -> Message:
        """The message, parsed."""
        return email.message_from_bytes(self.raw)

    @property
    def prefix(self) -> bytes:
        """What the server wrote before it: up to its own Authentication-Results (DESIGN D5b)."""
        at = 0
        while (field := _FIELD.match(self.raw, at)) is not None:
            at = field.end()
            if field[1].lower() == b"authentication-results":
                return self.raw[:at]
        raise AssertionError("no Authentication-Results was written")

    @property
    def sent(self) -> bytes:
        """The message less the prefix."""
        return self.raw[len(self.prefix) :]

    @property
    def results(self) -> str:
        """The server's own Authentication-Results, unfolded."""
        return " ".join(str(self.message["Authentication-Results"]).split())


@contextlib.contextmanager
def operator_client(
    site: DemoSite, context: ssl.SSLContext | None = None
) -> Iterator[smtplib.SMTP]:
    """An SMTP session at port 25 under TLS, with the first operator's certificate unless told."""
    with smtplib.SMTP("localhost", site.port("smtp"), timeout=TIMEOUT_S) as client:
        client.starttls(context=context or site.operator_tls())
        yield client


def deliver(site: DemoSite, raw: bytes, *recipients: str, number: int = 0) -> None:
    """Hand these very octets over as an operator; every recipient must be accepted."""
    with operator_client(site, site.operator_tls(number)) as client:
        refused = client.sendmail(site.demo["operators"][number]["sender"], recipients, raw)
    assert refused == {}


def submit(
    site: DemoSite, account: Account, raw: bytes, *recipients: str, tls: bool = True
) -> None:
    """Submit as a mail client does: on port 465, or on 587 with STARTTLS."""
    client = (
        smtplib.SMTP_SSL(
            "localhost", site.port("submissions"), context=site.tls(), timeout=TIMEOUT_S
        )
        if tls
        else smtplib.SMTP("localhost", site.port("submission"), timeout=TIMEOUT_S)
    )
    with client:
        if not tls:
            client.starttls(context=site.tls())
        client.login(account["address"], account["password"])
        assert client.sendmail(account["address"], recipients, raw) == {}


@contextlib.contextmanager
def imap(site: DemoSite, account: Account) -> Iterator[imaplib.IMAP4]:
    """A signed-in IMAP session over TLS."""
    with imaplib.IMAP4_SSL(
        "localhost", site.port("imaps"), ssl_context=site.tls(), timeout=TIMEOUT_S
    ) as client:
        client.login(account["address"], account["password"])
        yield client


def read(site: DemoSite, account: Account, folder: str = "INBOX") -> dict[str, Held]:
    """Give a folder's messages by Message-ID."""
    with imap(site, account) as client:
        _status, count = client.select(folder, readonly=True)
        if not int(count[0] or b"0"):
            return {}
        _status, rows = client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")
    return {str(each.message["Message-ID"]): each for each in _held(rows)}


def _held(rows: Sequence[Any]) -> Iterator[Held]:
    # Any: imaplib gives pairs and single octet strings as they come.
    for number, row in enumerate(rows):
        if isinstance(row, tuple):
            rest = rows[number + 1] if number + 1 < len(rows) else b""
            said = row[0] + (rest if isinstance(rest, bytes) else b"")
            uid, flags = _UID.search(said), _FLAGS.search(said)
            assert uid is not None
            assert flags is not None
            yield Held(int(uid[1]), frozenset(flags[1].decode().split()), row[1])


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Ask again until the answer is true; give it.

    Any: whatever the condition gives.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def quarantine(site: DemoSite) -> list[dict[str, Any]]:
    """List the quarantine."""
    rows: list[dict[str, Any]] = pli("quarantine", "list", str(site.root), "--json")
    return rows


def record(site: DemoSite, patient: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """List a patient's record by document id."""
    who = ("--ins", patient["ins"], "--oid", patient["oid"], "--structure", patient["structure"])
    rows = pli("record", "list", str(site.root), *who, "--json")
    return {row["unique_id"]: row for row in rows}


def audit(site: DemoSite) -> dict[str, Any]:
    """Verify the books; they must balance, with nothing pending."""
    code, output, errors = pli_result("audit", "verify", str(site.root), "--json")
    assert code == 0, output + errors
    return dict(pli_json(output))


def pli_json(output: str) -> Any:
    """Parse what a command printed; Any: its JSON."""
    import json

    return json.loads(output)
