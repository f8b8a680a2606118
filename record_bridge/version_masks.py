"""The versions of one document in its record, and the masks that people set on all of them.

A person hides a document, not one of its versions: what they masked is masked in every version,
those before it and those to come, or the older one would still say what was hidden. What a sender
masked is that version's alone.

Runs on the writer's thread. Source: RULES §6, RULES §7.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final

from record_bridge.model import Visibility
from record_bridge.repository import words
from record_bridge.visibility import masked, unmasked

_OTHERS: Final = (
    "WITH RECURSIVE version (id) AS (SELECT :id UNION"
    " SELECT d.id FROM version JOIN document o ON o.id = version.id JOIN document d"
    " ON d.structure_id = o.structure_id AND d.unique_id = o.parent_unique_id"
    " WHERE +d.patient_id = o.patient_id UNION"
    " SELECT d.id FROM version JOIN document o ON o.id = version.id JOIN document d"
    " ON d.structure_id = o.structure_id AND d.parent_unique_id = o.unique_id"
    " WHERE +d.patient_id = o.patient_id)"
    " SELECT id, visibility, masked_here FROM document"
    " WHERE id IN (SELECT id FROM version) AND id <> :id ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class _Version:
    id: int
    states: frozenset[Visibility]
    here: frozenset[Visibility]


def mask_others(connection: sqlite3.Connection, document_id: int, mask: Visibility) -> None:
    """Mask the other versions of a document that a person masked."""
    for each in _others(connection, document_id):
        if mask not in each.states:
            _write(connection, each.id, masked(each.states, mask), each.here | {mask})


def unmask_others(connection: sqlite3.Connection, document_id: int, mask: Visibility) -> None:
    """Lift a mask from the other versions, where a person had set it."""
    for each in _others(connection, document_id):
        if mask in each.here:
            _write(connection, each.id, unmasked(each.states, mask), each.here - {mask})


def _others(connection: sqlite3.Connection, document_id: int) -> list[_Version]:
    rows = connection.execute(_OTHERS, {"id": document_id}).fetchall()
    return [_Version(int(row[0]), _states(row[1]), _states(row[2])) for row in rows]


def _states(text: object) -> frozenset[Visibility]:
    return frozenset(Visibility(word) for word in str(text).split())


def _write(
    connection: sqlite3.Connection,
    document_id: int,
    states: frozenset[Visibility],
    here: frozenset[Visibility],
) -> None:
    connection.execute(
        "UPDATE document SET visibility = ?, masked_here = ? WHERE id = ?",
        (
            words(frozenset(state.value for state in states)),
            words(frozenset(state.value for state in here)),
            document_id,
        ),
    )
