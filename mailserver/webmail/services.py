"""What the pages are given to work with, built once by the composition root."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from certs.sandbox import SandboxPool
from directory.lookup import Directory
from mailserver.delivery.submission import Submissions
from mailserver.fairness import Fairness, unlimited
from mailserver.store.database import MailStore
from record_bridge.queries import RecordQueries

SANDBOXED = ("mailserver.webmail.narrative:read_document", "certs.smime:content")
"""Functions that the pool's allow-list must hold for the webmail."""

RecordCommand = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Runs a command of the bridge, the only writer of the record (DESIGN D2)."""


@dataclass(frozen=True, slots=True)
class MailService:
    """Where mail clients and browsers find this site."""

    host: str
    imap: int
    imaps: int
    submission: int
    submissions: int
    https: int


@dataclass(frozen=True, slots=True)
class WebmailSettings:
    """What the site says of its webmail.

    Attributes:
        host: the name in Message-IDs.
        authserv_id: the one name whose Authentication-Results is believed.
        session_minutes: how long a session lives without a page being opened.
        prevention_off: structures that do not show the prevention calendar (RULES §8).
        mail: what autoconfiguration tells.
        sign: signs a configuration profile (CMS, opaque, DER).
        notifies: people are told outside that something is new (RULES §14).
        alsace_moselle: structures with the public holidays of Alsace and Moselle.
        trail_key: the Ed25519 public key of the trail, 32 octets.
    """

    host: str
    authserv_id: str
    mail: MailService
    sign: Callable[[bytes], bytes]
    trail_key: bytes = b""
    session_minutes: int = 20
    prevention_off: frozenset[str] = frozenset()
    notifies: bool = False
    alsace_moselle: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WebmailServices:
    """Everything the pages use.

    Attributes:
        record: runs a bridge command by name.
        sandbox: where strangers' XML and CMS are opened; None opens them in a thread (tests).
        fairness: what a mailbox may send, by whatever door.
    """

    store: MailStore
    directory: Directory
    queries: RecordQueries
    submissions: Submissions
    record: RecordCommand
    clock: Callable[[], datetime]
    settings: WebmailSettings
    sandbox: SandboxPool | None = None
    fairness: Fairness = field(default_factory=unlimited)
