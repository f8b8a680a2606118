"""The filing transaction: up to 32 opened messages, each under a savepoint of its own.

For one message everything happens or nothing does: documents, agenda entries, older versions,
quarantine rows, trail, the item's state, and the answer to be sent. What the decision needs is
read inside the transaction. A message that breaks the rules' code is rolled back alone and tried
again; the database's own failure rolls the whole batch back (DESIGN §3 row 13, D1).

A package is filed whole or not at all: its documents are put in one after the other under a
second savepoint, so that a document may replace another of the same package, and the first
problem takes them all out again (RULES §2).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from directory.model import Structure
from directory.trail import AuditEvent, append
from record_bridge import quarantine, release_storing, replying
from record_bridge.documents import Decided, Package, Put, put_package
from record_bridge.identity import one_patient
from record_bridge.model import (
    Environment,
    ErrorCode,
    Opened,
    Origin,
    Outcome,
    Problem,
    Reason,
)
from record_bridge.progress import MAX_ATTEMPTS
from record_bridge.repository import Archived, archive, micros
from record_bridge.schema import TRAIL

ACTOR = "bridge"
FILED, QUARANTINED, DUPLICATE = "$Filed", "$Quarantined", "$Duplicate"
NO_DOCUMENT, HELD = "$NoDocument", "$Held"
OUTCOME_KEYWORDS = frozenset({FILED, QUARANTINED, DUPLICATE, NO_DOCUMENT, HELD})
"""What the bridge sets on an entry (RULES §10)."""
_WORD = {
    Outcome.FILED: FILED,
    Outcome.QUARANTINED: QUARANTINED,
    Outcome.DUPLICATE: DUPLICATE,
}


class ItemOutcome(Enum):
    """What became of one message."""

    FILED = "filed"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    MIXED = "mixed"
    OTHER = "other"
    REPEATED = "repeated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FilingItem:
    """One message to file.

    Attributes:
        opened: None when opening it failed for good: it is quarantined as a whole.
        origin: who answers for the message.
        recipient_ids: RPPS of the professionals whose mailboxes it was delivered to.
        again: a waiting message judged again after a patient was registered or corrected; it
            is answered no more, and its documents say so.
        decided: the patient whom a person names for it, ``again``.
    """

    item_id: int
    uid: int
    attempts: int
    receipt: str
    raw: bytes
    opened: Opened | None
    origin: Origin
    received_at: datetime
    recipient_ids: frozenset[str] = frozenset()
    again: bool = False
    decided: Decided | None = None


@dataclass(frozen=True, slots=True)
class FilingBatch:
    """The messages of one transaction, all of one structure."""

    structure: Structure
    environment: Environment
    items: tuple[FilingItem, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one message, as the mailbox and the log are told.

    Attributes:
        filed: unique ids of what is in a record now because of it.
        answers: how many answers were put into the outbox.
        alarms: what a person must look at at once (RULES §6, RULES §9).
        error_type: class of the error that our own code failed with.
    """

    item_id: int
    uid: int
    outcome: ItemOutcome
    code: ErrorCode | None = None
    keywords: frozenset[str] = frozenset()
    filed: tuple[str, ...] = ()
    answers: int = 0
    alarms: tuple[str, ...] = ()
    error_type: str = ""


def file_batch(connection: sqlite3.Connection, batch: FilingBatch) -> list[ItemResult]:
    """File a batch; for ``Database.write``.

    Raises:
        sqlite3.OperationalError: the database itself failed; nothing of the batch is kept.
    """
    results: list[ItemResult] = []
    for item in batch.items:
        connection.execute("SAVEPOINT item")
        try:
            result = _file_item(connection, batch, item)
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - it must not stop the others; counted, retried
            connection.execute("ROLLBACK TO item")
            result = replace(_failed(connection, batch, item), error_type=type(error).__name__)
        connection.execute("RELEASE item")
        results.append(result)
    return results


def _file_item(connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem) -> ItemResult:
    opened = item.opened
    if not item.again and (known := _known(connection, batch, item)) is not None:
        return _repeat(connection, batch, item, known)
    if opened is None or (opened.unreadable and not opened.packages):
        reason = Reason.OPENING_FAILED if opened is None else Reason.PACKAGE_UNREADABLE
        _wait_whole(connection, batch, item, Problem(ErrorCode.OTHER, reason))
        return _finish(connection, batch, item, ((Outcome.QUARANTINED, ErrorCode.OTHER),))
    if not opened.packages:
        return _finish(connection, batch, item, ())
    problem = _message_problem(opened)
    puts = [
        put_package(connection, _package(batch, item, place, problem))
        for place in range(len(opened.packages))
    ]
    refused = [put.problem for put in puts if put.problem is not None]
    if item.decided is not None and refused and all(put.problem or put.settled for put in puts):
        # A person's word that the rules do not take changes nothing, not even why it waits.
        return ItemResult(item.item_id, item.uid, ItemOutcome.QUARANTINED, refused[0].code)
    for put in puts:  # what stood for a message that was not opened stood for all of them
        if put.problem is not None:
            quarantine.put(connection, _message(connection, batch, item), put.waiting)
    if all(put.settled for put in puts):
        # Another judging, or a person, was faster: there is nothing to tell.
        return ItemResult(item.item_id, item.uid, ItemOutcome.REPEATED)
    return _finish(
        connection,
        batch,
        item,
        tuple(outcome for put in puts for outcome in put.outcomes),
        puts,
    )


