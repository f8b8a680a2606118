"""Who opened a record, as its patient (or who stands for them) is told.

An access to a document that the reader does not see is one to the record, without type or title;
who had opened a document of theirs in another's record is named once it left there (RULES §7).

Source: RULES §7, RULES §13.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from directory.database import Database
from record_bridge.access_proofs import subjects_of
from record_bridge.model import Viewer, ViewerKind, Visibility
from record_bridge.repository import moment
from record_bridge.rights_record import document_facts, record_facts, rows_named
from record_bridge.schema import TRAIL, document, notice
from record_bridge.visibility import decide

MAX_ACCESSES = 500
STRANGER = "stranger"
"""Somebody whose record this is not, in the list of accesses."""
ACCESS_KINDS = frozenset(
    {
        "record_read",
        "document_read",
        "document_pdf",
        "agenda_read",
        "results_read",
        "medications_read",
        "record_listed",
        "agenda_listed",
        "prevention_declared",
        "prevention_undone",
        "document_released",
        "patient_changed",
        "patient_merged",
        "patient_split",
        "calendar_read",
        "record_exported",
        "calendar_key_made",
        "calendar_key_stopped",
        "api_token_made",
        "api_token_stopped",
        "access_refused",
        "emergency_opened",
        "right_given",
        "right_ended",
        "document_masked",
        "document_unmasked",
        "record_closed",
        "record_opened_again",
        "document_withdrawn",
        "document_restored",
        "document_taken_out",
        "pack_listed",
        "pack_form_read",
        "pack_read",
        "retention_suspended",
        "retention_resumed",
    }
)
"""Events of a record that its patient is shown."""

_ABOUT_A_DOCUMENT = frozenset(
    {
        "document_read",
        "document_pdf",
        "document_released",
        "document_masked",
        "document_unmasked",
        "document_withdrawn",
        "document_restored",
    }
)


@dataclass(frozen=True, slots=True)
class AccessView:
    """Who opened the record, for its patient: never which hidden document (RULES §7)."""

    at: datetime
    actor: str
    kind: str
    title: str | None


async def accesses(
    database: Database, patient_id: int, reader: Viewer, at: datetime
) -> Sequence[AccessView]:
    """List who opened a record, newest first; see ``RecordQueries.accesses``."""
    event = TRAIL.event.c
    subjects = await subjects_of(database, patient_id)
    rows = await database.all(
        select(event.at, event.actor, event.kind, event.facts)
        .where(event.subject.in_(subjects), event.kind.in_(ACCESS_KINDS))
        .order_by(event.event_id.desc())
        .limit(MAX_ACCESSES)
    )
    record = await record_facts(database, patient_id, at)
    elsewhere = await database.all(
        select(notice.c.at, notice.c.addressee, notice.c.document_id)
        .join(document, document.c.id == notice.c.document_id)
        .where(notice.c.kind == "taken_out", notice.c.patient_id != patient_id)
        .where(document.c.patient_id == patient_id)
        .order_by(notice.c.id.desc())
        .limit(MAX_ACCESSES)
    )
    named = {_document_of(row.facts) for row in rows} - {0}
    named |= {row.document_id for row in elsewhere}
    titles = {
        row["id"]: row["title"]
        for row in await rows_named(database, patient_id, named)
        if record is not None and decide(document_facts(row), reader, record).is_shown
    }
    found = [
        _access(row._asdict(), titles if may_learn(json.loads(row.facts), reader) else {})
        for row in rows
    ]
    found += [_access_elsewhere(row._asdict(), titles) for row in elsewhere]
    return sorted(found, key=lambda each: each.at, reverse=True)[:MAX_ACCESSES]


def _document_of(facts: str) -> int:
    """The document that an event is about, 0 for none."""
    return int(json.loads(facts).get("document_id", 0))


def _access_elsewhere(row: Mapping[str, Any], titles: Mapping[int, str]) -> AccessView:
    """Another patient stays nameless; a professional is named as in one's own record."""
    reader = str(row["addressee"])
    title = titles.get(row["document_id"])
    return AccessView(
        moment(row["at"]),
        reader if reader.startswith("practitioner:") else STRANGER,
        "record_read" if title is None else "read_elsewhere",
        title,
    )


def may_learn(facts: Mapping[str, Any], reader: Viewer) -> bool:
    """Whether a reader may know what an event was: not that something was hidden from parents."""
    hidden_from_parents = facts.get("mask") == Visibility.INVISIBLE_REPRESENTATIVES.value
    return not hidden_from_parents or reader.kind == ViewerKind.PATIENT


def _access(row: Mapping[str, Any], titles: Mapping[int, str]) -> AccessView:
    title = titles.get(_document_of(row["facts"]))
    kind = row["kind"]
    if kind in _ABOUT_A_DOCUMENT and title is None:
        kind = "record_read"
    return AccessView(moment(row["at"]), row["actor"], kind, title)
