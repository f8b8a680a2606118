"""Senders that repeat the same bytes until 250 while the server is killed under them.

The proof that a 250 means durable (DESIGN §1): a short run is a test, a hundred kills are
``scripts/prove_kills``.
"""

import email.policy
import imaplib
import json
import random
import smtplib
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.site import DemoSite, pli_result

_RETRY_S = 0.05
_PAUSE_S = 0.15
"""Between two messages of a sender: what is accepted must be filed before the books are read."""
_DRAIN_S = 1200
_TIMEOUT_S = 20


@dataclass(slots=True)
class Outcome:
    """What a run of kills left."""

    kills: int
    acknowledged: int
    missing: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    audit: dict[str, object] = field(default_factory=dict)
    audit_exit: int = -1

    @property
    def holds(self) -> bool:
        """Whether every acknowledged message is there exactly once and the books balance."""
        return (
            self.acknowledged > 0
            and not self.missing
            and not self.repeated
            and self.audit_exit == 0
        )


class _Sender(threading.Thread):
    """Sends one message after the other; each until the server says 250."""

    def __init__(
        self, site: DemoSite, recipients: tuple[str, ...], make: Callable[[str], bytes], name: str
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._site = site
        self._recipients = recipients
        self._make = make
        self._context: ssl.SSLContext = site.operator_tls()
        self.stopping = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Send until told to stop; the message in hand is finished first."""
        number = 0
        client: smtplib.SMTP | None = None
        while not self.stopping.is_set():
            number += 1
            message_id = f"<{self.name}.{number}@hopital-nord.mssante.test>"
            raw = self._make(message_id)
            while True:
                try:
                    if client is None:
                        client = self._connect()
                    client.sendmail(
                        self._site.demo["operators"][0]["sender"], self._recipients, raw
                    )
                except (OSError, smtplib.SMTPException):
                    if client is not None:
                        client.close()
                    client = None
                    time.sleep(_RETRY_S)
                else:
                    self.acknowledged.append(message_id)
                    break
            self.stopping.wait(_PAUSE_S)
        if client is not None:
            client.close()

    def _connect(self) -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", self._site.port("smtp"), timeout=_TIMEOUT_S)
        try:
            client.starttls(context=self._context)
        except (OSError, smtplib.SMTPException):
            client.close()
            raise
        return client


def kill_under_load(
    site: DemoSite,
    make: Callable[[str], bytes],
    *,
    kills: int,
    senders: int = 10,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda _kill, _acknowledged: None,
) -> Outcome:
    """Kill the server's process group ``kills`` times under load, then drain and count.

    Args:
        site: made, not started.
        make: gives the message bytes for a Message-ID, with a package of a fresh document.
        kills: how often.
        senders: threads that send.
        seed: of the moments of the kills.
        progress: told after each kill.
    """
    chance = random.Random(seed)
    recipients = (site.demo["practitioners"][0]["address"],)
    threads = [_Sender(site, recipients, make, f"s{number}") for number in range(senders)]
    site.start()
    for thread in threads:
        thread.start()
    for kill in range(kills):
        time.sleep(chance.uniform(0.05, 1.5))
        site.kill()
        site.start()
        progress(kill + 1, sum(len(thread.acknowledged) for thread in threads))
    for thread in threads:
        thread.stopping.set()
    for thread in threads:
        thread.join(timeout=120)
    site.wait_idle(timeout=_DRAIN_S)
    acknowledged = [name for thread in threads for name in thread.acknowledged]
    held = _message_ids(site)
    code, output, _errors = pli_result(
        "audit", "verify", str(site.root), "--json", timeout=_DRAIN_S
    )
    try:
        audit = json.loads(output)
    except json.JSONDecodeError:
        audit = {"said": output}
    site.stop()
    return Outcome(
        kills=kills,
        acknowledged=len(acknowledged),
        missing=[name for name in acknowledged if held[name] == 0],
        repeated=[name for name, count in held.items() if count > 1],
        audit=audit,
        audit_exit=code,
    )


def _message_ids(site: DemoSite) -> Counter[str]:
    """Count each Message-ID in the professional's INBOX, read over IMAP."""
    person = site.demo["practitioners"][0]
    found: Counter[str] = Counter()
    with imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=site.tls()) as client:
        client.login(person["address"], person["password"])
        _status, count = client.select("INBOX", readonly=True)
        if int(count[0] or b"0") == 0:
            return found
        _status, rows = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        for row in rows:
            if isinstance(row, tuple):
                message = email.message_from_bytes(row[1], policy=email.policy.default)
                found[str(message["Message-ID"])] += 1
    return found
