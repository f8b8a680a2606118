"""The form of a record's archive: what is in it, and how rows are written as JSON.

A ZIP with ``manifest.json`` (version, kind, patient, SHA-256 of every other file),
``tables/<table>.json``, ``documents/``, ``deposits/``, ``pack_items/``, ``packages/`` and
``events.json``. Rows
name each other by their place in their table, so an archive says nothing of a site's numbering.
A table belongs to it when it names a patient; keys of calendars and applications never do.

Source: RULES §7, RULES §13.
"""

import base64
import binascii
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import LargeBinary, Table
from sqlalchemy.types import BLOB, Integer

from record_bridge.admission import PackItemKind
from record_bridge.errors import MalformedArchiveError
from record_bridge.life import DirectiveKind, ProfileKind
from record_bridge.model import (
    ActKind,
    AgendaStatus,
    DocumentStatus,
    Mark,
    OppositionScope,
    Visibility,
)
from record_bridge.rights import PROFESSIONAL
from record_bridge.schema import METADATA, patient

VERSION: Final = 1
FORMAT: Final = "pli-record"
WHOLE, OWN = "whole", "own"
"""Everything, for the structure; what its patient sees, for the patient."""
WITH_CONTENT: Final = frozenset({"document", "deposit", "pack_item"})
"""Tables whose rows are files: each has its octets in the archive."""
_LEFT_OUT: Final = frozenset({"api_token", "calendar_key", "imported_event", "notice"})
_OWN_DOCUMENT: Final = (
    "id", "structure_id", "patient_id", "unique_id", "sha256", "octets", "set_id",
    "version_number", "type_code", "class_code", "title", "effective_at", "status", "visibility",
    "marks", "author", "custodian", "media_type", "received_at",
)  # fmt: skip
"""Columns of a document that its patient is given: nothing of what else came with it."""
_DERIVED: Final = frozenset({"words", "refs", "number", "lists_read", "moved"})
"""Columns of a document that are made anew from the others, or are for the hand-over here."""


RIGHTS: Final = frozenset(kind.value for kind in PROFESSIONAL)
"""Rights that an archive holds: representatives and relatives are a structure's own to name."""


def tables() -> tuple[Table, ...]:
    """The tables of a record, those that others name first."""
    return tuple(
        table
        for table in METADATA.sorted_tables
        if "patient_id" in table.c and table.name not in _LEFT_OUT
    )


def columns(table: Table, kind: str) -> tuple[str, ...]:
    """The columns of a table that an archive of this kind holds, its own key first."""
    if kind == OWN and table.name == "document":
        return _OWN_DOCUMENT
    return tuple(column.name for column in table.c if column.name not in _DERIVED)


def links(table: Table) -> Mapping[str, str]:
    """Column -> table that it names, the patient left out."""
    found = {}
    for column in table.c:
        for key in column.foreign_keys:
            if key.column.table is not patient:
                found[column.name] = key.column.table.name
    return found


def encoded(value: Any) -> Any:
    """A column's value in JSON."""
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


_WORDS: Final[Mapping[tuple[str, str], Iterable[enum.Enum]]] = {
    ("document", "status"): DocumentStatus,
    ("document", "visibility"): Visibility,
    ("document", "masked_here"): Visibility,
    ("document", "marks"): Mark,
    ("agenda_entry", "kind"): ActKind,
    ("agenda_entry", "status"): AgendaStatus,
    ("deposit", "visibility"): Visibility,
    ("profile_item", "kind"): ProfileKind,
    ("directive", "kind"): DirectiveKind,
    ("opposition", "scope"): OppositionScope,
    ("access_right", "kind"): PROFESSIONAL,
    ("pack_item", "kind"): PackItemKind,
}
"""Columns whose words are ours alone."""
_SEVERAL: Final = frozenset({"visibility", "masked_here", "marks"})


def decoded(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of JSON as columns of its table.

    Raises:
        MalformedArchiveError: a column is unknown or not of its type.
    """
    values: dict[str, Any] = {}
    for name, given in row.items():
        if name not in table.c or name in _DERIVED:
            raise MalformedArchiveError("column")
        column = table.c[name]
        value = given
        if isinstance(given, dict):
            try:
                value = base64.b64decode(str(given.get("base64")), validate=True)
            except binascii.Error:
                raise MalformedArchiveError("column") from None
        if not isinstance(value, _type_of(column.type)) and value is not None:
            raise MalformedArchiveError("column")
        known = _WORDS.get((table.name, name))
        if known is not None:
            given_words = str(value).split() if name in _SEVERAL else [str(value)]
            if not set(given_words) <= {each.value for each in known}:
                raise MalformedArchiveError("word")
        values[name] = value
    return values


def _type_of(kind: Any) -> type:
    if isinstance(kind, Integer):
        return int
    return bytes if isinstance(kind, BLOB | LargeBinary) else str


def checked_rows(content: Any) -> Sequence[Mapping[str, Any]]:
    """The rows of a table's file.

    Raises:
        MalformedArchiveError: they are not rows.
    """
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise MalformedArchiveError("rows")
    return content
