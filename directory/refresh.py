"""Take newer trust lists into use; what is bad never replaces what is good.

The list in use is swapped as one reference. It comes from the site's file (looked at every half
minute), from the address where it is published (``directory.fetch``) or from a person; each is
judged alike, and used by ``directory.adoption`` once it is kept. A refused file is told once per
version of the file and the last good list stays, until its age makes it stale and then expired
(fail closed).
Source: MSS-OP §3.2.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from certs.names import ComparedName
from directory.errors import TrustListError, TrustListReason
from directory.trust_list import NOTHING_TRUSTED, Departed, TrustList, parse
from directory.trust_signature import MAX_LIST_BYTES

REFRESH_INTERVAL_S = 30.0
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

log = structlog.get_logger("directory")


@dataclass(frozen=True, slots=True)
class Adopted:
    """A list that came into use.

    Attributes:
        new_names: domains known lately, each with a name that may now speak for it.
        lost: how many domains are no longer listed.
    """

    trust: TrustList
    content: bytes
    new_names: tuple[tuple[str, ComparedName], ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A list that was not taken."""

    reason: TrustListReason


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The file is the one that was read last, or holds the list in use."""


Refresh = Adopted | Refused | Unchanged


class TrustSource:
    """The file, its signers, and the last good list.

    Args:
        path: the list.
        signer_path: PEM of the only accepted signer, or of two while one takes over from the
            other; None for an unsigned list.
    """

    def __init__(self, path: Path, signer_path: Path | None) -> None:
        self._path = path
        self._signer_path = signer_path
        self._seen: tuple[int, int, int] | None = None
        self._digest = b""
        self.current: TrustList = NOTHING_TRUSTED
        self.last_refusal: TrustListReason | None = None

    def restore(self, content: bytes, departed: Mapping[str, Departed], at: datetime) -> None:
        """Use a list kept from before, if it still reads and its signature still holds."""
        try:
            self.current = replace(self._read(content, at), departed=departed)
            self._digest = hashlib.sha256(content).digest()
        except TrustListError as error:
            self.last_refusal = error.reason

    def look(self, at: datetime) -> Refresh:
        """Read the file if it changed, and judge it. Blocking.

        What may be used counts as read once it is in use: until then each look finds it anew.
        """
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._seen:
                return Unchanged()
            if status.st_size > MAX_LIST_BYTES:
                return self._refused(TrustListReason.TOO_LARGE)
            content = self._path.read_bytes()
        except FileNotFoundError:
            if self.last_refusal is TrustListReason.ABSENT:
                return Unchanged()
            return self._refused(TrustListReason.ABSENT)
        except OSError:
            return self._refused(TrustListReason.UNREADABLE)
        known = hashlib.sha256(content).digest() == self._digest
        outcome: Refresh = Unchanged() if known else self.judge(content, at)
        self.last_refusal = outcome.reason if isinstance(outcome, Refused) else None
        if not isinstance(outcome, Adopted):
            self._seen = version
        return outcome

    def judge(self, content: bytes, at: datetime) -> Adopted | Refused:
        """Say whether a list may replace the one in use. Blocking."""
        try:
            newer = self._read(content, at)
            self.current.check_age(newer, at)
            self.current.check_loss(newer)
        except TrustListError as error:
            return Refused(error.reason)
        return self._succession(self.current.followed_by(newer, at), content)

    def loss(self, content: bytes, at: datetime) -> int:
        """Count the domains known lately that a readable list leaves out. Blocking."""
        return self.current.lost(self._read(content, at))

    def judge_despite_loss(self, content: bytes, at: datetime) -> Adopted | Refused:
        """Judge a list whose loss of domains persons vouch for; all else is held against it."""
        try:
            newer = self._read(content, at)
            self.current.check_age(newer, at)
        except TrustListError as error:
            return Refused(error.reason)
        return self._succession(self.current.followed_by(newer, at).vouched_for(), content)

    def use(self, outcome: Adopted) -> None:
        """Take a judged list into use."""
        self.current = outcome.trust
        self._digest = hashlib.sha256(outcome.content).digest()

    def _succession(self, newer: TrustList, content: bytes) -> Adopted:
        known = self.current
        lost = len(known.entries.keys() - newer.entries.keys())
        return Adopted(newer, content, known.new_names(newer), lost)

    def _refused(self, reason: TrustListReason) -> Refused:
        self.last_refusal = reason
        return Refused(reason)

    def _read(self, content: bytes, at: datetime) -> TrustList:
        if self._signer_path is None:
            return parse(content, signer=None, at=at)
        refusal = TrustListError(TrustListReason.SIGNATURE)
        for signer in self._signers(self._signer_path):
            try:
                return parse(content, signer=signer, at=at)
            except TrustListError as error:
                refusal = error
        # A configured signer that cannot be read is never "no signer".
        raise refusal

    def _signers(self, path: Path) -> list[bytes]:
        try:
            return [
                ssl.PEM_cert_to_DER_cert(each) for each in _PEM.findall(path.read_text("ascii"))
            ]
        except (OSError, ValueError) as error:
            raise TrustListError(TrustListReason.SIGNATURE) from error


def tell(outcome: Refresh) -> None:
    """Log what became of a list; new names are an alarm, until ``pli trust-list acknowledge``."""
    match outcome:
        case Adopted(trust, _, new_names, lost):
            log.info("trust_list_adopted", count=len(trust.entries))
            if lost:
                log.warning("trust_list_domains_gone", count=lost)
            if new_names:
                log.error("trust_list_new_names", count=len(new_names))
        case Refused(reason):
            log.warning("trust_list_refused", code=reason.value)
        case Unchanged():
            pass
