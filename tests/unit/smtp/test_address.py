"""Paths of MAIL and RCPT: the forms relays were fooled with, and the parameters (S11 to S13).

Source: RFC 5321 §4.1.2, RFC 1870 §6, RFC 6152 §3, RFC 3461 §4.
"""

import pytest

from certs.addresses import Address
from mailserver.message.envelope import MailOptions, Notify, Return
from mailserver.smtp import replies
from mailserver.smtp.address import (
    BarePostmaster,
    BodyType,
    Extensions,
    MailCommand,
    PathError,
    is_helo_name,
    parse_mail,
    parse_rcpt,
)

PLAIN = Extensions(size_limit=1000, auth=False)
LOGIN = Extensions(size_limit=1000, auth=True)
A = Address("dr", "chu-a.mssante.test")


def refusal(argument: str) -> object:
    with pytest.raises(PathError) as caught:
        parse_rcpt(argument)
    return caught.value.reply


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("FROM:<dr@chu-a.mssante.test>", MailCommand(A, None, BodyType.SEVEN_BIT)),
        ("from:<dr@CHU-A.MSSante.test>", MailCommand(A, None, BodyType.SEVEN_BIT)),
        ("FROM: <dr@chu-a.mssante.test>", MailCommand(A, None, BodyType.SEVEN_BIT)),
        ("FROM:<>", MailCommand(None, None, BodyType.SEVEN_BIT)),
        ("FROM:<> SIZE=1000 BODY=8bitmime", MailCommand(None, 1000, BodyType.EIGHT_BIT)),
        ("FROM:<dr@chu-a.mssante.test> size=0", MailCommand(A, 0, BodyType.SEVEN_BIT)),
    ],
)
def test_mail_is_read(argument: str, command: MailCommand) -> None:
    assert command == parse_mail(argument, PLAIN)


def test_the_null_sender_is_kept_as_two_angles() -> None:
    assert parse_mail("FROM:<>", PLAIN).wire_path == "<>"


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("FROM:<> SIZE=1001", replies.TOO_BIG),
        ("FROM:<> SIZE=99999999999999999999", replies.TOO_BIG),
        ("FROM:<> SIZE=999999999999999999999", replies.BAD_ARGUMENTS),
        ("FROM:<> SIZE=-1", replies.BAD_ARGUMENTS),
        ("FROM:<> SIZE", replies.BAD_ARGUMENTS),
        ("FROM:<> SIZE=1 SIZE=1", replies.BAD_ARGUMENTS),
        ("FROM:<> BODY=BINARYMIME", replies.BAD_ARGUMENTS),
        ("FROM:<> SMTPUTF8=1", replies.BAD_ARGUMENTS),
        ("FROM:<> REQUIRETLS", replies.BAD_PARAMETER),
        ("FROM:<é@chu-a.mssante.test>", replies.NEEDS_SMTPUTF8),
        ("FROM:<> RET=NONE", replies.BAD_ARGUMENTS),
        ("FROM:<> ENVID=a+", replies.BAD_ARGUMENTS),
        ("FROM:<> AUTH=<>", replies.BAD_PARAMETER),
        ("FROM:<> =", replies.BAD_ARGUMENTS),
        ("FROM:<>SIZE=1", replies.BAD_ARGUMENTS),
        ("FROM:dr@chu-a.mssante.test", replies.BAD_ARGUMENTS),
        ("FROM:<dr@chu-a.mssante.test", replies.BAD_ARGUMENTS),
        ("FROM", replies.BAD_ARGUMENTS),
        ("", replies.BAD_ARGUMENTS),
        ("TO:<dr@chu-a.mssante.test>", replies.BAD_ARGUMENTS),
        ("FROM:<postmaster>", replies.BAD_SENDER_ADDRESS),
        ("FROM:<> " + " ".join(f"A{n}=1" for n in range(11)), replies.BAD_ARGUMENTS),
    ],
)
def test_mail_is_refused(argument: str, reply: object) -> None:
    with pytest.raises(PathError) as caught:
        parse_mail(argument, PLAIN)

    assert reply == caught.value.reply


def test_auth_is_taken_and_ignored_where_logins_are() -> None:
    assert parse_mail("FROM:<dr@chu-a.mssante.test> AUTH=<>", LOGIN).reverse_path == A


