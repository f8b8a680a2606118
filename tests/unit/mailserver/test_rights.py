"""Rights as letters. Source: RFC 4314 §2.1, §2.1.1, §3.1."""

import pytest

from mailserver.store.errors import UnknownRightError
from mailserver.store.rights import (
    ALL,
    COLLEAGUE,
    LETTERS,
    NONE,
    RightsMode,
    changed,
    encode_rights,
    parse_rights,
    shown_rights,
)


def test_every_letter_is_read_and_written_in_one_order() -> None:
    assert parse_rights(LETTERS[::-1]) == ALL
    assert encode_rights(ALL) == LETTERS
    assert parse_rights("") == NONE


@pytest.mark.parametrize(("old", "meant"), [("c", "kx"), ("d", "te"), ("cd", "kxte")])
def test_an_old_letter_stands_for_several(old: str, meant: str) -> None:
    assert parse_rights(old) == frozenset(meant)


@pytest.mark.parametrize("letter", ["L", "0", "z", " ", "-", "é"])
def test_another_letter_is_no_right(letter: str) -> None:
    with pytest.raises(UnknownRightError):
        parse_rights("lr" + letter)


@pytest.mark.parametrize(
    ("rights", "shown"),
    [("lr", "lr"), ("lrk", "lrkc"), ("lrx", "lrxc"), ("lrt", "lrtd"), ("lre", "lred")],
)
def test_an_old_letter_is_shown_beside_any_that_it_stands_for(rights: str, shown: str) -> None:
    assert shown_rights(frozenset(rights)) == shown


@pytest.mark.parametrize(
    ("mode", "named", "after"),
    [
        (RightsMode.REPLACE, "l", "l"),
        (RightsMode.REPLACE, "", ""),
        (RightsMode.ADD, "sa", "lrsa"),
        (RightsMode.REMOVE, "rs", "l"),
    ],
)
def test_setacl_replaces_adds_and_removes(mode: RightsMode, named: str, after: str) -> None:
    assert changed(frozenset("lr"), mode, frozenset(named)) == frozenset(after)


def test_a_colleague_neither_deletes_folders_nor_shares_on() -> None:
    assert frozenset("xa") == ALL - COLLEAGUE
