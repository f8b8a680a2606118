"""The trail: any change to what was sealed is found, and where (threat L1)."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import MetaData, create_engine

from directory import trail
from directory.trail import AuditEvent, CompactRange, Sealing, SignedRoot, TrailProblem

METADATA = MetaData()
TABLES = trail.trail_tables(METADATA)
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def connection(tmp_path):
    path = tmp_path / "trail.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    METADATA.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def event(number: int, *, subject: str = "patient:7") -> AuditEvent:
    return AuditEvent(
        "document_read",
        AT + timedelta(seconds=number),
        f"account:{number}",
        "cabinet",
        subject,
        {"document": number, "line": "a\r\n2026-01-01 admin ok", "ok": True},
    )


def fill(connection, count: int, *, sealed_by: int = 4) -> list[SignedRoot]:
    roots = []
    for start in range(0, count, sealed_by):
        numbers = range(start, min(start + sealed_by, count))
        trail.append(connection, TABLES, [event(number) for number in numbers])
        root = trail.seal(connection, Sealing(AT + timedelta(seconds=start), KEY.sign))
        assert root is not None
        roots.append(root)
    return roots


def damage(connection, *statements: str) -> None:
    """What somebody with the file can do: drop the triggers first."""
    for name in ("trail_event_sealed", "trail_event_kept", "trail_root_kept"):
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for statement in statements:
        connection.execute(statement)


def check(connection, outside=()):
    return trail.verify(connection, KEY.public_key(), outside)


def test_what_was_sealed_in_order_verifies(connection):
    roots = fill(connection, 11)

    report = check(connection, roots)

    assert report.sound
    assert (report.sealed, report.unsealed, report.outside_roots) == (11, 0, 3)
    assert report.root == roots[-1].root


def test_unsealed_events_are_counted_and_are_no_problem(connection):
    fill(connection, 4)
    trail.append(connection, TABLES, [event(9)])

    report = check(connection)

    assert report.sound
    assert report.unsealed == 1
    assert report.outside_roots == 0


def test_nothing_unsealed_gives_no_new_root(connection):
    fill(connection, 4)

    assert trail.seal(connection, Sealing(AT, KEY.sign)) is None


def test_an_empty_trail_is_sound(connection):
    assert check(connection).sound


@pytest.mark.parametrize(
    "column", ["kind='x'", "at=at-1", "actor='x'", "structure_id='x'", "subject='x'", "facts='{}'"]
)
def test_an_altered_event_is_found_where_it_is(connection, column):
    fill(connection, 11)
    damage(connection, f"UPDATE trail_event SET {column} WHERE sequence = 5")  # noqa: S608

    report = check(connection)

    assert report.problem is TrailProblem.EVENT_CHANGED
    assert report.first_bad == 5


def test_an_altered_event_with_its_leaf_made_again_is_found_in_its_seal(connection):
    fill(connection, 11)
    damage(connection, "UPDATE trail_event SET actor = 'x' WHERE sequence = 5")
    row = connection.execute(
        "SELECT salt, kind, at, actor, structure_id, subject, facts FROM trail_event"
        " WHERE sequence = 5"
    ).fetchone()
    leaf = trail.leaf_of(row[0], trail.canonical(*row[1:]))
    connection.execute("UPDATE trail_event SET leaf = ? WHERE sequence = 5", (leaf,))

    report = check(connection)

    assert report.problem is TrailProblem.ROOT_MISMATCH
    assert report.first_bad == 4


def test_an_event_missing_in_the_middle_is_found(connection):
    fill(connection, 11)
    damage(connection, "DELETE FROM trail_event WHERE sequence = 6")

    report = check(connection)

    assert report.problem is TrailProblem.MISSING
    assert report.first_bad == 6


def test_a_missing_event_hidden_by_renumbering_is_found(connection):
    fill(connection, 11)
    damage(
        connection,
        "DELETE FROM trail_event WHERE sequence = 6",
        "UPDATE trail_event SET sequence = sequence - 1 WHERE sequence > 6",
    )

    report = check(connection)

    assert report.problem is TrailProblem.ROOT_MISMATCH
    assert report.first_bad == 4


def test_two_events_swapped_are_found(connection):
    fill(connection, 11)
    damage(
        connection,
        "UPDATE trail_event SET sequence = -1 WHERE sequence = 5",
        "UPDATE trail_event SET sequence = 5 WHERE sequence = 6",
        "UPDATE trail_event SET sequence = 6 WHERE sequence = -1",
    )

    report = check(connection)

    assert report.problem is TrailProblem.ROOT_MISMATCH


def test_a_cut_tail_is_found_by_the_stored_roots(connection):
    fill(connection, 11)
    damage(connection, "DELETE FROM trail_event WHERE sequence >= 9")

    report = check(connection)

    assert report.problem is TrailProblem.TAIL_CUT
    assert report.first_bad == 9


def test_a_tail_cut_with_its_roots_is_found_only_by_an_outside_root(connection):
    roots = fill(connection, 11)
    damage(
        connection,
        "DELETE FROM trail_event WHERE sequence >= 8",
        "DELETE FROM trail_root WHERE size > 8",
    )

    assert check(connection).sound
    report = check(connection, [SignedRoot.parse(roots[-1].encode())])
    assert report.problem is TrailProblem.TAIL_CUT
    assert report.first_bad == 8


def test_a_whole_rewrite_by_the_holder_of_the_key_is_found_by_an_outside_root(connection):
    roots = fill(connection, 8)
    damage(connection, "DELETE FROM trail_event", "DELETE FROM trail_root")
    fill(connection, 8)

    assert check(connection).sound
    report = check(connection, [roots[0]])
    assert report.problem is TrailProblem.ROOT_MISMATCH
    assert report.first_bad == 0


def test_a_rewrite_without_the_key_is_found(connection):
    fill(connection, 4)
    damage(connection, "DELETE FROM trail_event", "DELETE FROM trail_root")
    trail.append(connection, TABLES, [event(1)])
    trail.seal(connection, Sealing(AT, Ed25519PrivateKey.generate().sign))

    assert check(connection).problem is TrailProblem.ROOT_SIGNATURE


def test_a_forged_outside_root_is_found(connection):
    roots = fill(connection, 4)
    forged = SignedRoot(roots[0].size, b"\0" * 32, roots[0].at, roots[0].signature)

    assert check(connection, [forged]).problem is TrailProblem.ROOT_SIGNATURE


def test_events_sealed_without_a_root_are_found(connection):
    fill(connection, 8)
    damage(connection, "DELETE FROM trail_root WHERE size = 8")

    report = check(connection)

    assert report.problem is TrailProblem.UNCOVERED
    assert report.first_bad == 4


def test_an_erased_payload_leaves_the_tree_sound(connection):
    fill(connection, 8)
    trail.append(connection, TABLES, [event(8, subject="patient:8")])
    trail.seal(connection, Sealing(AT, KEY.sign))

    assert trail.erase(connection, "patient:8") == 1

    report = check(connection)
    assert report.sound
    assert report.erased == 1
    assert trail.events_of(connection, "patient:8") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trail_event SET actor = 'x' WHERE sequence = 1",
        "UPDATE trail_event SET sequence = 99 WHERE sequence = 1",
        "DELETE FROM trail_event WHERE sequence = 1",
        "DELETE FROM trail_root",
    ],
)
def test_the_program_itself_cannot_change_what_is_sealed(connection, statement):
    fill(connection, 4)

    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


def test_events_come_back_newest_first_with_their_facts_on_one_line(connection):
    fill(connection, 3)

    events = trail.events_of(connection, "patient:7", limit=2)

    assert [stored.event for stored in events] == [event(2), event(1)]
    assert events[0].sequence == 2
    text = connection.execute("SELECT facts FROM trail_event").fetchone()[0]
    assert "\n" not in text


def test_facts_over_the_limit_are_refused(connection):
    def of(length: int) -> AuditEvent:
        return AuditEvent("k", AT, "a", facts={"x": "y" * length})

    trail.append(connection, TABLES, [of(trail.MAX_FACTS_BYTES - 8)])
    for length in (trail.MAX_FACTS_BYTES - 7, 10 * trail.MAX_FACTS_BYTES):
        with pytest.raises(ValueError, match="too large"):
            trail.append(connection, TABLES, [of(length)])


def test_a_resumed_range_gives_the_root_of_the_whole(connection):
    leaves = [bytes([n]) * 32 for n in range(37)]
    whole = CompactRange()
    resumed = CompactRange()
    for leaf in leaves:
        whole.append(leaf)
        resumed = CompactRange.resume(resumed.size, resumed.peaks())
        resumed.append(leaf)

        assert whole.root() == resumed.root() == _root(leaves[: whole.size])


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, written as the RFC says it."""
    import hashlib

    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = _root(leaves[:split]), _root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()
