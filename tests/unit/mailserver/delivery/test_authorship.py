"""Who may submit what under whose name, and what of a header is rewritten, as tables.

The same forms are sent through the listeners in tests/security/test_sending_rights.py; here every
capacity meets every field.

Source: threat S16, RFC 6409 §8, RFC 5322 §3.6.2, RULES §11.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from certs.mime import scan
from directory.codes import MailboxType
from mailserver.delivery.authorship import (
    Author,
    Capacity,
    Completion,
    Speaker,
    complete,
    is_null,
    judge_reverse_path,
    may_send,
    named,
)
from mailserver.delivery.errors import MALFORMED, NOT_YOUR_ADDRESS, ONE_OF_YOURS, Refused, Reply
from mailserver.store.model import Mailbox
from tests.support.sending_forms import HEADER

D = "cabinet.test"


def mailbox(number: int, local: str, kind: MailboxType = MailboxType.PER) -> Mailbox:
    return Mailbox(number, f"{local}@{D}", kind, "s", f"Dr {local}", None, filing=True)


OWN = mailbox(1, "Dr.Martin")
TEAM = mailbox(2, "Equipe", MailboxType.ORG)
DOCTOR = mailbox(3, "alice")
ASKED = mailbox(4, "bob")
APP = mailbox(5, "app", MailboxType.APP)
SPEAKER = Speaker(
    OWN,
    shared={TEAM.address.lower(): TEAM},
    delegated={DOCTOR.address: DOCTOR},
)
MEMBER = Speaker(TEAM, person=OWN, shared={TEAM.address.lower(): TEAM})
ALONE = Speaker(TEAM, person=OWN)
SOFTWARE = Speaker(APP, structure={ASKED.address: ASKED})


def closed(box: Mailbox) -> Mailbox:
    return replace(box, closed=True)


def judged(speaker: Speaker, header: str, path: str = "") -> object:
    """Who sends, by what right, whom Sender names, whose envelope; or the reply."""
    raw = f"{header}\r\n\r\nx".encode("latin-1")
    outcome = may_send(speaker, path, raw, scan(raw))
    if isinstance(outcome, Refused):
        return outcome.reply
    sender, envelope = (box and box.id for box in (outcome.sender, outcome.envelope))
    return outcome.mailbox.id, outcome.capacity, sender, envelope


def expected_of(form_reply: str) -> Reply:
    return next(
        reply
        for reply in (NOT_YOUR_ADDRESS, ONE_OF_YOURS, MALFORMED)
        if form_reply == f"{reply.code} {reply.enhanced} {reply.text}"
    )


@pytest.mark.parametrize("form", HEADER, ids=[form.name for form in HEADER])
def test_each_form_of_anothers_name_is_refused_and_its_honest_neighbour_taken(form):
    filled = {"own": OWN.address, "bob": ASKED.address, "domain": D}

    assert judged(Speaker(OWN), form.header.format(**filled)) == expected_of(form.reply)
    assert judged(Speaker(OWN), form.honest.format(**filled)) == (1, Capacity.OWN, None, None)


@pytest.mark.parametrize(
    ("speaker", "author", "outcome"),
    [
        pytest.param(SPEAKER, OWN, (1, Capacity.OWN, None, None), id="own"),
        pytest.param(SPEAKER, TEAM, (2, Capacity.SHARED, None, None), id="a team's"),
        pytest.param(SPEAKER, DOCTOR, (3, Capacity.DELEGATE, 1, None), id="delegated"),
        pytest.param(SPEAKER, ASKED, NOT_YOUR_ADDRESS, id="a colleague's"),
        pytest.param(SOFTWARE, ASKED, (4, Capacity.APPLICATION, None, None), id="application"),
        pytest.param(SOFTWARE, DOCTOR, NOT_YOUR_ADDRESS, id="application, another structure's"),
        pytest.param(MEMBER, TEAM, (2, Capacity.SHARED, None, None), id="by a team's login"),
        pytest.param(ALONE, TEAM, NOT_YOUR_ADDRESS, id="by a team's login, without the right"),
        pytest.param(MEMBER, OWN, NOT_YOUR_ADDRESS, id="by a team's login, their own"),
        pytest.param(Speaker(closed(OWN)), OWN, NOT_YOUR_ADDRESS, id="own, closed"),
        pytest.param(
            Speaker(OWN, shared={TEAM.address.lower(): closed(TEAM)}),
            TEAM,
            NOT_YOUR_ADDRESS,
            id="a team's, closed",
        ),
        pytest.param(
            Speaker(OWN, delegated={DOCTOR.address: closed(DOCTOR)}),
            DOCTOR,
            NOT_YOUR_ADDRESS,
            id="delegated, closed",
        ),
        pytest.param(
            Speaker(APP, structure={ASKED.address: closed(ASKED)}),
            ASKED,
            (4, Capacity.APPLICATION, None, None),
            id="the bridge answers for one that was closed since",
        ),
        pytest.param(
            Speaker(OWN, shared={DOCTOR.address: DOCTOR}, delegated={DOCTOR.address: DOCTOR}),
            DOCTOR,
            (3, Capacity.SHARED, None, None),
            id="the right to post goes before a delegation",
        ),
    ],
)
def test_who_writes_under_which_address(speaker: Speaker, author: Mailbox, outcome: object):
    assert judged(speaker, f"From: {author.address}") == outcome


@pytest.mark.parametrize(
    ("author", "path", "outcome"),
    [
        pytest.param(OWN, "", None, id="null"),
        pytest.param(OWN, "<>", None, id="null in brackets"),
        pytest.param(OWN, OWN.address, 1, id="own"),
        pytest.param(OWN, f"<{OWN.address.upper()}>", 1, id="own, in capitals and brackets"),
        pytest.param(TEAM, TEAM.address, 2, id="the team's"),
        pytest.param(TEAM, OWN.address, 1, id="one's own behind the team's"),
        pytest.param(DOCTOR, DOCTOR.address, 3, id="the doctor's"),
        pytest.param(DOCTOR, OWN.address, 1, id="one's own behind the doctor's"),
        pytest.param(OWN, TEAM.address, NOT_YOUR_ADDRESS, id="the team's behind one's own"),
        pytest.param(TEAM, DOCTOR.address, NOT_YOUR_ADDRESS, id="the doctor's behind the team's"),
        pytest.param(OWN, ASKED.address, NOT_YOUR_ADDRESS, id="a colleague's"),
        pytest.param(OWN, "x", NOT_YOUR_ADDRESS, id="none"),
        pytest.param(OWN, f"@r.test:{OWN.address}", NOT_YOUR_ADDRESS, id="by a route"),
    ],
)
def test_reports_come_back_to_the_author_or_to_who_submits(
    author: Mailbox, path: str, outcome: object
):
    """RFC 6409 §6.1: MAIL FROM is held against From."""
    found = judged(SPEAKER, f"From: {author.address}", path)

    assert (found if isinstance(found, Reply) else found[3]) == outcome


@pytest.mark.parametrize(
    ("speaker", "path", "allowed"),
    [
        pytest.param(SOFTWARE, APP.address, True, id="an application's own"),
        pytest.param(SOFTWARE, ASKED.address, False, id="whom it answers for gets no reports"),
        pytest.param(SOFTWARE, "", True, id="null"),
        pytest.param(MEMBER, TEAM.address, True, id="the team's, by its login"),
        pytest.param(MEMBER, OWN.address, False, id="one's own, by the team's login"),
        pytest.param(Speaker(closed(OWN)), OWN.address, False, id="closed"),
    ],
)
def test_whose_reverse_path_is_given(speaker: Speaker, path: str, *, allowed: bool):
    expected = None if allowed else Refused(NOT_YOUR_ADDRESS)

    assert judge_reverse_path(speaker, path) == expected


def test_a_team_without_the_right_gets_no_reports_of_its_login():
    """RFC 4314 §2.1: who lost the right p posts nothing, in the envelope neither."""
    assert judged(ALONE, f"From: {TEAM.address}", TEAM.address) == NOT_YOUR_ADDRESS
    assert judge_reverse_path(ALONE, TEAM.address) == Refused(NOT_YOUR_ADDRESS)


@pytest.mark.parametrize("name", ["Sender", "Resent-From", "Resent-Sender"])
@pytest.mark.parametrize(
    ("speaker", "author", "hand", "sender"),
    [
        pytest.param(SPEAKER, OWN, OWN, None, id="own, oneself"),
        pytest.param(SPEAKER, OWN, TEAM, NOT_YOUR_ADDRESS, id="own, a team"),
        pytest.param(SPEAKER, OWN, ASKED, NOT_YOUR_ADDRESS, id="own, a colleague"),
        pytest.param(SPEAKER, TEAM, OWN, 1, id="a team's, oneself"),
        pytest.param(SPEAKER, TEAM, TEAM, None, id="a team's, the team"),
        pytest.param(SPEAKER, TEAM, DOCTOR, NOT_YOUR_ADDRESS, id="a team's, another"),
        pytest.param(SPEAKER, DOCTOR, OWN, 1, id="a doctor's, oneself"),
        pytest.param(SPEAKER, DOCTOR, DOCTOR, NOT_YOUR_ADDRESS, id="a doctor's, the doctor"),
        pytest.param(MEMBER, TEAM, TEAM, None, id="by a team's login, the team"),
        pytest.param(MEMBER, TEAM, OWN, NOT_YOUR_ADDRESS, id="by a team's login, oneself"),
    ],
)
def test_who_else_had_a_hand_in_it(
    name: str, speaker: Speaker, author: Mailbox, hand: Mailbox, sender: object
):
    """RFC 5322 §3.6.2: no Sender that repeats From; a delegate is named, and never the doctor."""
    found = judged(speaker, f"From: {author.address}\r\n{name}: <{hand.address}>")
    if name != "Sender" and author is TEAM and sender == 1:
        sender = None  # only Sender names who sent

    assert (found if isinstance(found, Reply) else found[2]) == sender


def test_a_delegate_of_a_team_login_is_named_as_the_person():
    speaker = Speaker(TEAM, person=OWN, delegated={DOCTOR.address: DOCTOR})
    header = f"From: {DOCTOR.address}"

    assert judged(speaker, header) == (3, Capacity.DELEGATE, 1, None)
    assert judged(speaker, f"{header}\r\nSender: {TEAM.address}") == NOT_YOUR_ADDRESS


@pytest.mark.parametrize("value", ["x", "", "<a@b.test>, <c@d.test>"])
def test_a_sender_that_is_not_one_address_is_nobodys(value: str):
    header = f"From: {OWN.address}\r\nSender: {value}"

    assert judged(Speaker(OWN), header) == NOT_YOUR_ADDRESS


@pytest.mark.parametrize("name", ["sender", "date", "message-id", "subject", "to", "cc"])
def test_a_field_that_stands_once_stands_once(name: str):
    """RFC 5322 §3.6."""
    value = OWN.address if name in {"sender", "to", "cc"} else "x"
    field = f"{name}: {value}"

    assert judged(Speaker(OWN), f"From: {OWN.address}\r\n{field}\r\n{field}") == MALFORMED
    assert judged(Speaker(OWN), f"From: {OWN.address}\r\n{field}")[0] == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        pytest.param(b"From: %b\r\n\r\nx", True, id="a body"),
        pytest.param(b"From: %b\r\n", True, id="no body"),
        pytest.param(b"From: %b\r\nSubject : x\r\n\r\n", False, id="a blank before a colon"),
        pytest.param(b"From: %b\r\nno field\r\nSubject: x\r\n\r\n", False, id="a line between"),
        pytest.param(b"From: %b\r\nno field\r\n\r\nx", False, id="a line after"),
        pytest.param(b"From: %b\r\na b: x\r\nFoo: y\r\n\r\n", False, id="as long as a name"),
        pytest.param(b"no field\r\nFrom: %b\r\n\r\nx", False, id="a line before"),
    ],
)
def test_every_reader_finds_the_same_fields(raw: bytes, *, plain: bool):
    """Threat S16: a line that is no field could hide a From from one reader."""
    raw %= OWN.address.encode()
    outcome = may_send(Speaker(OWN), "", raw, scan(raw))

    assert (outcome == Refused(MALFORMED)) is not plain
    assert isinstance(outcome, Author) is plain


def test_the_identifier_of_a_message_is_known():
    raw = f"From: {OWN.address}\r\nMessage-ID: <1@x.test>\r\n\r\n".encode()
    author = may_send(Speaker(OWN), "", raw, scan(raw))

    assert isinstance(author, Author)
    assert (author.message_id, author.address.text) == ("<1@x.test>", OWN.address)
    raw = f"From: {OWN.address}\r\n\r\n".encode()
    assert may_send(Speaker(OWN), "", raw, scan(raw)) == replace(author, message_id="")


@pytest.mark.parametrize(("path", "null"), [("", True), ("<>", True), ("a@b.c", False)])
def test_the_null_reverse_path(path: str, *, null: bool):
    assert is_null(path) is null


# --- what is rewritten -----------------------------------------------------------------------

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def completed(header: str, *marks: tuple[str, str], sender: Mailbox | None = None) -> list[str]:
    raw = f"{header}\r\n\r\nx".encode()
    author = may_send(Speaker(OWN), "", raw, scan(raw))
    assert isinstance(author, Author)
    whole = complete(
        raw,
        scan(raw),
        Completion(replace(author, sender=sender), "<new@us.test>", AT, "mail.us.test", marks),
    )
    assert whole.endswith(b"\r\n\r\nx")
    return whole.decode().split("\r\n")[:-2]


FROM = f"From: Dr Dr.Martin <{OWN.address}>"
GIVEN = "Date: Mon, 02 Nov 2026 09:00:00 +0000"


def test_a_message_is_given_what_it_lacks_and_the_directorys_name():
    """RFC 6409 §8.1, RFC 6409 §8.2, RFC 6409 §8.3; threat S16."""
    assert completed(f'From: "Pr Faux" <{OWN.address}>\r\nSubject: x') == [
        'From: "Dr Dr.Martin" <Dr.Martin@cabinet.test>',
        "Message-ID: <new@us.test>",
        GIVEN,
        "Subject: x",
    ]


def test_what_a_message_has_stays():
    kept = ["Date: Tue, 03 Nov 2026 10:00:00 +0100", "Message-ID: <1@x.test>", "Subject: "]

    assert completed("\r\n".join([f"From: {OWN.address}", *kept]))[1:] == kept


@pytest.mark.parametrize(
    "field",
    [
        "Bcc: <b@x.test>",
        "Resent-Bcc: <b@x.test>",
        "Return-Path: <b@x.test>",
        "Delivered-To: b@x.test",
        "Authentication-Results: mail.us.test; auth=pass",
        "X-MSS-NIL: 1",
        "x-mss-mes: autre",
        "Message-ID: x",
        "Message-ID:",
        "Date: ",
    ],
)
def test_what_no_client_may_say_does_not_leave(field: str):
    left = completed(f"From: {OWN.address}\r\n{field}\r\nSubject: x")

    assert left == [
        'From: "Dr Dr.Martin" <Dr.Martin@cabinet.test>',
        "Message-ID: <new@us.test>",
        GIVEN,
        "Subject: x",
    ]


@pytest.mark.parametrize("value", ["FIN", " fin "])
def test_a_closing_mark_leaves_as_it_is(value: str):
    """MSS-OP §2.1."""
    assert f"X-MSS-MES:{value}" in completed(f"From: {OWN.address}\r\nX-MSS-MES:{value}")


def test_a_client_names_no_sender_and_a_delegate_is_named():
    left = completed(f"From: {OWN.address}\r\nSender: {OWN.address}", sender=TEAM)

    assert [line for line in left if line.startswith("Sender")] == [
        "Sender: Dr Equipe <Equipe@cabinet.test>"
    ]


@pytest.mark.parametrize(
    ("mark", "written"),
    [
        (("X-MSS-NIL", "a,b-1"), True),
        (("X-MSS-NIL", "a\r\nBcc: b"), False),
        (("X-MSS-NIL", ""), False),
        (("X-OTHER", "a"), False),
        (("X-MSS-NIL: y\r\nX", "a"), False),
    ],
)
def test_only_a_mark_of_the_space_is_written(mark: tuple[str, str], *, written: bool):
    left = completed(f"From: {OWN.address}\r\nSubject: x", mark)

    assert (f"{mark[0]}: {mark[1]}" in left) is written
    assert len(left) == 4 + written


def test_a_mailbox_without_a_name_is_not_named_after_its_address():
    for name in (OWN.address.lower(), OWN.address.upper()):
        assert named(replace(OWN, display_name=name)).display == ""
    assert named(OWN).display == "Dr Dr.Martin"
