"""Mail in bulk between a demo site and other operators, each message with a name to count it by."""

import imaplib
import smtplib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.dsn import Dsn, read_dsn
from tests.support.site import DemoSite, pli

_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of messages that should each arrive once."""

    sent: int
    missing: tuple[str, ...]
    repeated: tuple[str, ...]
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether none was lost and none came twice."""
        return self.sent > 0 and not self.missing and not self.repeated

    def __str__(self) -> str:
        rate = f", {self.sent / self.seconds:.0f}/s" if self.seconds else ""
        return (
            f"{self.sent} sent, {len(self.missing)} lost, {len(self.repeated)} twice"
            f" ({self.seconds:.0f} s{rate})"
        )


def tally(names: Sequence[str], found: Counter[str], seconds: float = 0.0) -> Tally:
    """Compare what was sent with what is there."""
    return Tally(
        len(names),
        tuple(name for name in names if found[name] == 0),
        tuple(name for name in names if found[name] > 1),
        seconds,
    )


def letter(name: str, sender: str, recipient: str, octets: int = 5000) -> bytes:
    """A plain message of about so many octets."""
    line = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod.\r\n"
    head = (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: essai\r\nMessage-ID: {name}\r\n"
        "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\n\r\n"
    ).encode()
    return head + line * max(1, (octets - len(head)) // len(line))


@dataclass(frozen=True, slots=True)
class Letter:
    """One message to send."""

    name: str
    sender: str
    recipient: str
    octets: int = 5000


@dataclass(slots=True)
class Senders:
    """Threads that send letters, each until the server says 250.

    Attributes:
        connect: opens a session, logged in where it must be.
        refused: names the server refused for good.
    """

    connect: Callable[[], smtplib.SMTP]
    threads: int = 8
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    pause_s: float = 0.0

    def send(self, letters: Iterator[Letter]) -> float:
        """Send all of them; give the seconds it took."""
        started = time.monotonic()
        lock = threading.Lock()
        workers = [
            threading.Thread(target=self._run, args=(letters, lock), daemon=True)
            for _ in range(self.threads)
        ]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        return time.monotonic() - started

    def _run(self, letters: Iterator[Letter], lock: threading.Lock) -> None:
        client: smtplib.SMTP | None = None
        while not self.stopping.is_set():
            with lock:
                one = next(letters, None)
            if one is None:
                break
            raw = letter(one.name, one.sender, one.recipient, one.octets)
            while True:
                try:
                    client = client or self.connect()
                    client.sendmail(one.sender, [one.recipient], raw)
                except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
                    if _code(error) >= 500:
                        self.refused.append(one.name)
                        break
                    time.sleep(_RETRY_S)
                except (OSError, smtplib.SMTPException):
                    if client is not None:
                        client.close()
                    client = None
                    time.sleep(_RETRY_S)
                else:
                    self.accepted.append(one.name)
                    break
            self.stopping.wait(self.pause_s)
        if client is not None:
            client.close()


def _code(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) -> int:
    if isinstance(error, smtplib.SMTPDataError):
        return error.smtp_code
    return max(code for code, _ in error.recipients.values())


def account(site: DemoSite, number: int = 0) -> Callable[[], smtplib.SMTP]:
    """Give how a professional's client connects, over TLS with an application password."""
    person = site.demo["practitioners"][number]
    tls = site.tls()

    def connect() -> smtplib.SMTP:
        client = smtplib.SMTP_SSL("localhost", site.port("submissions"), timeout=60, context=tls)
        try:
            client.login(person["address"], person["password"])
        except (OSError, smtplib.SMTPException):
            client.close()
            raise
        return client

    return connect


def operator(site: DemoSite, number: int) -> Callable[[], smtplib.SMTP]:
    """Give how an operator connects to port 25, with its certificate."""
    tls: ssl.SSLContext = site.operator_tls(number)

    def connect() -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", site.port("smtp"), timeout=60)
        try:
            client.starttls(context=tls)
        except (OSError, smtplib.SMTPException):
            client.close()
            raise
        return client

    return connect


def in_clear(port: int) -> Callable[[], smtplib.SMTP]:
    """Give how messages are put into a Postfix on loopback."""
    return lambda: smtplib.SMTP("127.0.0.1", port, timeout=60)


def inbox(site: DemoSite, number: int = 0) -> Counter[str]:
    """Count each Message-ID in a professional's INBOX, read over IMAP."""
    rows = _fetch(site, number, "ALL", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    return Counter(row.split(b":", 1)[1].strip().decode("ascii") for row in rows if b":" in row)


def notices(site: DemoSite, number: int = 0) -> list[Dsn]:
    """Read every notification in a professional's INBOX, strictly."""
    rows = _fetch(site, number, 'HEADER Content-Type "delivery-status"', "(BODY.PEEK[])")
    return [read_dsn(row) for row in rows]


def _fetch(site: DemoSite, number: int, wanted: str, items: str) -> list[bytes]:
    person = site.demo["practitioners"][number]
    found: list[bytes] = []
    with imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=site.tls()) as client:
        client.login(person["address"], person["password"])
        client.select("INBOX", readonly=True)
        _status, data = client.uid("SEARCH", wanted)
        uids = (data[0] or b"").decode().split()
        for start in range(0, len(uids), 500):
            _status, rows = client.uid("FETCH", ",".join(uids[start : start + 500]), items)
            found += [row[1] for row in rows if isinstance(row, tuple)]
    return found


def queue(site: DemoSite) -> list[dict[str, Any]]:
    """What ``pli queue list --json`` shows. Any: JSON."""
    rows: list[dict[str, Any]] = pli("queue", "list", str(site.root), "--json")
    return rows


def until(done: Callable[[], bool], seconds: float, step_s: float = 1.0) -> bool:
    """Wait until something holds; say whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(step_s)
    return done()