def _message_problem(opened: Opened) -> Problem | None:
    """What holds for every package: two readings of the message, or two patients in it."""
    if opened.unreadable:
        return Problem(ErrorCode.OTHER, Reason.PACKAGE_UNREADABLE)
    return one_patient(
        [document.claim for package in opened.packages for document in package.documents]
    )


def _package(batch: FilingBatch, item: FilingItem, place: int, problem: Problem | None) -> Package:
    opened = item.opened
    assert opened is not None  # noqa: S101 - the caller has packages
    before = sum(max(len(each.documents), 1) for each in opened.packages[:place])
    return Package(
        structure=batch.structure,
        environment=batch.environment,
        opened=opened,
        package=opened.packages[place],
        origin=item.origin,
        receipt=item.receipt,
        first_position=before,
        message_problem=problem,
        recipient_ids=item.recipient_ids,
        again=item.again,
        decided=item.decided,
        received_at=item.received_at,
        at=batch.at,
    )


def _wait_whole(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem, problem: Problem
) -> None:
    """Quarantine a message that cannot be opened, as one occurrence."""
    quarantine.put(
        connection,
        _message(connection, batch, item),
        [quarantine.Waiting(0, "", None, problem, None, whole=True)],
    )


def _message(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem
) -> quarantine.WaitingMessage:
    kept = archive(connection, Archived(batch.structure.id, "message", item.raw, item.received_at))
    return quarantine.WaitingMessage(
        batch.structure.id,
        item.item_id,
        kept,
        item.receipt,
        item.received_at,
        batch.at,
        () if item.opened is None else item.opened.delivered_to,
        ("" if item.opened is None else item.opened.from_address) or item.origin.address,
    )


def _finish(
    connection: sqlite3.Connection,
    batch: FilingBatch,
    item: FilingItem,
    outcomes: Sequence[tuple[Outcome, ErrorCode | None]],
    puts: Sequence[Put] = (),
) -> ItemResult:
    """Write the item's state, its trail and its answer, all that depends on every package."""
    kinds = {outcome for outcome, _ in outcomes}
    code = next((code for _, code in outcomes if code is not None), None)
    keywords = {_WORD[kind] for kind in kinds} or {NO_DOCUMENT}
    if _must_hold(batch, item, kinds, puts):
        keywords.add(HELD)
    told, answers = code, 0
    if kinds and not item.again:  # what is judged again was tried when it came
        told, answers = _answer(connection, batch, item, code)
    result = ItemResult(
        item.item_id,
        item.uid,
        _outcome(kinds),
        code,
        frozenset(keywords),
        tuple(unique_id for put in puts for unique_id in put.filed),
        answers,
        tuple(_alarms(puts, probing=told is not code)),
    )
    _close_item(connection, batch, item, result)
    if item.again:
        quarantine.forget_message(connection, item.item_id)
    events = _events(batch, item, _news(outcomes, puts), result)
    append(connection, TRAIL, events)
    return result


def _answer(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem, code: ErrorCode | None
) -> tuple[ErrorCode | None, int]:
    """Put the answers that were asked for; give the code they tell and how many they are."""
    told = replying.code_told(connection, item.origin.domain, code, batch.at)
    if item.opened is None:
        return told, 0
    structure = batch.structure
    answer = replying.Answer(
        structure.id, structure.application_address, item.item_id, item.receipt, told, batch.at
    )
    return told, replying.put_answers(connection, item.opened, answer)


def _code(text: str | None) -> ErrorCode | None:
    return ErrorCode(int(text)) if text else None


def _news(
    outcomes: Sequence[tuple[Outcome, ErrorCode | None]], puts: Sequence[Put]
) -> list[tuple[int, Outcome, ErrorCode | None]]:
    """The outcomes with their places, less those that the trail has from an earlier time."""
    settled = [put.settled for put in puts for _ in put.outcomes] or [False] * len(outcomes)
    return [
        (position, *outcome)
        for position, (outcome, is_old) in enumerate(zip(outcomes, settled, strict=True))
        if not is_old
    ]


def _outcome(kinds: set[Outcome]) -> ItemOutcome:
    if not kinds:
        return ItemOutcome.OTHER
    return ItemOutcome(next(iter(kinds)).value) if len(kinds) == 1 else ItemOutcome.MIXED


