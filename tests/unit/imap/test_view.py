from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.view import FolderView, Snapshot
from mailserver.store.model import NO_FLAGS, EntryRow, Flag, Folder

AT = datetime(2026, 3, 2, tzinfo=UTC)
FOLDER = Folder(1, 1, "INBOX", 1, 1, 1, None, subscribed=True)


def row(uid: int, modseq: int, flags: Flag = NO_FLAGS) -> EntryRow:
    return EntryRow(uid, uid, modseq, flags, frozenset(), 10, AT, uid)


def opened(*uids: int) -> FolderView:
    return FolderView(FOLDER, Snapshot.of([row(uid, 1) for uid in uids], 1))


def test_numbers_stand_until_expunges_are_taken():
    view = opened(1, 2, 3, 4)
    view.absorb([], [2, 4], 2)
    assert len(view) == 4

    told = view.take_expunges()

    assert told.expunged == (2, 3)
    assert told.vanished == (2, 4)
    assert view.uids == [1, 3]


def test_an_older_row_never_undoes_a_newer_one():
    view = opened(1)
    view.apply([row(1, 5, Flag.SEEN)])

    assert view.apply([row(1, 3)]) == []
    assert view.rows[0].flags == Flag.SEEN


def test_what_was_told_already_is_not_told_again():
    view = opened(1)
    view.absorb([row(1, 2, Flag.SEEN), row(2, 3)], [], 3)

    again = view.absorb([row(1, 2, Flag.SEEN), row(2, 3)], [], 3)

    assert (again.exists, again.changed) == (None, ())


def test_a_message_expunged_before_it_was_told_never_comes_back():
    view = opened(1)
    view.absorb([row(2, 2)], [], 2)
    view.absorb([], [2], 3)
    view.take_expunges()

    told = view.absorb([row(2, 2)], [2], 3)

    assert told.exists is None
    assert view.uids == [1]


def test_views_of_one_snapshot_do_not_disturb_each_other():
    snapshot = Snapshot.of([row(uid, 1) for uid in (1, 2, 3)], 1)
    one, two = FolderView(FOLDER, snapshot), FolderView(FOLDER, snapshot)
    one.absorb([row(1, 2, Flag.SEEN), row(4, 2)], [2], 2)
    one.take_expunges()

    assert one.uids == [1, 3, 4]
    assert two.uids == snapshot.uids == [1, 2, 3]
    assert two.rows[0].flags == Flag(0)


@given(
    st.sets(st.integers(1, 9)),
    st.sets(st.integers(1, 12)),
    st.sets(st.integers(1, 12)),
)
def test_a_snapshot_takes_in_what_changed_and_shares_what_did_not(there, changed, gone):
    before = Snapshot.of([row(uid, 1) for uid in sorted(there)], 1)
    kept = list(before.rows)

    after = before.merged([row(uid, 2, Flag.SEEN) for uid in changed], gone, 2)

    assert after.uids == [each.uid for each in after.rows] == sorted((there | changed) - gone)
    assert {each.uid for each in after.rows if each.modseq == 2} == changed - gone
    assert (after.modseq, before.rows) == (2, kept)


def test_a_snapshot_names_every_keyword_in_use():
    before = Snapshot.of([row(1, 1)._replace(keywords=frozenset({"a"}))], 1)

    after = before.merged([row(1, 2)._replace(keywords=frozenset({"b"}))], [], 2)

    assert before.keywords == {"a"}
    assert after.keywords >= {"b"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "flag", "gone", "take"]), st.integers(0, 9)), max_size=40
    )
)
def test_a_client_that_follows_what_it_is_told_has_the_folder(steps):
    view = opened(1, 2, 3)
    client = [1, 2, 3]
    alive = [1, 2, 3]
    modseq, nextuid = 1, 4
    for action, choice in steps:
        modseq += 1
        if action == "add":
            told = view.absorb([row(nextuid, modseq)], [], modseq)
            alive.append(nextuid)
            assert told.exists == len(client) + 1
            client.append(nextuid)
            nextuid += 1
        elif action == "flag" and alive:
            uid = alive[choice % len(alive)]
            told = view.absorb([row(uid, modseq, Flag(choice))], [], modseq)
            assert [client[at] for at in told.changed] == [uid]
        elif action == "gone" and alive:
            view.absorb([], [alive.pop(choice % len(alive))], modseq)
        elif action == "take":
            for number in view.take_expunges().expunged:
                del client[number - 1]
            assert client == alive
        assert view.uids == client


def test_an_older_row_takes_nothing_back_from_a_snapshot_that_knows_better() -> None:
    known = Snapshot.of([row(1, 9, Flag.SEEN)], 5)  # read after its modseq

    later = known.merged([row(1, 6)], (), 6)

    assert (later.rows, later.modseq) == ([row(1, 9, Flag.SEEN)], 6)
    assert later.merged([row(1, 9)], (), 9).rows == [row(1, 9)]
