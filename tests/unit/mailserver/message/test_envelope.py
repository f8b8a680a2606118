"""Parameters of MAIL and RCPT: read, kept, said again.

Source: RFC 3461 §4, RFC 8689 §3, RFC 6531 §3.4.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.message.envelope import (
    MAX_ENVID,
    MAX_ORCPT,
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    EnvelopeError,
    MailOptions,
    Notify,
    RecipientOptions,
    Return,
    mail_parameters,
    parse_mail_options,
    parse_notify,
    parse_recipient_options,
    parse_xtext,
    recipient_parameters,
    stored_recipient,
    xtext,
)

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


@given(PRINTABLE)
def test_xtext_is_read_back_as_it_was_written(text: str) -> None:
    written = xtext(text)

    assert parse_xtext(written, 3 * len(text)) == text
    assert not set(written) & set(" =\r\n<>\x7f") - set("<>")
    assert " " not in written
    assert "=" not in written


@pytest.mark.parametrize(
    "value",
    ["", "a b", "a=b", "+", "+4", "+4g", "+aa", "+0D+0A", "+00", "+7F", "é", "a\r\nRSET"],
)
def test_what_is_no_xtext_is_refused(value: str) -> None:
    with pytest.raises(EnvelopeError):
        parse_xtext(value, 100)


@pytest.mark.parametrize(
    ("length", "taken"), [(MAX_ENVID, True), (MAX_ENVID + 1, False), (10_000, False)]
)
def test_an_envid_has_at_most_100_characters(length: int, taken: bool) -> None:  # noqa: FBT001
    parameters = {"ENVID": "x" * length}
    if taken:
        assert parse_mail_options(parameters).envid == "x" * length
    else:
        with pytest.raises(EnvelopeError):
            parse_mail_options(parameters)


@pytest.mark.parametrize(
    ("length", "taken"), [(MAX_ORCPT, True), (MAX_ORCPT + 1, False), (10_000, False)]
)
def test_an_orcpt_has_at_most_500_characters(length: int, taken: bool) -> None:  # noqa: FBT001
    parameters = {"ORCPT": "rfc822;" + "x" * length}
    if taken:
        assert parse_recipient_options(parameters).orcpt == "rfc822;" + "x" * length
    else:
        with pytest.raises(EnvelopeError):
            parse_recipient_options(parameters)


def test_every_parameter_of_mail_is_read() -> None:
    found = parse_mail_options(
        {"RET": "hdrs", "ENVID": "a+3Db", "REQUIRETLS": "", "SMTPUTF8": "", "SIZE": "5"}
    )

    assert found == MailOptions(Return.HEADERS, "a=b", require_tls=True, smtputf8=True)
    assert mail_parameters(found) == ["RET=HDRS", "ENVID=a+3Db"]


@pytest.mark.parametrize(
    "parameters",
    [{"RET": "BODY"}, {"RET": ""}, {"REQUIRETLS": "x"}, {"SMTPUTF8": "1"}, {"ENVID": ""}],
)
def test_a_value_that_is_none_is_refused_for_mail(parameters: dict[str, str]) -> None:
    with pytest.raises(EnvelopeError):
        parse_mail_options(parameters)


def test_every_parameter_of_rcpt_is_read() -> None:
    found = parse_recipient_options({"NOTIFY": "success,Delay", "ORCPT": "RFC822;Dr+2BX@b.test"})

    assert found == RecipientOptions(
        frozenset({Notify.SUCCESS, Notify.DELAY}), "rfc822;Dr+X@b.test"
    )
    assert recipient_parameters(found) == [
        "NOTIFY=DELAY,SUCCESS",
        "ORCPT=rfc822;Dr+2BX@b.test",
    ]


@pytest.mark.parametrize(
    "value", ["", "NEVER,SUCCESS", "SUCCESS,SUCCESS", "ALWAYS", "SUCCESS,", ",", "SUCCESS DELAY"]
)
def test_a_notify_that_says_two_things_is_refused(value: str) -> None:
    with pytest.raises(EnvelopeError):
        parse_notify(value)


@pytest.mark.parametrize("value", ["b@c.test", ";b@c.test", "a b;c", "rfc822;"])
def test_an_orcpt_without_type_or_address_is_refused(value: str) -> None:
    with pytest.raises(EnvelopeError):
        parse_recipient_options({"ORCPT": value})


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, {Notify.FAILURE, Notify.DELAY}),
        ("NEVER", set()),
        ("SUCCESS", {Notify.SUCCESS}),
        ("FAILURE", {Notify.FAILURE}),
        ("SUCCESS,FAILURE,DELAY", set(Notify)),
    ],
)
def test_a_sender_is_told_what_they_asked_for(said: str | None, told: set[Notify]) -> None:
    options = parse_recipient_options({} if said is None else {"NOTIFY": said})

    assert {each for each in Notify if options.wants(each)} == told
    assert stored_recipient(options.stored, options.orcpt) == options


def test_nothing_asked_is_nothing_said() -> None:
    assert mail_parameters(PLAIN_MAIL) == []
    assert recipient_parameters(PLAIN_RECIPIENT) == []
    assert parse_mail_options({}) == PLAIN_MAIL
    assert parse_recipient_options({}) == PLAIN_RECIPIENT
