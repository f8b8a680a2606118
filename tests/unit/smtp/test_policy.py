"""The tables of port 25 and of submission, whole (S12 to S16)."""

from datetime import UTC, datetime
from itertools import product
from types import MappingProxyType

import pytest

from certs.addresses import Address
from certs.names import compared_name
from directory.trust_list import Freshness, TrustList
from mailserver.smtp import replies
from mailserver.smtp.policy import (
    Destination,
    PeerFacts,
    Writer,
    judge_inbound_recipient,
    judge_mail,
    judge_submitted_recipient,
)

DN_A = "CN=smtp.chu-a.test,OU=1330000001,O=CHU A,ST=Gironde (33),C=FR"
DN_B = "CN=smtp.lab-b.test,OU=1330000002,O=LABO B,ST=Gironde (33),C=FR"
DN_X = "CN=smtp.evil.test,OU=1,O=X,ST=X,C=FR"
TRUST = TrustList(
    datetime(2026, 1, 1, tzinfo=UTC),
    MappingProxyType(
        {
            "chu-a.mssante.test": frozenset({compared_name(DN_A)}),
            "lab-b.mssante.test": frozenset({compared_name(DN_B)}),
            "shared.mssante.test": frozenset({compared_name(DN_A), compared_name(DN_B)}),
        }
    ),
)
DOMAINS = {
    "chu-a.mssante.test": {DN_A},
    "lab-b.mssante.test": {DN_B},
    "shared.mssante.test": {DN_A, DN_B},
    "evil.test": set(),
    None: {DN_A, DN_B},
}


@pytest.mark.parametrize(
    ("secure", "dn", "freshness", "domain"),
    list(product([False, True], [None, DN_A, DN_B, DN_X], Freshness, DOMAINS)),
)
def test_mail_is_judged_by_the_whole_table(
    secure: bool,  # noqa: FBT001
    dn: str | None,
    freshness: Freshness,
    domain: str | None,
) -> None:
    sender = None if domain is None else Address("dr", domain)

    reply = judge_mail(PeerFacts(secure, dn), TRUST, freshness, sender)

    if not secure:
        assert reply == replies.TLS_FIRST
    elif dn is None:
        assert reply == replies.CERTIFICATE_FIRST
    elif freshness is Freshness.EXPIRED:
        assert reply == replies.LIST_TOO_OLD
    elif dn in DOMAINS[domain]:
        assert reply is None
    elif dn == DN_X:
        assert reply == replies.NOT_LISTED
    else:
        assert reply == replies.NOT_LISTED_FOR_DOMAIN


@pytest.mark.parametrize(
    "domain",
    ["evil-mssante.test", "chu-a.mssante.test.evil.test", "mssante.test", "xn--ch-a-0ra.test"],
)
def test_a_domain_that_looks_like_a_listed_one_is_not_listed(domain: str) -> None:
    reply = judge_mail(PeerFacts(True, DN_A), TRUST, Freshness.FRESH, Address("a", domain))

    assert reply == replies.NOT_LISTED_FOR_DOMAIN


def test_the_list_is_compared_without_case_or_extra_blanks() -> None:
    dn = DN_A.upper().replace(" A,", "  a,")

    assert None is judge_mail(
        PeerFacts(True, dn), TRUST, Freshness.STALE, Address("a", "chu-a.mssante.test")
    )


def test_only_our_mailboxes_take_mail_from_operators() -> None:
    expected = {
        Destination.MAILBOX: None,
        Destination.NO_MAILBOX: replies.UNKNOWN_RECIPIENT,
        Destination.LISTED: replies.RELAYING_DENIED,
        Destination.PATIENTS_ELSEWHERE: replies.RELAYING_DENIED,
        Destination.ELSEWHERE: replies.RELAYING_DENIED,
    }

    assert expected == {each: judge_inbound_recipient(each) for each in Destination}


def test_where_a_professional_and_a_patient_may_write() -> None:
    expected = {
        (Writer.PROFESSIONAL, Destination.MAILBOX): None,
        (Writer.PROFESSIONAL, Destination.NO_MAILBOX): replies.UNKNOWN_RECIPIENT,
        (Writer.PROFESSIONAL, Destination.LISTED): None,
        (Writer.PROFESSIONAL, Destination.PATIENTS_ELSEWHERE): None,
        (Writer.PROFESSIONAL, Destination.ELSEWHERE): replies.NOT_IN_TRUST_SPACE,
        (Writer.PATIENT, Destination.MAILBOX): None,
        (Writer.PATIENT, Destination.NO_MAILBOX): replies.UNKNOWN_RECIPIENT,
        (Writer.PATIENT, Destination.LISTED): replies.PATIENT_MAIL_STAYS,
        (Writer.PATIENT, Destination.PATIENTS_ELSEWHERE): None,
        (Writer.PATIENT, Destination.ELSEWHERE): replies.NOT_IN_TRUST_SPACE,
    }

    assert expected == {
        (writer, each): judge_submitted_recipient(writer, each)
        for writer, each in product(Writer, Destination)
    }
