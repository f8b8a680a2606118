"""The tables that lead to a record's documents, and the triggers that keep them.

A *cell* is the documents of one record that every decision is the same for: same class, type,
status and states; everybody's (``ref`` is ''), or what one professional wrote, received or attends
(``roles``). Cells are counted, and hold their documents by date; ``document_word`` holds the words
of the current ones. What follows, for whoever changes a row of ``document`` and by whatever
statement: nothing else writes these tables, and they are right in the same transaction.

Nobody is shown anything from here alone: ``record_bridge.listing`` asks ``visibility.decide``.

Source: RULES §6 (search rows leave with the version they are of), RULES §7.
"""

from typing import Final

from sqlalchemy import Column, Integer, MetaData, Table, Text, UniqueConstraint

from directory.sqlite_statements import run_after_creating

_SPLIT: Final = "json_each('[' || replace(json_quote(trim({row}.{column})), ' ', '\",\"') || ']')"
_DATED: Final = "coalesce({row}.effective_at, {row}.received_at), {row}.id"
_SAME: Final = (
    "c.record_id = {row}.patient_id AND c.status = {row}.status"
    " AND c.class_code = {row}.class_code AND c.type_code = {row}.type_code"
    " AND c.visibility = {row}.visibility"
)
_REFS: Final = (
    "(SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM "  # noqa: S608 - ours
    + _SPLIT.replace("{column}", "refs")
    + " WHERE value <> '') AS p"
)
_PLACES: Final = (
    f"SELECT c.id, {_DATED} FROM {_REFS} CROSS JOIN document_cell AS c"  # noqa: S608 - ours
    f" WHERE {_SAME} AND c.ref = p.ref AND c.roles = p.roles"
)
_WORDS: Final = (
    f"SELECT c.id, w.value, {_DATED} FROM document_cell AS c CROSS JOIN "  # noqa: S608 - ours
    + _SPLIT.replace("{column}", "words")
    + f" AS w WHERE {_SAME} AND c.ref = '' AND c.roles = ''"
    " AND {row}.status = 'current' AND w.value <> ''"
)
_ENTER: Final = f"""
 INSERT INTO document_cell
  (record_id, ref, status, class_code, type_code, visibility, roles, many)
  SELECT {{row}}.patient_id, p.ref, {{row}}.status, {{row}}.class_code, {{row}}.type_code,
  {{row}}.visibility, p.roles, 0 FROM {_REFS} WHERE {{row}}.patient_id IS NOT NULL
  ON CONFLICT DO NOTHING;
 INSERT INTO cell_document (cell_id, dated_at, document_id) {_PLACES} ON CONFLICT DO NOTHING;
 INSERT INTO document_word (cell_id, word, dated_at, document_id) {_WORDS} ON CONFLICT DO NOTHING;
""".format(row="NEW")  # noqa: S608 - ours
_LEAVE: Final = f"""
 DELETE FROM document_word WHERE (cell_id, word, dated_at, document_id) IN ({_WORDS});
 DELETE FROM cell_document WHERE (cell_id, dated_at, document_id) IN ({_PLACES});
""".format(row="OLD")  # noqa: S608 - ours
_MOVING: Final = (
    "patient_id, status, class_code, type_code, visibility, effective_at, received_at, refs, words"
)
_TRIGGERS: Final = (
    (
        "CREATE TRIGGER cell_counted AFTER INSERT ON cell_document BEGIN"
        " UPDATE document_cell SET many = many + 1 WHERE id = NEW.cell_id; END"
    ),
    (
        "CREATE TRIGGER cell_uncounted AFTER DELETE ON cell_document BEGIN"
        " UPDATE document_cell SET many = many - 1 WHERE id = OLD.cell_id;"
        " DELETE FROM document_cell WHERE id = OLD.cell_id AND many = 0; END"
    ),
    f"CREATE TRIGGER document_enters AFTER INSERT ON document BEGIN{_ENTER}END",
    (
        f"CREATE TRIGGER document_moves AFTER UPDATE OF {_MOVING} ON document"
        f"\nBEGIN{_LEAVE}{_ENTER}END"
    ),
    f"CREATE TRIGGER document_leaves AFTER DELETE ON document BEGIN{_LEAVE}END",
)
AFTER_UPGRADE: Final = ("UPDATE document SET words = ''",)
"""Every document enters its cells, by the trigger; words and refs come with ``describe_again``."""


def index_tables(metadata: MetaData, document: Table) -> None:
    """Add the tables to the record's, and their triggers."""
    cells = Table(
        "document_cell",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("record_id", Integer, nullable=False, comment="patient.id"),
        Column("ref", Text, nullable=False, comment="a professional's RPPS; '' for everybody's"),
        Column("status", Text, nullable=False),
        Column("class_code", Text, nullable=False),
        Column("type_code", Text, nullable=False),
        Column("visibility", Text, nullable=False),
        Column("roles", Text, nullable=False, comment="101: wrote it, attends; '' for everybody"),
        Column("many", Integer, nullable=False, comment="rows of cell_document"),
        UniqueConstraint(
            *("record_id", "ref", "status", "class_code", "type_code", "visibility", "roles"),
            name="document_cell_key",
        ),
    )
    places = Table(
        "cell_document",
        metadata,
        Column("cell_id", Integer, primary_key=True),
        Column("dated_at", Integer, primary_key=True, comment="effective_at, else received_at"),
        Column("document_id", Integer, primary_key=True),
        sqlite_with_rowid=False,
    )
    words = Table(
        "document_word",
        metadata,
        Column("cell_id", Integer, primary_key=True, comment="one of everybody's"),
        Column("word", Text, primary_key=True),
        Column("dated_at", Integer, primary_key=True),
        Column("document_id", Integer, primary_key=True),
        sqlite_with_rowid=False,
    )
    for table in (document, cells, places):
        words.add_is_dependent_on(table)
    run_after_creating(words, *_TRIGGERS)
