"""Base subjects, collation and threads.

Source: RFC 5256 §2.1, §3, §4; RFC 5051 §2; RFC 5957 §3.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.ordering import (
    BaseSubject,
    Threaded,
    base_subject,
    casemap,
    encode_threads,
    ordered_subject,
    references,
    sort_positions,
)


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("hello", "hello", False),
        ("Re: hello", "hello", True),
        ("RE : RE: hello", "hello", True),
        ("Fw: Fwd: hello", "hello", True),
        ("re[2]: hello", "hello", True),
        ("[list] Re: hello", "hello", True),
        ("[list] hello", "hello", False),
        ("[list][other] hello", "hello", False),
        ("[only]", "[only]", False),
        ("[a] [only]", "[only]", False),
        ("hello (fwd) (FWD)  ", "hello", True),
        ("hello (fwd", "hello (fwd", False),
        ("[fwd: hello]", "hello", True),
        ("[Fwd: Re: [x] hello (fwd)]", "hello", True),
        ("  two\t\r\n words  ", "two words", False),
        ("Re:", "", True),
        ("", "", False),
        ("refund", "refund", False),
        ("Ré: été", "Ré: été", False),
    ],
)
def test_a_base_subject_is_what_answering_and_forwarding_leave(subject, base, is_reply):
    assert base_subject(subject) == BaseSubject(base, is_reply)


@given(st.text(alphabet="[]re: fwd()ab", max_size=40))
def test_a_base_subject_of_a_base_subject_is_itself(subject):
    once = base_subject(subject).text
    assert base_subject(once).text == once


@pytest.mark.parametrize("subject", ["[" * 4000, "[a]" * 1333, "re " * 1333, "(fwd)" * 800])
def test_a_hostile_subject_of_the_stored_length_is_read(subject):
    assert len(base_subject(subject).text) <= len(subject)


def test_the_collation_knows_no_case_and_takes_letters_apart():
    assert casemap("abc_") == "ABC_"
    assert casemap("é") == casemap("É") == casemap("e\u0301")
    assert casemap("ﬁ") == casemap("fi") or casemap("ﬁ").startswith("F")


def test_equal_messages_keep_the_order_of_the_folder_also_in_reverse():
    values = {0: "b", 1: "a", 2: "b", 3: "a"}
    assert sort_positions(range(4), [(values.__getitem__, False)]) == [1, 3, 0, 2]
    assert sort_positions(range(4), [(values.__getitem__, True)]) == [0, 2, 1, 3]
    sizes = {0: 1, 1: 2, 2: 2, 3: 1}
    criteria = [(values.__getitem__, False), (sizes.__getitem__, True)]
    assert sort_positions(range(4), criteria) == [1, 3, 2, 0]


def message(number, subject="s", message_id=None, refs=(), at=None):
    return Threaded(
        number,
        f"<{number}@x>" if message_id is None else message_id,
        tuple(f"<{ref}@x>" for ref in refs),
        number if at is None else at,
        base_subject(subject),
    )


def threads(*messages):
    return encode_threads(references(list(messages))).decode()


def test_answers_stand_below_what_they_answer():
    # RFC 5256 §4: "(2)(3 6 (4 23)(44 7 96))"
    assert (
        threads(
            message(2, "a"),
            message(3, "b"),
            message(6, "Re: b", refs=[3]),
            message(4, "Re: b", refs=[3, 6]),
            message(23, "Re: b", refs=[3, 6, 4]),
            message(44, "Re: b", refs=[3, 6]),
            message(7, "Re: b", refs=[3, 6, 44]),
            message(96, "Re: b", refs=[3, 6, 44, 7]),
        )
        == "(2)(3 6 (4 23)(44 7 96))"
    )


def test_a_missing_ancestor_holds_its_children_together():
    assert threads(message(1, "x", refs=[99]), message(2, "y", refs=[99])) == "((1)(2))"
    assert threads(message(1, "x", refs=[99])) == "(1)"
    assert threads(message(1, "x", refs=[98, 99]), message(2, "y", refs=[98])) == "((1)(2))"


def test_threads_of_one_subject_become_one():
    assert threads(message(1, "x"), message(2, "Re: x")) == "(1 2)"
    assert threads(message(1, "Re: x"), message(2, "x")) == "(2 1)"
    assert threads(message(1, "x"), message(2, "X ")) == "((1)(2))"
    assert threads(message(1, "x"), message(2, "x"), message(3, "x")) == "((1)(2)(3))"
    assert threads(message(1, ""), message(2, "")) == "(1)(2)"
    assert threads(message(1, "q"), message(2, "x"), message(3, "x"), message(4, "z")) == (
        "(1)((2)(3))(4)"
    )


def test_circles_and_twins_lose_nobody():
    assert threads(message(1, "x", refs=[1])) == "(1)"
    assert threads(message(1, "a", refs=[2]), message(2, "b", refs=[1])) in ("(2 1)", "(1 2)")
    twins = threads(message(1, "a", "<t@x>"), message(2, "b", "<t@x>"), message(3, "c", ""))
    assert twins == "(1)(2)(3)"


def test_subjects_thread_by_date_when_asked_so():
    found = ordered_subject(
        [message(1, "a", at=9), message(2, "b"), message(3, "Re: a"), message(4, "A")]
    )
    assert encode_threads(found) == b"(2)(3 (4)(1))"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "Re: a", "b", "Fwd: b"]),
            st.lists(st.integers(1, 12), max_size=4),
            st.integers(0, 5),
        ),
        max_size=12,
    )
)
def test_every_message_is_in_exactly_one_thread(described):
    messages = [
        message(number, subject, refs=refs, at=at)
        for number, (subject, refs, at) in enumerate(described, 1)
    ]
    for algorithm in (references, ordered_subject):
        said = encode_threads(algorithm(messages)).decode()
        numbers = said.replace("(", " ").replace(")", " ").split()
        assert sorted(map(int, numbers)) == list(range(1, len(messages) + 1))
        assert said.count("(") == said.count(")")


def test_ten_thousand_answers_in_a_row_are_a_thread_and_no_recursion():
    chain = [
        message(n, "x" if n == 1 else "Re: x", refs=[n - 1] if n > 1 else ())
        for n in range(1, 10_001)
    ]
    said = encode_threads(references(chain))
    assert said.count(b" ") + said.count(b"(") >= 10_000
