"""The search index: what it keeps, what goes with a body, and what a search may never give."""

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from certs.mime import scan
from directory.model import MailboxType
from mailserver.message.search_text import SearchText, fold, search_text
from mailserver.store import search as module
from mailserver.store.model import Flag, FlagChange, FlagMode, NewMailbox
from mailserver.store.search import ReadMessage
from tests.support.mailstore import AT, Practice, entry, open_practice, watch_reads


@pytest.fixture
async def practice(tmp_path: Path) -> AsyncIterator[Practice]:
    async with open_practice(tmp_path) as opened:
        yield opened


def letter(text: str, subject: str = "CR") -> bytes:
    return (
        f"From: <labo@chu.test>\r\nSubject: {subject}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
    ).encode()


async def deliver(practice: Practice, *texts: str, held: bool = False) -> list[int]:
    """Deliver letters to the doctor and give the ids of their bodies."""
    for text in texts:
        entries = [entry(practice.doctor, held=held)]
        await practice.store.messages.deliver(practice.delivery(entries, blob=letter(text)))
    with closing(sqlite3.connect(practice.path)) as connection:
        rows = connection.execute("SELECT id FROM blob ORDER BY id DESC LIMIT ?", [len(texts)])
        return sorted(row[0] for row in rows)


async def expunge(practice: Practice) -> None:
    """Remove every message of the doctor's, with its body."""
    folder = await practice.inbox(practice.doctor)
    uids = tuple(row.uid for row in await practice.entries(practice.doctor))
    change = FlagChange(folder.id, uids, FlagMode.ADD, Flag.DELETED, frozenset())
    await practice.store.messages.store_flags(change)
    await practice.store.messages.expunge(folder.id, None)
    await practice.store.blobs.reap()


async def bodies_with(practice: Practice, blobs: list[int], needle: str) -> set[int]:
    """Look for a needle in the texts of some bodies."""
    return (await practice.store.search.bodies_with(blobs, needle)).bodies


async def read(practice: Practice, *, whole: bool = True) -> list[int]:
    """Put every body that was not read into the index; give their ids."""
    search = practice.store.search
    found = await search.unread(0, 1000)
    read = []
    for blob_id, octets in found:
        raw = await practice.store.blobs.read(blob_id, 0, octets)
        text = search_text(raw, scan(raw))
        read.append(ReadMessage(blob_id, SearchText(text.header, text.body, whole)))
    await search.put(read)
    return [blob_id for blob_id, _ in found]


def indexed(practice: Practice) -> dict[int, set[str]]:
    """Give, for each row of the trigram index, which of some trigrams lead to it."""
    with closing(sqlite3.connect(practice.path)) as connection:
        led: dict[int, set[str]] = {}
        for needle in ("alp", "bra", "bo@"):
            for (row,) in connection.execute(
                "SELECT rowid FROM search_trigram WHERE search_trigram MATCH ?", [f'"{needle}"']
            ):
                led.setdefault(row, set()).add(needle)
        return led


def kept(practice: Practice) -> set[int]:
    with closing(sqlite3.connect(practice.path)) as connection:
        return {row[0] for row in connection.execute("SELECT blob_id FROM search_text")}


async def test_trigrams_lead_to_exactly_the_texts_that_are_kept(practice: Practice):
    first, second, third = await deliver(practice, "alpha", "bravo", "alpha bravo")

    await read(practice)

    assert indexed(practice) == {
        first: {"alp", "bo@"},
        second: {"bra", "bo@"},
        third: {"alp", "bra", "bo@"},
    }
    assert kept(practice) == {first, second, third}


async def test_text_and_trigrams_go_with_the_body(practice: Practice):
    first, second = await deliver(practice, "alpha", "alpha")
    await read(practice)

    await expunge(practice)

    assert (kept(practice), indexed(practice)) == (set(), {})
    assert await bodies_with(practice, [first, second], "alpha") == set()
    with closing(sqlite3.connect(practice.path)) as connection:
        connection.execute("INSERT INTO search_trigram(search_trigram) VALUES ('integrity-check')")


async def test_reading_a_body_twice_changes_nothing(practice: Practice):
    (blob_id,) = await deliver(practice, "alpha")
    await read(practice)
    before = practice.rows()

    await practice.store.search.put([ReadMessage(blob_id, SearchText("bravo", "bravo", False))])

    assert practice.rows() == before
    assert indexed(practice) == {blob_id: {"alp", "bo@"}}


async def test_a_body_that_went_while_it_was_read_is_left_out(practice: Practice):
    (gone,) = await deliver(practice, "alpha")
    await expunge(practice)
    (there,) = await deliver(practice, "bravo")

    text = SearchText("", "alpha")
    await practice.store.search.put([ReadMessage(gone, text), ReadMessage(there, text)])

    assert kept(practice) == {there}


async def test_bodies_are_read_once_and_in_order(practice: Practice):
    first, second, third = await deliver(practice, "alpha", "bravo", "alpha")
    search = practice.store.search

    assert [row[0] for row in await search.unread(0, 2)] == [first, second]
    assert [row[0] for row in await search.unread(second, 2)] == [third]
    await read(practice)
    assert await search.unread(0, 10) == []


async def test_bodies_not_read_or_cut_are_named_as_not_whole(practice: Practice):
    whole, *_ = await deliver(practice, "alpha")
    await read(practice)
    (cut,) = await deliver(practice, "alpha")
    await read(practice, whole=False)
    (unread,) = await deliver(practice, "alpha")

    found = await practice.store.search.texts_with([whole, cut, unread], "alpha")
    assert found == module.Found({whole, cut}, {unread})
    found = await practice.store.search.texts_with([whole, cut, unread], "bravo")
    assert found == module.Found(set(), {cut, unread})