@pytest.mark.parametrize(
    "path",
    [
        "x@X@chu-a.mssante.test",
        '"x@X"@chu-a.mssante.test',
        '""@chu-a.mssante.test',
        '"a\\"b"@chu-a.mssante.test',
        "x@[127.0.0.1]",
        "x@[IPv6:::1]",
        "x@chu-a.mssante.test.",
        "x@.chu-a.mssante.test",
        "x@chu-a..mssante.test",
        "x@localhost",
        "x@",
        "@",
        "x",
        "",
        "x y@chu-a.mssante.test",
        "x@chu-a.mssante.test,y@chu-a.mssante.test",
        ".x@chu-a.mssante.test",
        "x.@chu-a.mssante.test",
        "x@-chu-a.mssante.test",
        "dr@chu-\u0430.mssante.test",
        "x" * 65 + "@chu-a.mssante.test",
    ],
)
def test_what_two_servers_could_read_as_two_mailboxes_is_refused(path: str) -> None:
    reply = refusal(f"TO:<{path}>")

    assert reply in {
        replies.BAD_RECIPIENT_ADDRESS,
        replies.SOURCE_ROUTE,
        replies.NEEDS_SMTPUTF8,
    }


@pytest.mark.parametrize("path", ["@chu-a.mssante.test:x@evil.test", "@a.test,@b.test:x@c.test"])
def test_a_source_route_is_refused(path: str) -> None:
    assert refusal(f"TO:<{path}>") == replies.SOURCE_ROUTE


@pytest.mark.parametrize("path", ["x%evil.test@chu-a.mssante.test", "a!x@chu-a.mssante.test"])
def test_percent_and_bang_are_letters_of_a_local_part(path: str) -> None:
    assert parse_rcpt(f"TO:<{path}>").forward_path == Address(
        path.rpartition("@")[0], "chu-a.mssante.test"
    )


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
def test_the_bare_postmaster_is_known(name: str) -> None:
    assert parse_rcpt(f"TO:<{name}>").forward_path == BarePostmaster()


@pytest.mark.parametrize("tail", [" SIZE=1", " BODY=8BITMIME", " RRVS=x"])
def test_rcpt_takes_no_other_parameter(tail: str) -> None:
    assert refusal("TO:<dr@chu-a.mssante.test>" + tail) == replies.BAD_PARAMETER


@pytest.mark.parametrize(
    "tail", [" NOTIFY=NEVER,SUCCESS", " NOTIFY=", " ORCPT=x@y.test", " ORCPT=rfc822;a+ZZ"]
)
def test_a_recipients_wish_is_read_strictly(tail: str) -> None:
    assert refusal("TO:<dr@chu-a.mssante.test>" + tail) == replies.BAD_ARGUMENTS


def test_what_a_sender_wishes_to_be_told_is_read() -> None:
    mail = parse_mail("FROM:<dr@chu-a.mssante.test> RET=HDRS ENVID=QQ+2B314159", PLAIN)
    rcpt = parse_rcpt("TO:<dr@chu-a.mssante.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@y.test")

    assert mail.options == MailOptions(ret=Return.HEADERS, envid="QQ+314159")
    assert rcpt.options.wants(Notify.SUCCESS)
    assert rcpt.options.wants(Notify.DELAY)
    assert not rcpt.options.wants(Notify.FAILURE)
    assert rcpt.options.orcpt == "rfc822;x@y.test"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("mail.chu-a.mssante.test", True),
        ("localhost", True),
        ("POSTE_1", True),
        ("poste_1.cabinet.test", True),
        ("[127.0.0.1]", True),
        ("[IPv6:2001:db8::1]", True),
        ("", False),
        ("a b", False),
        ("<script>", False),
        ("[]", False),
        ("[a(b)]", False),
        ("x" * 300, False),
    ],
)
def test_a_helo_name_can_stand_in_a_trace_field(name: str, good: bool) -> None:  # noqa: FBT001
    assert good is is_helo_name(name)


def test_an_address_error_says_nothing_of_the_address() -> None:
    with pytest.raises(PathError) as caught:
        parse_rcpt("TO:<ZZCANARY@@x>")

    assert "ZZCANARY" not in str(caught.value) + repr(caught.value)
