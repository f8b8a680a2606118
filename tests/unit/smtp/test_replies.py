"""Replies are fixed, printable and shaped as RFC 5321 and RFC 3463 want.

Source: RFC 3463 §3, RFC 2034 §4.
"""

import re

import pytest

from mailserver.delivery.errors import Reply
from mailserver.smtp import replies

ALL = {name: each for name, each in vars(replies).items() if isinstance(each, Reply)}


@pytest.mark.parametrize("reply", ALL.values(), ids=ALL.keys())
def test_a_reply_is_one_printable_line_whose_codes_agree(reply: Reply) -> None:
    line = replies.encode(reply)

    assert re.fullmatch(rb"[245]\d\d [245]\.\d\.\d{1,2} [\x20-\x7e]+\r\n", line)
    assert len(line) <= 512
    assert str(reply.code)[0] == reply.enhanced[0]


def test_the_promise_names_the_receipt() -> None:
    assert replies.encode(replies.accepted("0198f")) == b"250 2.0.0 0198f\r\n"


def test_what_was_not_foreseen_is_never_permanent() -> None:
    assert replies.LOCAL_ERROR.code == 451