@pytest.mark.parametrize(
    "needle",
    ["alpha", "al", "a", "lpha brav", 'say "alpha"', "o'b", "100 %", "a_b", "œuf", "-x*", "^al"],
)
async def test_a_needle_is_found_wherever_it_stands_and_nowhere_else(
    practice: Practice, needle: str
):
    texts = [
        "alpha bravo", 'He did say "alpha" twice', "O'Brien 100 % a_b", "un OEUF -x* ^al", "zzz",
    ]  # fmt: skip
    blobs = await deliver(practice, *texts)
    await read(practice)

    found = await bodies_with(practice, blobs, fold(needle))

    assert found == {
        blob for blob, text in zip(blobs, texts, strict=True) if fold(needle) in fold(text)
    }


@pytest.mark.parametrize(
    "needle",
    [
        "alpha OR bravo",
        'alpha" OR "bravo',
        "text:alpha",
        "NEAR(alpha bravo)",
        "alp*",
        "{text}: alpha",
        "alpha') --",
        '"""',
        "alpha AND NOT bravo",
    ],
)
async def test_the_syntax_of_queries_means_nothing_in_a_needle(practice: Practice, needle: str):
    blobs = await deliver(practice, "alpha", "bravo", f"this: {needle}.")
    await read(practice)

    assert await bodies_with(practice, blobs, fold(needle)) == {blobs[-1]}


async def test_what_all_trigrams_lead_to_is_confirmed_on_the_text(practice: Practice):
    blobs = await deliver(practice, "abcd bcde cdef", "xx abcdef xx")
    await read(practice)

    assert await bodies_with(practice, blobs, "abcdef") == {blobs[1]}


async def test_body_text_and_header_are_told_apart(practice: Practice):
    (blob_id,) = await deliver(practice, "alpha")
    await read(practice)
    search = practice.store.search

    there, nowhere = module.Found({blob_id}, set()), module.Found(set(), set())
    assert await search.bodies_with([blob_id], "labo@chu") == nowhere
    assert await search.texts_with([blob_id], "labo@chu") == there
    assert await search.texts_with([blob_id], "alpha") == there
    assert await search.headers_with([blob_id], "from", "labo@chu") == there
    assert await search.headers_with([blob_id], "subject", "labo@chu") == nowhere
    assert await search.headers_with([blob_id], "from", "alpha") == nowhere


async def test_only_the_bodies_that_are_named_are_found(practice: Practice):
    mine = await deliver(practice, "alpha", "alpha")
    other = await practice.store.accounts.add_mailbox(
        NewMailbox("x@autre.test", MailboxType.PER, "autre", "X", None, filing=False, at=AT)
    )
    await practice.store.messages.deliver(practice.delivery([entry(other)], blob=letter("alpha")))
    await read(practice)
    search = practice.store.search

    for needle in ("alpha", "al", "labo@chu"):
        assert (await search.texts_with(mine, needle)).bodies == set(mine)
        assert (await search.texts_with(mine[:1], needle)).bodies == set(mine[:1])
        assert (await search.texts_with([], needle)).bodies == set()


async def test_the_prefix_of_a_held_message_is_not_looked_at(practice: Practice):
    await deliver(practice, "alpha")
    await deliver(practice, "alpha", held=True)
    folder = await practice.inbox(practice.doctor)

    assert await practice.store.search.prefixes_with(folder.id, "delivered-to: dr@cab") == {1}
    assert await practice.store.search.prefixes_with(folder.id, "absent") == set()


async def test_the_index_gives_what_looking_at_every_text_gives(practice: Practice):
    chance = random.Random(7)
    texts = ["".join(chance.choices("abé '\"Œ\n", k=chance.randint(0, 40))) for _ in range(150)]
    blobs = await deliver(practice, *texts)
    await read(practice)

    for _ in range(200):
        needle = fold("".join(chance.choices("abé '\"Œ", k=chance.randint(1, 6))))
        expected = {
            blob for blob, text in zip(blobs, texts, strict=True) if needle in fold(text + "\r\n")
        }
        assert await bodies_with(practice, blobs, needle) == expected, needle


@pytest.mark.parametrize(("needle", "most"), [("alpha", 3), ("al", 2), ("zzzz", 3)])
async def test_a_search_takes_three_statements_in_one_snapshot_whatever_the_folder(
    practice: Practice, needle: str, most: int
):
    blobs = await deliver(practice, *["alpha bravo"] * 30)
    await read(practice)
    statements = watch_reads(practice.store)

    await practice.store.search.texts_with(blobs, needle)

    assert statements[0] == "BEGIN"
    assert len(statements) == 1 + most


async def test_the_index_is_asked_first_and_only_then_the_texts(practice: Practice):
    plan = []
    with closing(sqlite3.connect(practice.path)) as connection:
        for statement in (module._LED_TO, module._IN_TEXT, module._NOT_WHOLE):
            values = {"trigrams": '"abc"', "most": 9, "blob_ids": "[1]", "needle": "abc"}
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", values).fetchall()
            plan.append(rows[0][3])

    assert plan == [
        "SCAN search_trigram VIRTUAL TABLE INDEX 0:M1",
        "SEARCH search_text USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH blob USING INTEGER PRIMARY KEY (rowid=?)",
    ]
