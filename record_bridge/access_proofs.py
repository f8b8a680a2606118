"""A patient's accesses with the proof of each, for them to keep and check by themselves.

Invariants: what is proved is what the journal shows, no event more; of an access to a document
that the patient may not see yet only the hash is told (RULES §7), so the journal is complete and
says nothing early; numbers count this patient's events and have no gap.

Source: RULES §13, RFC 9162 §2.1.3.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select

from directory.database import Database
from directory.trail import SignedRoot
from directory.trail_proof import ProvedEvent, SealedBatch, path
from record_bridge.repository import moment
from record_bridge.schema import TRAIL, patient

_HASH = 32
_EVENT = TRAIL.event.c
_ROOT = TRAIL.root.c


async def subjects_of(database: Database, patient_id: int) -> Sequence[str]:
    """Name a record in the trail: as itself, and as each identity merged into it."""
    rows = await database.all(
        select(patient.c.id)
        .where(or_(patient.c.id == patient_id, patient.c.merged_into == patient_id))
        .order_by(patient.c.id)
    )
    return [f"patient:{row.id}" for row in rows]


async def access_proofs(
    database: Database,
    subjects: Sequence[str],
    kinds: frozenset[str],
    *,
    limit: int,
    may_know: Callable[[Mapping[str, Any]], bool],
) -> list[dict[str, Any]]:
    """Give the events about one record with their proofs, oldest first, as JSON values.

    Args:
        database: the record's.
        subjects: ``patient:7``, one for each identity of the record.
        kinds: which events are accesses.
        limit: the newest so many.
        may_know: whether the reader may know an event's facts.

    Events of the last second are not sealed yet and come with the next reading.
    """
    wanted = (
        select(
            _EVENT.sequence, _EVENT.leaf, _EVENT.salt,
            _EVENT.kind, _EVENT.at, _EVENT.actor, _EVENT.structure_id, _EVENT.subject,
            _EVENT.facts,
        )
        .where(_EVENT.subject.in_(subjects), _EVENT.kind.in_(kinds), _EVENT.sequence.is_not(None))
        .order_by(_EVENT.event_id.desc())
        .limit(limit)
    )  # fmt: skip
    rows = list(reversed(await database.all(wanted)))
    batch: SealedBatch | None = None
    found = []
    for number, row in enumerate(rows, 1):
        if batch is None or row.sequence >= batch.root.size:
            batch = await _batch(database, row.sequence)
            if batch is None:
                break
        fields = tuple(row[3:9])
        payload = (bytes(row.salt), fields) if may_know(json.loads(row.facts)) else None
        proved = ProvedEvent(
            row.sequence, bytes(row.leaf), payload, path(batch, row.sequence), batch.root
        )
        found.append(proved.as_json(number))
    return found


async def _batch(database: Database, sequence: int) -> SealedBatch | None:
    """Read what the first root that covers a leaf covers beyond the one before."""
    columns = (_ROOT.size, _ROOT.root, _ROOT.at, _ROOT.signature, _ROOT.peaks)
    after = await database.all(
        select(*columns).where(_ROOT.size > sequence).order_by(_ROOT.size).limit(1)
    )
    if not after:
        return None
    before = await database.all(
        select(_ROOT.size, _ROOT.peaks)
        .where(_ROOT.size <= sequence)
        .order_by(_ROOT.size.desc())
        .limit(1)
    )
    size, peaks = (before[0].size, bytes(before[0].peaks)) if before else (0, b"")
    root = after[0]
    leaves = await database.all(
        select(_EVENT.leaf)
        .where(_EVENT.sequence >= size, _EVENT.sequence < root.size)
        .order_by(_EVENT.sequence)
    )
    return SealedBatch(
        SignedRoot(root.size, bytes(root.root), moment(root.at), bytes(root.signature)),
        size,
        [peaks[at : at + _HASH] for at in range(0, len(peaks), _HASH)],
        [bytes(leaf) for (leaf,) in leaves],
    )
