"""``pli audit verify``: what was received is held against what the record has, one by one.

The mail side is given by the caller as an iterable, so that this package never imports the mail
server; it is read after the record, so that what arrives meanwhile is pending, never missing.
``received`` is recomputed by opening the raw mail again, or taken from the delivery receipt once
the mail was purged; never from the bridge's own tables (RULES §2).

An occurrence is in exactly one of: a record, quarantine (open, or closed without filing), the
duplicates. Each one that is in none or in two is named by receipt and place, never by what it
says or whom it is about. Messages are balanced apart.

A message that nobody judged is pending only while it can still be judged: it lies in the mailbox
and bears no outcome there. One that was purged, or told an outcome that the record knows nothing
of, is lost, and named.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select

from directory.database import Database
from record_bridge.model import Occurrence, Outcome
from record_bridge.schema import document, document_chunk, duplicate, inbox_item, quarantine

ListOccurrences = Callable[[bytes], Awaitable[tuple[Occurrence, ...] | None]]
"""``record_bridge.opening.list_occurrences`` in a sandbox; None when opening it failed."""

MAX_PROBLEMS = 1000
"""Named problems; the counts go on."""


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message as it lies in an application mailbox.

    Attributes:
        told: the mailbox bears an outcome of it (RULES §10).
    """

    structure_id: str
    receipt_id: str
    raw: bytes
    told: bool = False


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """What was kept of a message that was purged: how many documents it listed."""

    structure_id: str
    receipt_id: str
    occurrences: int


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that does not balance, without a word of its content."""

    kind: str
    structure_id: str
    receipt_id: str
    position: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """As printed."""
        return {
            "kind": self.kind,
            "structure": self.structure_id,
            "receipt": self.receipt_id,
            "position": self.position,
        }


@dataclass(slots=True)
class AuditReport:
    """The balance of a site.

    Attributes:
        gone: messages that left their mailbox before the bridge had opened them; what they
            listed is in no place, and named so from the receipts.
        by_hand: documents that a person filed from a message without package: counted in none of
            the others, for such a message is ``other``.
    """

    received: int = 0
    filed: int = 0
    quarantined: int = 0
    duplicates: int = 0
    pending: int = 0
    gone: int = 0
    by_hand: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    problem_count: int = 0
    problems: list[AuditProblem] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Every occurrence is in exactly one place, pending ones included."""
        placed = self.filed + self.quarantined + self.duplicates + self.pending
        return self.received == placed and not self.problem_count

    @property
    def exit_code(self) -> int:
        """0 balanced, 1 a problem, 3 only pending (RULES §2)."""
        if not self.balanced:
            return 1
        return 3 if self.pending or self.messages["pending"] else 0

    def to_json(self) -> dict[str, object]:
        """With the keys that ``pli audit verify --json`` prints."""
        return {
            "received": self.received,
            "filed": self.filed,
            "quarantined": self.quarantined,
            "duplicates": self.duplicates,
            "pending": self.pending,
            "other": self.messages["other"],
            "balanced": self.balanced,
            "problems": [problem.to_json() for problem in self.problems],
            "problem_count": self.problem_count,
            "messages": {
                name: self.messages[name]
                for name in ("received", "with_documents", "other", "unreadable", "pending")
            },
            "gone": self.gone,
            "by_hand": self.by_hand,
        }

    def note(self, problem: AuditProblem) -> None:
        """Count a problem, and name it unless there are too many."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


_Key = tuple[str, str]
_Found = tuple[Occurrence, ...] | int | None
"""What a message lists: values, or their number from a receipt, or None when unreadable."""


@dataclass(slots=True)
class _Message:
    """What the record knows of one message."""

    done: bool = False
    whole: bool = False
    places: dict[int, list[tuple[Outcome, str, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def is_unknown(self) -> bool:
        """Whether the record says nothing of it at all."""
        return not self.done and not self.places


async def verify(
    record: Database,
    mail: Callable[[], AsyncIterable[ReceivedMail | KeptReceipt]],
    list_occurrences: ListOccurrences,
    *,
    quick: bool = False,
) -> AuditReport:
    """Balance a site.

    Args:
        record: open for reading; read first.
        mail: called once the record was read; gives what was received, in any order.
        list_occurrences: opens one raw message again.
        quick: do not compare digests and identifiers nor read what is stored, only places.
    """
    known = await _known(record)
    report = AuditReport()
    seen: set[_Key] = set()
    doubtful: list[tuple[_Key, _Found]] = []
    async for each in mail():
        key = (each.structure_id, each.receipt_id)
        if key in seen:
            continue  # one message may have several entries; it was received once
        seen.add(key)
        report.messages["received"] += 1
        found = await _occurrences(each, list_occurrences)
        message = known.get(key, _Message())
        if message.is_unknown and (isinstance(each, KeptReceipt) or each.told):
            doubtful.append((key, found))
        else:
            _balance(report, key, found, message, quick=quick)
    for key, message in known.items():
        if key not in seen and message.places:
            for position in sorted(message.places):
                report.note(AuditProblem("not_received", *key, position))
    if doubtful:
        # Judged since the record was read, or never: only a second look tells.
        known = await _known(record)
        for key, found in doubtful:
            message = known.get(key, _Message())
            message.done = True
            _balance(report, key, found, message, quick=quick)
    report.gone = len(await record.all(_GONE))
    report.by_hand = len(await record.all(_BY_HAND))
    if not quick:
        await _check_contents(record, report)
    return report


_FILED = select(
    document.c.structure_id,
    document.c.receipt,
    document.c.position,
    document.c.unique_id,
    document.c.sha256,
).where(
    document.c.imported_at.is_(None),  # what another site received is its own to balance
    document.c.filed_by.is_(None),  # what a person filed by hand is no occurrence
    document.c.patient_id.is_not(None),  # what was taken out of a record waits in quarantine
)
_DUPLICATES = select(
    duplicate.c.structure_id, duplicate.c.receipt, duplicate.c.position, duplicate.c.unique_id
)
_QUARANTINED = select(
    quarantine.c.structure_id,
    quarantine.c.receipt,
    quarantine.c.position,
    quarantine.c.unique_id,
    quarantine.c.whole,
).where(quarantine.c.state.in_(("open", "closed")))
_ITEMS = select(inbox_item.c.structure_id, inbox_item.c.receipt).where(
    inbox_item.c.state == "done", inbox_item.c.receipt.is_not(None)
)


_BY_HAND = select(document.c.id).where(
    document.c.filed_by.is_not(None), document.c.imported_at.is_(None)
)
_GONE = select(inbox_item.c.id).where(inbox_item.c.outcome == "gone")


async def _known(record: Database) -> Mapping[_Key, _Message]:
    known: dict[_Key, _Message] = defaultdict(_Message)
    async with record.connect() as connection:
        await connection.exec_driver_sql("BEGIN")  # one snapshot of the four tables
        for row in (await connection.execute(_FILED)).all():
            known[row[0], row[1]].places[row[2]].append((Outcome.FILED, row[3], row[4]))
        for copy in (await connection.execute(_DUPLICATES)).all():
            known[copy[0], copy[1]].places[copy[2]].append((Outcome.DUPLICATE, copy[3], None))
        for kept in (await connection.execute(_QUARANTINED)).all():
            message = known[kept[0], kept[1]]
            message.places[kept[2]].append((Outcome.QUARANTINED, kept[3], None))
            message.whole = message.whole or bool(kept[4])
        for item in (await connection.execute(_ITEMS)).all():
            known[item[0], item[1]].done = True
    return known


async def _occurrences(
    each: ReceivedMail | KeptReceipt, list_occurrences: ListOccurrences
) -> _Found:
    if isinstance(each, KeptReceipt):
        return each.occurrences
    return await list_occurrences(each.raw)


_DIGESTS = select(
    document.c.id,
    document.c.sha256,
    document.c.structure_id,
    document.c.receipt,
    document.c.position,
).order_by(document.c.id)
_CONTENT = (
    select(document_chunk.c.data)
    .where(document_chunk.c.document_id == bindparam("id"))
    .order_by(document_chunk.c.position)
)


async def _check_contents(record: Database, report: AuditReport) -> None:
    """Name the documents whose stored bytes are not those that were filed."""
    async with record.connect() as connection:
        rows = (await connection.execute(_DIGESTS)).all()
    for document_id, sha256, structure_id, receipt, position in rows:
        digest = hashlib.sha256()
        for (data,) in await record.all(_CONTENT.params(id=document_id)):
            digest.update(data)
        if digest.digest() != sha256:
            report.note(AuditProblem("altered", structure_id, receipt, position))


def _balance(
    report: AuditReport,
    key: _Key,
    found: _Found,
    message: _Message,
    *,
    quick: bool,
) -> None:
    count = (
        1 if found is None or message.whole else found if isinstance(found, int) else len(found)
    )
    report.received += count
    _count_message(report, found, count, message)
    if message.is_unknown:
        report.pending += count
        return
    places = dict(message.places)
    for position in range(count):
        here = places.pop(position, [])
        if len(here) != 1:
            report.note(AuditProblem("in_none" if not here else "in_two", *key, position))
            continue
        outcome, unique_id, sha256 = here[0]
        if outcome is Outcome.FILED:
            report.filed += 1
        elif outcome is Outcome.DUPLICATE:
            report.duplicates += 1
        else:
            report.quarantined += 1
        if quick or message.whole or not isinstance(found, tuple):
            continue
        listed = found[position]
        if unique_id != listed.unique_id or sha256 not in (None, listed.sha256):
            report.note(AuditProblem("differs", *key, position))
    for position in sorted(places):
        report.note(AuditProblem("not_listed", *key, position))


def _count_message(
    report: AuditReport,
    found: _Found,
    count: int,
    message: _Message,
) -> None:
    if not message.done:
        report.messages["pending"] += 1
    elif found is None or message.whole:
        report.messages["unreadable"] += 1
    elif count:
        report.messages["with_documents"] += 1
    else:
        report.messages["other"] += 1
