"""The index that leads to documents: whole after any change, and the same as looking at all."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from directory.codes import known_types
from record_bridge import (
    listing,
    repository,
    rights_record,
    rights_storing,
    schema,
    searching,
)
from record_bridge.masking import MaskingCommands
from record_bridge.merging import Merge, Split, merge, split
from record_bridge.model import Viewer
from record_bridge.queries import Cursor, DocumentView, RecordQueries, Sought, Wanted
from record_bridge.repository import create_record, micros
from record_bridge.rights import GrantKind
from record_bridge.rights_storing import NewRight
from record_bridge.search_words import Described, asked, tokens
from record_bridge.searching import MAX_LEADS
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import PatientSpec
from tests.support.record import (
    AT,
    CABINET,
    DOCTOR,
    PATIENT_ADDRESS,
    Record,
    message,
    open_test_record,
    report,
)

RPPS = ("10000000001", "10000000002")
BOTH = (DOCTOR, PATIENT_ADDRESS)
FIRST = "1.2.250.1.213.999.1"
WHO = {"actor": "cli:test", "reason": "essai", "structure": CABINET.id}
WORDS = ("Échographie", "Scanner", "du", "cœur", "genou", "Bilan", "2024", "bilans", "B12")
ASKED = ("echo", "GRAPHIE", "scan", "cœur", "b", "bilan", "2024", "mars 2024", "dr", "12/03/2024",
         "du", "chu", "genou", "biologiques", "rien", "b12")  # fmt: skip
INDEX = {
    "document_cell": "record_id, ref, status, class_code, type_code, visibility, roles, many",
    "cell_document": "(SELECT record_id || ref || status || class_code || type_code || visibility"
    " || roles FROM document_cell WHERE id = cell_id), dated_at, document_id",
    "document_word": "(SELECT record_id || ref || status || class_code || type_code || visibility"
    " || roles FROM document_cell WHERE id = cell_id), word, dated_at, document_id",
}

documents = st.fixed_dictionaries(
    {
        "title": st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join),
        "type_code": st.sampled_from(("11502-2", "18748-4", "unknown")),
        "class_code": st.sampled_from(("10", "31")),
        "status": st.sampled_from(("current", "current", "superseded", "withdrawn")),
        "visibility": st.sampled_from(
            ("visible", "masked_ps", "awaiting_release", "awaiting_release invisible_patient")
        ),
        "effective_at": st.sampled_from(
            (None, *(micros(AT) - n * 86_400_000_000 for n in (0, 0, 400, 965, 966)))
        ),
        "author": st.sampled_from(("Dr Luc", "Dr Élise MARTIN", "")),
        "custodian": st.sampled_from(("CHU", "Labo")),
        "author_ids": st.sampled_from(("", RPPS[0], f"8{RPPS[1]} {RPPS[0]}", f"8{RPPS[0]}")),
        "recipient_ids": st.sampled_from(("", "", f"8{RPPS[1]}", 'x" y')),
        "attending_ids": st.sampled_from(("", "", RPPS[1])),
    }
)
UNDATED = "effective_at = NULL, words = ''"
DATED = {
    "title": "", "type_code": "11502-2", "class_code": "10", "status": "current",
    "visibility": "visible", "effective_at": 1_710_237_600_000_000, "author": "", "custodian": "",
}  # fmt: skip
changes = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(
            (
                "visibility = 'masked_ps'", "status = 'superseded'", "status = 'current'",
                "visibility = 'visible'", "patient_id = NULL", "patient_id = :home",
                UNDATED, "class_code = '42'", "delete",
            )
        ),
    ),
    max_size=6,
)  # fmt: skip


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


@pytest.fixture
async def queries(record: Record) -> AsyncIterator[RecordQueries]:
    opened = await RecordQueries.open(record.path, lambda: record.now)
    yield opened
    await opened.close()


def fill(connection: sqlite3.Connection, value: tuple[int, Sequence[dict[str, Any]]]) -> None:
    """Put rows into a record, as filing does: with what they are found by."""
    patient_id, rows = value
    package = connection.execute(
        "INSERT INTO archive (structure_id, kind, sha256, octets, at) VALUES ('cabinet', 'x',"
        " randomblob(32), 1, 1) RETURNING id"
    ).fetchone()[0]
    for number, row in enumerate(rows):
        blank: dict[str, Any] = {
            column.name: "" if column.type.python_type is str else 0
            for column in schema.document.columns
            if not column.nullable and not column.primary_key
        }
        name = f"{patient_id}.{number}"
        blank |= {"structure_id": "cabinet", "patient_id": patient_id, "unique_id": name,
                  "receipt": name, "package_id": package, "received_at": micros(AT)}  # fmt: skip
        repository.insert_document(connection, blank | row)


def change(connection: sqlite3.Connection, value: tuple[int, Sequence[tuple[int, str]]]) -> None:
    """Do to rows what commands and people do to them, and more."""
    patient_id, wanted = value
    keys = [row[0] for row in connection.execute(
        "SELECT id FROM document WHERE unique_id LIKE ? || '.%' ORDER BY id", (patient_id,))]  # fmt: skip
    for place, what in wanted:
        if keys:
            row = {"id": keys[place % len(keys)], "home": patient_id}
            connection.execute(
                "DELETE FROM document WHERE id = :id"
                if what == "delete"
                else f"UPDATE document SET {what} WHERE id = :id",  # noqa: S608 - ours
                row,
            )
    # A date is among the words, which only the program can write: nothing changes one alone.
    repository.describe_again(connection)


def index_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608
            for table, columns in INDEX.items()
        }


def rebuilt(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The index as it would be if every document came now."""
    with closing(sqlite3.connect(path)) as connection:
        for table in INDEX:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
        connection.execute("UPDATE document SET words = words")
        found = {
            table: sorted(connection.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608
            for table, columns in INDEX.items()
        }
        connection.rollback()
        return found


async def register(record: Record, number: int) -> int:
    person = await record.register(PatientSpec(ins=f"1790399990{number:05}"))
    key = int(person["id"])
    right = NewRight(key, "test", record.now, GrantKind.CARE_TEAM, RPPS[0])
    await record.database.write(rights_storing.give, right)
    return key


def has_words(document: DocumentView, words: Sequence[str]) -> bool:
    """Look at the document itself, naively."""
    described = Described(
        document.title,
        document.type_code,
        document.author,
        document.custodian,
        document.effective_at or document.received_at,
    )
    found = tokens(described)
    return all(any(token.startswith(word) for token in found) for word in words)


async def whole(
    queries: RecordQueries, patient_id: int, viewer: Viewer, words: tuple[str, ...]
) -> list[int]:
    """Every page of a search."""
    found: list[int] = []
    start: Cursor | None = Cursor()
    while start is not None:
        page = await queries.search(patient_id, viewer, Sought(words, start))
        assert len(page.documents) <= listing.PAGE
        assert page.after is None or len(page.documents) == listing.PAGE
        found += [each.id for each in page.documents]
        start = None if page.after is None else Cursor.read(str(page.after))
    return found


async def check(record: Record, queries: RecordQueries, patient_id: int, asking: str) -> None:
    """Compare what every viewer is given with what looking at all documents gives."""
    viewers = [
        Viewer("patient", str(patient_id)),
        *(Viewer("practitioner", rpps, "10", CABINET.id) for rpps in RPPS),
        Viewer("practitioner", "10000000003", "10", CABINET.id),
        Viewer("practitioner", RPPS[0], "10", "hopital"),
    ]
    words = asked(asking)
    for viewer in viewers:
        every = await queries.documents(patient_id, viewer, superseded=True)
        seen = [each for each in every if each.status == "current"]
        expected = [each.id for each in seen if words and has_words(each, words)]
        assert await whole(queries, patient_id, viewer, words) == expected
        page = await queries.page(patient_id, viewer, Wanted(many=1000))
        assert [each.id for each in page.documents] == [each.id for each in seen]
        assert page.total == len(seen)
        assert {each.code: each.count for each in page.categories} == {
            code: sum(each.class_code == code for each in seen)
            for code in {each.class_code for each in seen}
        }
        assert await queries.sees_any(patient_id, viewer) == bool(every)
        assert await queries.keys(patient_id, viewer) == {each.id for each in seen}


@contextmanager
def opened_twice(folder: Path) -> Iterator[tuple[asyncio.Runner, Record, RecordQueries]]:
    with asyncio.Runner() as runner:
        manager = open_test_record(folder)
        record = runner.run(manager.__aenter__())
        queries = runner.run(RecordQueries.open(record.path, lambda: record.now))
        try:
            yield runner, record, queries
        finally:
            runner.run(queries.close())
            runner.run(manager.__aexit__(None, None, None))


def test_searching_and_counting_are_looking_at_every_document(tmp_path: Path) -> None:
    with opened_twice(tmp_path) as (runner, record, queries):
        numbers = iter(range(10_000))

        @example([DATED], [(0, UNDATED)], "2024")
        @settings(max_examples=60, deadline=None, database=None)
        @given(
            st.lists(documents, max_size=30),
            changes,
            st.lists(st.sampled_from(ASKED), max_size=3).map(" ".join),
        )
        def compare(
            rows: list[dict[str, Any]], wanted: list[tuple[int, str]], asking: str
        ) -> None:
            async def one() -> None:
                key = await register(record, next(numbers))
                await record.database.write(fill, (key, rows))
                await record.database.write(change, (key, wanted))
                await check(record, queries, key, asking)

            runner.run(one())

        compare()
        kept = index_of(record.path)
        assert kept == rebuilt(record.path)
        assert kept["document_word"] != []


@pytest.mark.parametrize("words", ["x", "x1", "x12", "compte", "compte x1", "2024 compte"])
@pytest.mark.parametrize("many", [MAX_LEADS - 1, MAX_LEADS, 3 * MAX_LEADS])
async def test_more_words_than_keys_and_more_pages_than_one(
    record: Record, queries: RecordQueries, words: str, many: int
) -> None:
    rows = [
        {"title": f"Compte rendu x{number}", "type_code": "11502-2", "class_code": "10",
         "status": "current", "visibility": "visible", "effective_at": micros(AT) - number // 30}
        for number in range(many)
    ]  # fmt: skip
    key = await register(record, 1)
    await record.database.write(fill, (key, rows))

    await check(record, queries, key, words)


async def test_a_document_is_found_as_long_as_it_is_there_to_be_seen(
    record: Record, queries: RecordQueries
) -> None:
    patient_id = (await record.register())["id"]
    own = Viewer("patient", str(patient_id))
    physician = Viewer("practitioner", RPPS[0], "10", CABINET.id)
    await record.grant(patient_id, "care_team", RPPS[0])
    rights = MaskingCommands(record.commands)
    leaving = WithdrawalCommands(record.commands)

    async def found(words: str) -> tuple[list[str], list[str]]:
        pages = [
            await queries.search(patient_id, viewer, Sought(asked(words)))
            for viewer in (own, physician)
        ]
        return tuple([each.unique_id for each in page.documents] for page in pages)  # type: ignore[return-value]

    await record.one(message(1, report(1, title="Scanner du genou"), to=BOTH))
    assert await found("scanner") == ([FIRST], [FIRST])
    second = f"{FIRST[:-1]}2"
    await record.one(message(2, report(2, title="IRM du genou", replaces=FIRST), to=BOTH))
    assert await found("scanner") == ([], [])
    assert await found("genou") == ([second], [second])
    await rights.record_mask(WHO | {"document": second, "mask": "masked_ps"})
    assert await found("genou") == ([second], [])
    await rights.record_unmask(WHO | {"document": second, "mask": "masked_ps"})
    assert await found("genou") == ([second], [second])
    await leaving.record_withdraw(WHO | {"document": second})
    assert await found("genou") == ([], [])
    await leaving.record_restore(WHO | {"document": second})
    await leaving.record_refile(WHO | {"document": second})
    assert await found("irm") == ([], [])
    await record.one(message(3, report(3, title="Radiographie"), to=(DOCTOR,)))
    assert [len(each) for each in await found("radio")] == [0, 1]
    await record.database.write(_erase, "3")
    assert await found("radio") == ([], [])
    assert index_of(record.path) == rebuilt(record.path)


def _erase(connection: sqlite3.Connection, ending: str) -> None:
    for table in ("agenda_entry", "document_chunk"):
        connection.execute(
            f"DELETE FROM {table} WHERE document_id IN"  # noqa: S608
            " (SELECT id FROM document WHERE unique_id LIKE '%.' || ?)",
            (ending,),
        )
    connection.execute("DELETE FROM document WHERE unique_id LIKE '%.' || ?", (ending,))


async def test_a_merge_takes_the_words_along_and_a_split_gives_them_back(
    record: Record, queries: RecordQueries
) -> None:
    kept, merged = await register(record, 1), await register(record, 2)
    row = {"title": "Scanner", "type_code": "11502-2", "class_code": "10", "status": "current",
           "visibility": "visible"}  # fmt: skip
    await record.database.write(fill, (merged, [row]))
    await record.database.write(_same_person, merged)

    async def found() -> list[int]:
        viewers = ((key, Viewer("patient", str(key))) for key in (kept, merged))
        return [len(await whole(queries, *each, asked("scanner"))) for each in viewers]

    assert await found() == [0, 1]
    await record.database.write(merge, Merge(kept, merged, "x", "y", AT))
    assert await found() == [1, 0]
    await record.database.write(split, Split(merged, "x", "y", AT))
    assert await found() == [0, 1]
    assert index_of(record.path) == rebuilt(record.path)


def _same_person(connection: sqlite3.Connection, merged: int) -> None:
    connection.execute("UPDATE patient SET status = 'provisoire' WHERE id = ?", (merged,))


@pytest.mark.parametrize(
    "statement",
    ["_CELLS", "_PAGE", "_KEYS", "_LEADS", "_FOUND", "_VERSIONS", "_NAMED", "_NUMBERED"],
)
async def test_no_statement_walks_through_a_table(record: Record, statement: str) -> None:
    modules = (listing, searching, rights_record)
    text = next(vars(module)[statement] for module in modules if statement in vars(module))
    with closing(sqlite3.connect(record.path)) as connection:
        values = dict.fromkeys(text._bindparams, "[]")
        rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()

    steps = [row[3] for row in rows]
    assert any(step.startswith("SEARCH") for step in steps)
    by_one_key = [s for s in steps if s.endswith(("(patient_id=?)", "(structure_id=?)"))]
    assert by_one_key == []
    virtual = (
        "SCAN a VIRTUAL",
        "SCAN c VIRTUAL",
        "SCAN p VIRTUAL",
        "SCAN json_each VIRTUAL",
        "SCAN n VIRTUAL",
    )
    subqueries = ("SCAN key", "SCAN version", "SCAN hit", "SCAN (subquery")
    walks = [
        s for s in steps if s.startswith("SCAN") and not s.startswith((*virtual, *subqueries))
    ]
    assert walks == []


def test_documents_of_an_older_schema_are_found_once_it_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    create_record(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO patient (id, structure_id, matricule, oid, family, given, birth_date, sex,"
            " status, address, created_at, changed_at)"
            " VALUES (1, 'cabinet', '1', '1', 'A', 'B', '19800101', 'F', 'qualifiee', 'a', 1, 1)"
        )
        row = {"title": "Échographie", "type_code": known_types()[0], "class_code": "10",
               "status": "current", "visibility": "visible", "author_ids": f"8{RPPS[0]}"}  # fmt: skip
        fill(connection, (1, [row]))
        before = index_of(path)
        connection.execute("UPDATE document SET words = '', refs = ''")
    assert index_of(path)["document_word"] == []

    create_record(path)

    after = index_of(path)
    assert before != after
    assert after == rebuilt(path)
    assert (f"1{RPPS[0]}current10{known_types()[0]}visible100") in {
        row[0] for row in after["cell_document"]
    }
    assert "echographie" in {row[1] for row in after["document_word"]}


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.-1", "1.1.1", "a.b", "9" * 19 + ".1"])
def test_what_is_no_cursor_is_the_first_page(text: str) -> None:
    assert Cursor.read(text) == Cursor()


def test_a_cursor_is_read_as_it_is_written() -> None:
    for cursor in (Cursor(-5, 3), Cursor(1, 0), Cursor(10**17, 999_999)):
        assert Cursor.read(str(cursor)) == cursor
