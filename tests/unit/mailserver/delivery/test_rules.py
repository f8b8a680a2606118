"""The plan of a delivery, as a table of cases."""

import pytest

from certs.mime import scan
from certs.verdict import (
    NO_SIGNATURE,
    UNREADABLE_SIGNATURE,
    PathStatus,
    PathVerdict,
    SignatureVerdict,
)
from directory.codes import MailboxType
from mailserver.delivery.errors import (
    HEADER_TOO_LONG,
    LOOP,
    MALFORMED,
    NOT_THE_PEERS,
    ONE_FROM,
    Refused,
    Reply,
)
from mailserver.delivery.rules import (
    MessageFacts,
    Peer,
    claimed_domain,
    files,
    judge_from,
    keywords_of,
    of_two_patients,
    plan,
    refusal,
)
from mailserver.store.model import Mailbox


def mailbox(number: int, kind: MailboxType, structure: str = "s", *, filing: bool = True):
    return Mailbox(number, f"m{number}@{structure}.test", kind, structure, "", None, filing)


APP = mailbox(1, MailboxType.APP, filing=False)
PER = mailbox(2, MailboxType.PER)
ORG = mailbox(3, MailboxType.ORG)
OFF = mailbox(4, MailboxType.CAB, filing=False)
PAT = mailbox(5, MailboxType.PAT)
APP2 = mailbox(6, MailboxType.APP, "t", filing=False)
PER2 = mailbox(7, MailboxType.PER, "t")
APPLICATIONS = {"s": APP, "t": APP2}


@pytest.mark.parametrize("has_package", [False, True])
@pytest.mark.parametrize(
    ("recipients", "application_entries"),
    [
        pytest.param((PER,), {1: (2,)}, id="filing"),
        pytest.param((OFF,), {}, id="not-filing"),
        pytest.param((PAT,), {1: (5,)}, id="patient"),
        pytest.param((PER, ORG, OFF, PAT), {1: (2, 3, 5)}, id="all"),
        pytest.param((PER, PER2), {1: (2,), 6: (7,)}, id="two-structures"),
    ],
)
def test_the_bridge_gets_one_entry_per_structure_and_only_for_packages(
    recipients, application_entries, has_package
):
    planned = plan(MessageFacts(recipients, APPLICATIONS, has_package, NO_SIGNATURE)).entries

    own = [entry for entry in planned if entry.mailbox in recipients]
    bridge = {entry.mailbox.id: entry.on_behalf_of for entry in planned if entry not in own}
    assert [entry.mailbox for entry in own] == list(recipients)
    assert all(entry.delivered_to == (entry.mailbox.address,) for entry in own)
    assert [entry.held for entry in own] == [
        has_package and entry.mailbox.type is MailboxType.PAT for entry in own
    ]
    assert bridge == (application_entries if has_package else {})


@pytest.mark.parametrize("has_package", [False, True])
def test_mail_to_an_application_mailbox_is_its_own_entry(has_package):
    planned = plan(MessageFacts((APP, PER), APPLICATIONS, has_package, NO_SIGNATURE)).entries

    (own,) = [entry for entry in planned if entry.mailbox is APP]
    assert own.delivered_to == ((APP.address, PER.address) if has_package else (APP.address,))
    assert not own.held


def test_a_structure_without_an_application_mailbox_still_holds_its_patients_mail():
    (entry,) = plan(MessageFacts((PAT,), {}, has_package=True, verdict=NO_SIGNATURE)).entries

    assert entry.held


@pytest.mark.parametrize(
    ("box", "expected"),
    [(PER, True), (OFF, False), (APP, False), (PAT, True)],
)
def test_who_files(box, expected):
    assert files(box) is expected


def test_a_patients_mailbox_always_files_and_an_application_never():
    assert files(mailbox(9, MailboxType.PAT, filing=False))
    assert not files(mailbox(9, MailboxType.APP, filing=True))


def sound(**changes) -> SignatureVerdict:
    values = {
        "present": True,
        "intact": True,
        "valid": True,
        "path": PathVerdict(PathStatus.TRUSTED),
        "matches_from": True,
    }
    return SignatureVerdict(**{**values, **changes})


@pytest.mark.parametrize(
    ("verdict", "keywords"),
    [
        pytest.param(NO_SIGNATURE, set(), id="none"),
        pytest.param(UNREADABLE_SIGNATURE, set(), id="unreadable"),
        pytest.param(sound(), {"$SignatureValid"}, id="good"),
        pytest.param(sound(intact=False), {"$SignatureInvalid"}, id="altered"),
        pytest.param(sound(valid=False), {"$SignatureInvalid"}, id="wrong"),
        pytest.param(sound(matches_from=False), {"$SignatureInvalid"}, id="other-from"),
        pytest.param(
            sound(path=PathVerdict(PathStatus.REVOKED)), {"$SignatureInvalid"}, id="revoked"
        ),
        pytest.param(sound(path=PathVerdict(PathStatus.UNTRUSTED)), set(), id="untrusted"),
        pytest.param(sound(path=PathVerdict(PathStatus.REVOCATION_UNKNOWN)), set(), id="unknown"),
    ],
)
def test_the_mark_says_what_was_verified(verdict, keywords):
    assert keywords_of(verdict) == keywords


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (b"A: b\r\n\r\nx", None),
        (b"\r\nx", None),
        (b"no field\r\n\r\nx", None),
        (b"", None),
        (b"A: b\r\n\r\nx\ny", MALFORMED),
        (b"A: b\r\n\r\nx\ry", MALFORMED),
        (b"A: b\r\n\r\nx\0y", MALFORMED),
        (b" A: b\r\n\r\nx", MALFORMED),
        (b"Received: x\r\n" * 99 + b"\r\n", None),
        (b"Received: x\r\n" * 100 + b"\r\n", LOOP),
        (b"Received: x\r\n" * 800 + b"\r\n", LOOP),
        (b"A: b\r\n" * 900 + b"\r\n", None),
        (b"A: b\r\n" * 901 + b"\r\n", HEADER_TOO_LONG),
        (b"A: b\r\n" * 30_000 + b"\r\n", HEADER_TOO_LONG),
        (b"A:" + b"x" * (131_072 - 6) + b"\r\n\r\n", None),
        (b"A:" + b"x" * (131_072 - 5) + b"\r\n\r\n", HEADER_TOO_LONG),
        (b"A:" + b"x" * 10_000_000 + b"\r\n\r\n", HEADER_TOO_LONG),
    ],
)
def test_what_cannot_be_taken_from_anybody(raw, reply):
    assert refusal(raw, scan(raw)) == (None if reply is None else Refused(reply))