def _must_hold(
    batch: FilingBatch, item: FilingItem, kinds: set[Outcome], puts: Sequence[Put]
) -> bool:
    """Whether the patient's own copy of the message must stay held (RULES §7).

    It is shown only when all of it is filed for that same patient and visible.
    """
    if item.opened is None or not kinds:
        return False
    ending = "@" + batch.structure.patient_domain
    if not any(address.endswith(ending) for address in item.opened.delivered_to):
        return False
    return Outcome.QUARANTINED in kinds or any(put.hidden for put in puts)


def _close_item(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem, result: ItemResult
) -> None:
    connection.execute(
        "UPDATE inbox_item SET receipt = ?, state = 'done', outcome = ?, code = ?, origin = ?,"
        " keywords = ?, marked_at = NULL, done_at = iif(state = 'done', done_at, ?) WHERE id = ?",
        (
            item.receipt,
            result.outcome.value,
            None if result.code is None else str(result.code.value),
            item.origin.domain,
            " ".join(sorted(result.keywords)),
            micros(batch.at),
            item.item_id,
        ),
    )


def _events(
    batch: FilingBatch,
    item: FilingItem,
    outcomes: Sequence[tuple[int, Outcome, ErrorCode | None]],
    result: ItemResult,
) -> list[AuditEvent]:
    """One event per message without a document, else one per occurrence; and the alarms."""
    facts: dict[str, str | int | bool] = {"receipt_id": item.receipt, "item": item.item_id}
    if item.again:
        facts["again"] = True
    actor = ACTOR
    if item.decided is not None:
        actor = item.decided.closing.by
        facts["reason"] = item.decided.closing.reason or ""
    if not outcomes:
        return [
            AuditEvent(
                f"message_{result.outcome.value}", batch.at, ACTOR, batch.structure.id, None, facts
            )
        ]
    structure_id = batch.structure.id
    alarms = [
        AuditEvent(alarm, batch.at, ACTOR, structure_id, f"item:{item.item_id}", facts)
        for alarm in result.alarms
    ]
    return alarms + [
        AuditEvent(
            f"document_{outcome.value}",
            batch.at,
            actor,
            structure_id,
            f"item:{item.item_id}",
            {**facts, "position": position} | ({} if code is None else {"code": code.value}),
        )
        for position, outcome, code in outcomes
    ]


def _alarms(puts: Sequence[Put], *, probing: bool) -> Iterator[str]:
    if probing:
        yield "identity_probing"
    if any(
        row.problem.reason is Reason.SAME_ID_OTHER_BYTES for put in puts for row in put.waiting
    ):
        yield "document_conflict"


def _known(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem
) -> sqlite3.Row | None:
    """The row of the same message, already done under another UID."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT id, keywords, code, outcome FROM inbox_item WHERE structure_id = ? AND receipt = ?"
        " AND id <> ? AND state = 'done' AND outcome <> 'repeated' ORDER BY id LIMIT 1",
        (batch.structure.id, item.receipt, item.item_id),
    ).fetchone()
    return row


def _repeat(
    connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem, known: sqlite3.Row
) -> ItemResult:
    """A message that was filed under another UID: tell the same, count nothing, file nothing.

    A repetition may bring a recipient more: who asked is answered for that one too (RULES §9).
    """
    keywords = set(str(known[1] or "").split())
    structure_id = batch.structure.id
    ending = "@" + batch.structure.patient_domain
    delivered_to = () if item.opened is None else item.opened.delivered_to
    patients = {address for address in delivered_to if address.endswith(ending)}
    if patients and (
        release_storing.hidden_of(connection, structure_id, item.receipt)
        or (
            not keywords.isdisjoint({FILED, DUPLICATE})
            and patients - release_storing.addresses_of(connection, structure_id, item.receipt)
        )
    ):
        keywords.add(HELD)
    answers = 0
    if known[3] != ItemOutcome.OTHER.value:
        answers = _answer(connection, batch, item, _code(known[2]))[1]
    # The quarantine rows follow the message to where its entry can be marked.
    connection.execute(
        "UPDATE quarantine SET item_id = ? WHERE item_id = ? AND state = 'open'",
        (item.item_id, known[0]),
    )
    result = ItemResult(
        item.item_id,
        item.uid,
        ItemOutcome.REPEATED,
        keywords=frozenset(keywords),
        answers=answers,
    )
    _close_item(connection, batch, item, result)
    append(connection, TRAIL, _events(batch, item, (), result))
    return result


def _failed(connection: sqlite3.Connection, batch: FilingBatch, item: FilingItem) -> ItemResult:
    """Our own code failed on this message: try again later, or quarantine it in the end."""
    if item.again:
        return ItemResult(item.item_id, item.uid, ItemOutcome.FAILED)
    if item.attempts < MAX_ATTEMPTS:
        return ItemResult(item.item_id, item.uid, ItemOutcome.FAILED)
    _wait_whole(connection, batch, item, Problem(ErrorCode.OTHER, Reason.OPENING_FAILED))
    return _finish(connection, batch, item, ((Outcome.QUARANTINED, ErrorCode.OTHER),))
