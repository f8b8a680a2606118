"""Codes in words, for whoever looks after the queue."""

import pytest

from mailserver.message.status import meaning


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("550 5.1.1", "no such mailbox there"),
        ("5.1.1", "no such mailbox there"),
        ("451 4.4.1", "the server does not answer"),
        ("902", "the patient is not known there"),
        ("250 2.1.1", ""),
        ("550 5.99.99", ""),
        ("550", ""),
        ("", ""),
        ("907", ""),
    ],
)
def test_a_code_is_said_in_words(code: str, words: str) -> None:
    assert meaning(code) == words
