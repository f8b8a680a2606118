"""What one message may be asked of one server, and what its replies mean.

Source: RFC 1870 §6, RFC 6152 §3, RFC 6531 §3.2, RFC 8689 §4.2, RFC 9422 §3.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mailserver.message.envelope import MailOptions
from mailserver.outbound.client import Offer, ServerReply, Transmission, is_path, stuffed
from mailserver.outbound.transaction import (
    MAX_RECIPIENTS,
    NO_EIGHT_BIT,
    NO_REQUIRETLS,
    NO_UTF8,
    TOO_BIG,
    jobs,
    portions,
    refused_here,
    too_many,
)
from mailserver.store.model import Outgoing

AT = datetime(2026, 11, 22, tzinfo=UTC)
EVERYTHING = Offer({"SIZE": "1000", "8BITMIME": "", "SMTPUTF8": "", "REQUIRETLS": ""})


def item(number: int, message: int = 1, domain: str = "a.test") -> Outgoing:
    return Outgoing(
        id=number,
        message_id=message,
        recipient_id=number,
        reverse_path="dr@cab.test",
        forward_path=f"x{number}@{domain}",
        domain=domain,
        attempts=0,
        octets=10,
        mailbox_id=1,
        queued_at=AT,
    )


def test_recipients_of_one_message_and_domain_are_one_job_in_order() -> None:
    due = [item(1), item(2, 2), item(3, 1, "b.test"), item(4), item(5, 2)]

    found = jobs(due)

    assert list(found) == ["a.test", "b.test"]
    assert [[each.id for each in job.items] for job in found["a.test"]] == [[1, 4], [2, 5]]
    assert [job.first.id for job in found["b.test"]] == [3]


@pytest.mark.parametrize(
    ("octets", "size", "refused"),
    [(999, "1000", False), (1000, "1000", False), (1001, "1000", True), (10**9, "1000", True),
     (10**9, "0", False), (10**9, "", False), (10**9, "many", False)],
)  # fmt: skip
def test_a_message_over_the_size_a_server_says_is_refused_here(
    octets: int,
    size: str,
    refused: bool,  # noqa: FBT001
) -> None:
    found = refused_here(item(1), octets, Offer({"SIZE": size}), eight_bit=False)

    assert found == (TOO_BIG if refused else None)


@pytest.mark.parametrize(
    ("keyword", "options", "eight_bit", "refusal"),
    [
        ("REQUIRETLS", MailOptions(require_tls=True), False, NO_REQUIRETLS),
        ("SMTPUTF8", MailOptions(smtputf8=True), True, NO_UTF8),
        ("8BITMIME", MailOptions(), True, NO_EIGHT_BIT),
    ],
)
def test_what_a_message_needs_and_a_server_does_not_offer_is_a_refusal(
    keyword: str,
    options: MailOptions,
    eight_bit: bool,  # noqa: FBT001
    refusal: ServerReply,
) -> None:
    needy = replace(item(1), mail=options)
    without = Offer({key: value for key, value in EVERYTHING.keywords.items() if key != keyword})

    assert refused_here(needy, 10, without, eight_bit=eight_bit) == refusal
    assert refused_here(needy, 10, EVERYTHING, eight_bit=eight_bit) is None


@pytest.mark.parametrize(
    ("count", "offer", "sizes"),
    [
        (1, {}, [1]),
        (MAX_RECIPIENTS, {}, [MAX_RECIPIENTS]),
        (MAX_RECIPIENTS + 1, {}, [MAX_RECIPIENTS, 1]),
        (5, {"LIMITS": "RCPTMAX=2"}, [2, 2, 1]),
        (5, {"LIMITS": "MAILMAX=9 rcptmax=4"}, [4, 1]),
        (MAX_RECIPIENTS + 1, {"LIMITS": "RCPTMAX=100000"}, [MAX_RECIPIENTS, 1]),
        (3, {"LIMITS": "RCPTMAX=0"}, [3]),
        (3, {"LIMITS": "RCPTMAX=x RCPTDOMAINMAX=1"}, [3]),
    ],
)
def test_a_transaction_never_has_more_recipients_than_the_server_takes(
    count: int, offer: dict[str, str], sizes: list[int]
) -> None:
    items = [item(number) for number in range(count)]

    found = portions(items, Offer(offer))

    assert [len(portion) for portion in found] == sizes
    assert [each for portion in found for each in portion] == items


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (452, "4.5.3 Too many recipients", True),
        (452, "too many recipients", True),
        (452, "4.3.1 Insufficient system storage", False),
        (552, "5.5.3 Too many recipients", False),
        (450, "4.5.3 x", False),
    ],
)
def test_only_452_about_recipients_means_that_others_came_first(
    code: int,
    text: str,
    expected: bool,  # noqa: FBT001
) -> None:
    assert too_many(ServerReply(code, text)) is expected


def test_the_reply_that_settles_a_recipient_is_the_first_refusal_on_its_way() -> None:
    ok, no, later = ServerReply(250, "ok"), ServerReply(550, "no"), ServerReply(451, "later")

    assert Transmission(later, (no, ok), None).outcome(0) == later
    assert Transmission(ok, (no, ok), ok).outcome(0) == no
    assert Transmission(ok, (no, ok), later).outcome(1) == later
    assert Transmission(ok, (no, no), None).outcome(1) == no


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
        (b"a\n.\r\n", b"a\n.\r\n.\r\n"),
        (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
    ],
)
def test_dots_at_line_starts_are_doubled_and_nothing_else_is_changed(
    message: bytes, sent: bytes
) -> None:
    assert stuffed(message) == sent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("a@b.test", True),
        ("a>@b.test", False),
        ("<a@b.test", False),
        ("a b@c.test", False),
        ("a@b.test\r\nRSET", False),
        ("a@b.test\x00", False),
        ("é@b.test", True),
        ("a\u2028@b.test", False),
        ("a\u200b@b.test", False),
        ("a\x85@b.test", False),
    ],
)
def test_what_could_end_a_command_is_no_path(text: str, expected: bool) -> None:  # noqa: FBT001
    assert is_path(text) is expected