def test_a_reply_knows_whether_it_is_for_good():
    assert Reply(550, "5.1.1", "x").permanent
    assert not Reply(451, "4.3.0", "x").permanent


REPORT = "Content-Type: multipart/report; report-type=delivery-status; boundary=b"
PEER = Peer(speaks_for={"a.test", "a2.test"}.__contains__, is_in_the_space={"b.test"}.__contains__)


@pytest.mark.parametrize(
    ("header", "reverse_path", "reply"),
    [
        pytest.param("From: <x@a.test>", "x@a.test", None, id="its own"),
        pytest.param("From: <x@A2.test>", "x@a.test", None, id="another of its own"),
        pytest.param("From: <x@a.test>", "", None, id="its own, null path"),
        pytest.param("From: <x@b.test>", "x@a.test", NOT_THE_PEERS, id="another operator's"),
        pytest.param("From: <x@host.example>", "x@a.test", NOT_THE_PEERS, id="outside the space"),
        pytest.param("From: <x@host.example>", "", NOT_THE_PEERS, id="null path, no report"),
        pytest.param(f"From: <x@host.example>\r\n{REPORT}", "", None, id="a mail server's report"),
        pytest.param(
            f"From: <x@host.example>\r\n{REPORT}", "x@a.test", NOT_THE_PEERS, id="with a path"
        ),
        pytest.param(f"From: <x@b.test>\r\n{REPORT}", "", NOT_THE_PEERS, id="another's report"),
        pytest.param("From: <x@a.test>, <y@a.test>", "x@a.test", ONE_FROM, id="two authors"),
        pytest.param("Subject: x", "x@a.test", ONE_FROM, id="none"),
        pytest.param(f"Subject: x\r\n{REPORT}", "", ONE_FROM, id="a report of nobody"),
    ],
)
def test_who_writes_is_who_the_peer_answers_for(header, reverse_path, reply):
    """Threat S14."""
    outline = scan(f"{header}\r\n\r\nx".encode())

    expected = None if reply is None else Refused(reply)
    assert judge_from(outline, reverse_path, PEER) == expected


def test_the_domain_in_whose_name_a_message_is_written():
    assert claimed_domain(scan(b"From: A <x@B.test>\r\n\r\n")) == "b.test"
    assert claimed_domain(scan(b"From: <x@b.test>\r\nFrom: <x@b.test>\r\n\r\n")) == ""


ONE, OTHER = "279039999000178@pat.test", "180019999000145@pat.test"


@pytest.mark.parametrize(
    ("recipients", "header", "two"),
    [
        pytest.param([ONE], "", False, id="one"),
        pytest.param([ONE, "dr@cab.test"], "To: <dr@cab.test>", False, id="and a professional"),
        pytest.param([ONE, OTHER], "", True, id="two recipients"),
        pytest.param([ONE], f"To: <{OTHER}>", True, id="another in To"),
        pytest.param([ONE], f"Cc: <{OTHER}>", True, id="another in Cc"),
        pytest.param([], f"To: <{ONE}>, x <{OTHER}>", True, id="two shown, nobody written to"),
        pytest.param([ONE], f"Cc: tous: <{OTHER}>;", True, id="in a group"),
        pytest.param([ONE], f"To: <{ONE.upper()}>", False, id="the same in capitals"),
        pytest.param(
            [ONE], f"To: <{ONE.replace('pat.test', 'pat2.test')}>", False, id="of two structures"
        ),
        pytest.param([ONE], f"To: <x>, <@>, <{OTHER}>", True, id="behind what is no address"),
        pytest.param([ONE], f"Reply-To: <{OTHER}>", False, id="in no field of recipients"),
        pytest.param(
            ["180019999000145@cab.test"], f"To: <{ONE}>", False, id="a number of no patient"
        ),
        pytest.param(["2a@pat.test"], "To: <2A@pat.test>", False, id="letters of a number"),
    ],
)
def test_nobody_learns_another_patients_address(recipients, header, two):
    """RULES §11: the address is the INS."""
    outline = scan(f"{header}\r\n\r\nx".encode())
    patients = {"pat.test", "pat2.test"}

    assert of_two_patients(recipients, outline, lambda a: a.domain in patients) is two
