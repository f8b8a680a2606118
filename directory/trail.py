"""The append-only trail of one database: who did what, sealed into a signed Merkle tree.

A transaction inserts its events unsealed; the one sealer of the database orders and seals them
afterwards, so no writer waits for a chain. Invariants: a sealed event is never changed (triggers
refuse it), only its payload may be erased with its salt; sequence numbers have no hole; every
root that was signed is the root of a prefix of the same tree. Neither an actor's name nor a
clinical word belongs in an event: ``subject`` and ``facts`` hold opaque references and codes.

Leaf = SHA-256(0x00 || salt || canonical event). Source: RFC 9162 §2.1, RULES §13.
"""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from directory.audit_event import AuditEvent as AuditEvent  # noqa: PLC0414 - one name for callers
from directory.sqlite_statements import run_after_creating

SALT_BYTES = 16
MAX_FACTS_BYTES = 4096
ROOT_CONTEXT = b"pli trail root v1\x00"
"""Prefix of what is signed, so that a root's signature is good for nothing else."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEAL_BATCH = 64


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as read back."""

    event_id: int
    sequence: int | None
    """None while unsealed."""
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class TrailTables:
    """The trail's tables in its owner's metadata."""

    event: Table
    root: Table


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """A promise about the first ``size`` events of one trail."""

    size: int
    root: bytes
    at: datetime
    signature: bytes

    def signed_bytes(self) -> bytes:
        """Give what the signature is made over."""
        return root_message(self.size, self.root, self.at)

    def encode(self) -> str:
        """Give the line that is exported."""
        return json.dumps(
            {
                "size": self.size,
                "root": self.root.hex(),
                "at": _micros(self.at),
                "signature": self.signature.hex(),
            },
            separators=(",", ":"),
        )

    @classmethod
    def parse(cls, line: str) -> "SignedRoot":
        """Read an exported line.

        Raises:
            ValueError: not such a line.
        """
        try:
            data = json.loads(line)
            return cls(
                int(data["size"]),
                bytes.fromhex(data["root"]),
                _moment(int(data["at"])),
                bytes.fromhex(data["signature"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("not an exported root") from error


class TrailProblem(Enum):
    """What ``verify`` found first."""

    EVENT_CHANGED = "event_changed"
    """A sealed event's content no longer gives its leaf."""
    MISSING = "missing"
    """A sequence number is absent in the middle."""
    ROOT_MISMATCH = "root_mismatch"
    """Leaves up to a signed root do not give that root: rewritten, swapped or re-hashed."""
    ROOT_SIGNATURE = "root_signature"
    """A stored root is not signed by the key."""
    TAIL_CUT = "tail_cut"
    """A root promises more events than there are."""
    UNCOVERED = "uncovered"
    """Sealed events follow the last signed root."""


@dataclass(frozen=True, slots=True)
class TrailReport:
    """What a verification found."""

    sealed: int
    unsealed: int
    erased: int
    outside_roots: int
    """How many roots kept elsewhere were compared; 0 means it ran without."""
    problem: TrailProblem | None = None
    first_bad: int | None = None
    """Sequence number of the first bad record, or the lowest that can be."""
    root: bytes = b""

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return self.problem is None


# Against our own mistakes, not against someone who holds the file: that is what roots are for.
_NO_CHANGE = """CREATE TRIGGER trail_event_sealed BEFORE UPDATE ON trail_event
WHEN OLD.sequence IS NOT NULL AND NOT (
  NEW.sequence IS OLD.sequence AND NEW.leaf IS OLD.leaf AND NEW.salt IS NULL
  AND NEW.kind IS NULL AND NEW.facts IS NULL)
BEGIN SELECT RAISE(ABORT, 'a sealed event is never changed'); END"""
_NO_DELETE = """CREATE TRIGGER {table}_kept BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, 'the trail is never shortened'); END"""


def trail_tables(metadata: MetaData) -> TrailTables:
    """Declare the trail's tables in its owner's metadata; call once per schema module."""
    event = Table(
        "trail_event",
        metadata,
        Column("event_id", Integer, primary_key=True, autoincrement=True),
        Column("sequence", Integer, unique=True),
        Column("leaf", LargeBinary),
        Column("salt", LargeBinary),
        Column("kind", Text),
        Column("at", BigInteger),
        Column("actor", Text),
        Column("structure_id", Text),
        Column("subject", Text),
        Column("facts", Text),
        sqlite_autoincrement=True,
    )
    Index("trail_event_subject", event.c.subject, event.c.event_id)
    Index(
        "trail_event_unsealed",
        event.c.event_id,
        sqlite_where=event.c.sequence.is_(None),
        postgresql_where=event.c.sequence.is_(None),
    )
    root = Table(
        "trail_root",
        metadata,
        Column("size", Integer, primary_key=True, autoincrement=False),
        Column("root", LargeBinary, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("signature", LargeBinary, nullable=False),
        Column("peaks", LargeBinary, nullable=False),
    )
    run_after_creating(event, _NO_CHANGE, _NO_DELETE.format(table="trail_event"))
    run_after_creating(root, _NO_DELETE.format(table="trail_root"))
    return TrailTables(event, root)


_INSERT = (
    "INSERT INTO trail_event (salt, kind, at, actor, structure_id, subject, facts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UNSEALED = (
    "SELECT event_id, salt, kind, at, actor, structure_id, subject, facts FROM trail_event"
    " WHERE sequence IS NULL ORDER BY event_id LIMIT ?"
)
_SEALED = (
    "SELECT sequence, leaf, salt, kind, at, actor, structure_id, subject, facts FROM trail_event"
    " WHERE sequence IS NOT NULL ORDER BY sequence"
)


def append(
    connection: sqlite3.Connection, tables: TrailTables, events: Sequence[AuditEvent]
) -> None:
    """Insert events, unsealed, in the caller's open transaction (on the writer's thread).

    Raises:
        ValueError: an event's facts are longer than MAX_FACTS_BYTES, or a moment is naive.
    """
    del tables  # one trail per database: the names are the same in each
    connection.executemany(_INSERT, [_row(event) for event in events])


def _row(event: AuditEvent) -> tuple[bytes, str, int, str, str | None, str | None, str]:
    facts = json.dumps(dict(event.facts), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if len(facts) > MAX_FACTS_BYTES or event.at.tzinfo is None:
        raise ValueError("an audit event is too large or its moment is naive")
    return (
        secrets.token_bytes(SALT_BYTES),
        event.kind,
        _micros(event.at),
        event.actor,
        event.structure_id,
        event.subject,
        facts,
    )


@dataclass(frozen=True, slots=True)
class Sealing:
    """What one run of the sealer needs, as one value for ``Database.write``."""

    at: datetime
    sign: Callable[[bytes], bytes]
    """Signs ``root_message`` bytes with the trail's Ed25519 key, kept apart."""


def seal(connection: sqlite3.Connection, sealing: Sealing) -> SignedRoot | None:
    """Order and seal what is unsealed and sign the new root, in the writer's transaction.

    Takes at most 64 events at a time: call again until it returns None.

    Returns:
        The new root, or None when nothing was unsealed.
    """
    rows = connection.execute(_UNSEALED, (_SEAL_BATCH,)).fetchall()
    if not rows:
        return None
    last = connection.execute(
        "SELECT size, peaks FROM trail_root ORDER BY size DESC LIMIT 1"
    ).fetchone()
    range_ = CompactRange() if last is None else CompactRange.resume(last[0], last[1])
    updates: list[tuple[int, bytes, int]] = []
    for row in rows:
        leaf = leaf_of(row[1], canonical(*row[2:8]))
        updates.append((range_.size, leaf, row[0]))
        range_.append(leaf)
    connection.executemany(
        "UPDATE trail_event SET sequence = ?, leaf = ? WHERE event_id = ?", updates
    )
    root = range_.root()
    signature = sealing.sign(root_message(range_.size, root, sealing.at))
    connection.execute(
        "INSERT INTO trail_root (size, root, at, signature, peaks) VALUES (?, ?, ?, ?, ?)",
        (range_.size, root, _micros(sealing.at), signature, range_.peaks()),
    )
    return SignedRoot(range_.size, root, sealing.at, signature)


def events_of(connection: sqlite3.Connection, subject: str, limit: int = 500) -> list[StoredEvent]:
    """Give the events about one subject, newest first; erased ones are left out."""
    rows = connection.execute(
        "SELECT event_id, sequence, kind, at, actor, structure_id, subject, facts"
        " FROM trail_event WHERE subject = ? ORDER BY event_id DESC LIMIT ?",
        (subject, limit),
    ).fetchall()
    return [
        StoredEvent(
            row[0],
            row[1],
            AuditEvent(row[2], _moment(row[3]), row[4], row[5], row[6], json.loads(row[7])),
        )
        for row in rows
    ]


def erase(connection: sqlite3.Connection, subject: str) -> int:
    """Erase the payload and the salt of every sealed event about one subject; leaves stay.

    Returns:
        How many events were erased.
    """
    cursor = connection.execute(
        "UPDATE trail_event SET salt = NULL, kind = NULL, at = NULL, actor = NULL,"
        " structure_id = NULL, facts = NULL, subject = NULL"
        " WHERE subject = ? AND sequence IS NOT NULL",
        (subject,),
    )
    return cursor.rowcount


def verify(
    connection: sqlite3.Connection,
    public_key: Ed25519PublicKey,
    outside: Iterable[SignedRoot] = (),
) -> TrailReport:
    """Recompute the whole trail and compare it with its own roots and with those kept elsewhere.

    Args:
        connection: any connection that reads the database.
        public_key: the trail's key.
        outside: roots exported earlier; without them a cut tail or a whole rewrite by someone who
            also holds the key cannot be seen, and the report says that it ran without.
    """
    outside = tuple(outside)
    unsealed = connection.execute(
        "SELECT count(*) FROM trail_event WHERE sequence IS NULL"
    ).fetchone()[0]
    roots = [
        SignedRoot(row[0], row[1], _moment(row[2]), row[3])
        for row in connection.execute("SELECT size, root, at, signature FROM trail_root")
    ]
    promised: dict[int, set[bytes]] = {}
    for root in (*roots, *outside):
        if not _signed_by(public_key, root):
            return TrailReport(
                0, unsealed, 0, len(outside), TrailProblem.ROOT_SIGNATURE, root.size
            )
        promised.setdefault(root.size, set()).add(root.root)
    walk = _Walk(promised)
    problem = walk.run(connection.execute(_SEALED))
    size = walk.range.size
    if problem is None and promised and max(promised) > size:
        problem, walk.first_bad = TrailProblem.TAIL_CUT, size
    elif problem is None and size and max(promised, default=0) < size:
        problem, walk.first_bad = TrailProblem.UNCOVERED, max(promised, default=0)
    return TrailReport(
        sealed=size,
        unsealed=unsealed,
        erased=walk.erased,
        outside_roots=len(outside),
        problem=problem,
        first_bad=walk.first_bad,
        root=walk.range.root(),
    )


class _Walk:
    """One pass over the sealed events."""

    def __init__(self, promised: Mapping[int, set[bytes]]) -> None:
        self.range = CompactRange()
        self.erased = 0
        self.first_bad: int | None = None
        self._promised = promised
        self._agreed = 0

    def run(self, rows: Iterator[sqlite3.Row]) -> TrailProblem | None:
        for row in rows:
            sequence, leaf, salt = row[0], row[1], row[2]
            if sequence != self.range.size:
                self.first_bad = self.range.size
                return TrailProblem.MISSING
            if salt is None:
                self.erased += 1
            elif leaf_of(salt, canonical(*row[3:9])) != leaf:
                self.first_bad = sequence
                return TrailProblem.EVENT_CHANGED
            self.range.append(bytes(leaf))
            wanted = self._promised.get(self.range.size)
            if wanted is not None:
                if wanted != {self.range.root()}:
                    self.first_bad = self._agreed
                    return TrailProblem.ROOT_MISMATCH
                self._agreed = self.range.size
        return None


def canonical(
    kind: str | None,
    at: int | None,
    actor: str | None,
    structure_id: str | None,
    subject: str | None,
    facts: str | None,
) -> bytes:
    """Give the one byte form of an event: a JSON array on one line, in ASCII."""
    return json.dumps(
        [kind, at, actor, structure_id, subject, facts], separators=(",", ":"), ensure_ascii=True
    ).encode("ascii")


def leaf_of(salt: bytes, payload: bytes) -> bytes:
    """Hash one event. Source: RFC 9162 §2.1.1, with the salt of RULES §13."""
    return hashlib.sha256(b"\x00" + salt + payload).digest()


class CompactRange:
    """The peaks of a growing Merkle tree: enough to append and to give the root.

    Source: RFC 9162 §2.1.1.
    """

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    @classmethod
    def resume(cls, size: int, peaks: bytes) -> "CompactRange":
        """Go on from what ``peaks`` gave at this size."""
        range_ = cls()
        range_.size = size
        range_._peaks = [peaks[start : start + 32] for start in range(0, len(peaks), 32)]
        return range_

    def peaks(self) -> bytes:
        """Give the peaks, largest first, 32 octets each."""
        return b"".join(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        node, size = leaf, self.size
        while size & 1:
            node = hashlib.sha256(b"\x01" + self._peaks.pop() + node).digest()
            size >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Give the root of what was appended; SHA-256 of nothing for an empty tree."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = hashlib.sha256(b"\x01" + peak + node).digest()
        return node


def root_message(size: int, root: bytes, at: datetime) -> bytes:
    """Give the bytes that a root's signature is made over."""
    return ROOT_CONTEXT + size.to_bytes(8) + _micros(at).to_bytes(8) + root


def _signed_by(public_key: Ed25519PublicKey, root: SignedRoot) -> bool:
    try:
        public_key.verify(root.signature, root.signed_bytes())
    except InvalidSignature:
        return False
    return True


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
