"""One message opened: who sent it, is it signed, which documents does it carry."""

import base64
import hashlib
import pickle
from datetime import UTC, datetime

import pytest

from certs import smime
from certs.anchors import TrustAnchors
from certs.cms_sign import sign_opaque
from certs.smime import Trust
from certs.verdict import NO_SIGNATURE
from record_bridge.formats import xdm
from record_bridge.formats.auth_results import AuthResults, encode
from record_bridge.formats.xds_metadata import Code, DocumentEntry, lists_several
from record_bridge.formats.xds_metadata import encode as encode_metadata
from record_bridge.model import Environment, Lists, Opened, Reason
from record_bridge.opening import (
    OpenRequest,
    count_occurrences,
    examine,
    list_occurrences,
    occurrences,
    open_message,
    read_acts,
    read_lists,
    read_number,
)
from tests.support import pki
from tests.support.cda import OID_TEST, PDF, CdaSpec, PatientSpec, cda, follow_up
from tests.support.xdm import entry_for, mail, package, submission_for

US = "mail.pli.test"
NOBODY = Trust(TrustAnchors(()), ())
DOCUMENT = cda(CdaSpec(acts=(follow_up("20261224"),)))
PREFIX = (
    b"Return-Path: <Labo@operateur-a.test>\r\n"
    b"Delivered-To: Dr.A@cabinet.mssante.test\r\n"
    b"Delivered-To: dr.b@cabinet.mssante.test\r\n"
    b"Received: by mail.pli.test id zz\r\n"
    + encode(AuthResults(US, "CN=op", "labo@operateur-a.test"))
)


def opened(
    raw: bytes, trust: Trust = NOBODY, at: datetime = datetime(2026, 11, 2, tzinfo=UTC)
) -> Opened:
    found = open_message(OpenRequest(raw, US, at, Environment.TEST), trust)
    counted = [o for p in found.packages for o in occurrences(p)]
    assert list(list_occurrences(raw)) == counted
    assert count_occurrences(raw) == len(counted)
    return found


def test_a_report_is_opened_whole():
    found = opened(mail(package(DOCUMENT), prefix=PREFIX, notify_to="labo@operateur-a.test"))
    (document,) = found.packages[0].documents

    assert found.delivered_to == ("dr.a@cabinet.mssante.test", "dr.b@cabinet.mssante.test")
    assert found.return_path == found.from_address == found.notify_to == "labo@operateur-a.test"
    assert found.message_id == "<zz1@operateur-a.test>"
    assert found.auth == AuthResults(US, "CN=op", "labo@operateur-a.test")
    assert not found.verdict.present
    assert not found.unreadable
    assert document.content == DOCUMENT
    assert document.claim.ins is not None
    assert len(document.acts) == 1
    assert found.packages[0].worst is None


def test_it_pickles_both_ways():
    request = OpenRequest(
        mail(package(DOCUMENT)), US, datetime(2026, 11, 2, tzinfo=UTC), Environment.TEST
    )
    found = open_message(pickle.loads(pickle.dumps(request)), NOBODY)  # noqa: S301

    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301


def test_level_1_names_the_type_of_its_file():
    assert (
        opened(mail(package(cda(CdaSpec(pdf=PDF))))).packages[0].documents[0].media_type
        == "application/pdf"
    )


@pytest.mark.parametrize(
    ("unique_id", "agrees"),
    [
        ("1.2.250.1.213.999.1", True),
        ("1.2.250.1.213.999.1^", True),
        ("urn:oid:1.2.250.1.213.999.1", True),
        ("1.2.250.1.213.999.1^1", False),
        ("1.2.250.1.213.999.11", False),
    ],
)
def test_the_same_identifier_in_another_dress_agrees(unique_id: str, *, agrees: bool):
    found = opened(mail(package(DOCUMENT, unique_id=unique_id)))

    problem = found.packages[0].documents[0].problem
    assert (problem is None) is agrees
    assert problem is None or problem.reason is Reason.ID_DIFFERS


@pytest.mark.parametrize(
    ("digest", "agrees"),
    [
        (hashlib.sha1(DOCUMENT).hexdigest().upper(), True),  # noqa: S324
        (hashlib.sha256(DOCUMENT).hexdigest(), True),
        (hashlib.sha256(DOCUMENT + b" ").hexdigest(), False),
        (hashlib.md5(DOCUMENT).hexdigest(), False),  # noqa: S324
        ("", False),
    ],
)
def test_a_digest_of_the_same_octets_agrees(digest: str, *, agrees: bool):
    problem = opened(mail(package(DOCUMENT, hash=digest))).packages[0].documents[0].problem

    assert (problem is None) is agrees
    assert problem is None or problem.reason is Reason.HASH_DIFFERS


UUID = "90E1C8EC-F951-4B26-A305-A34848818DD6"
AS_OID = "2.25.192581173443125350942149211714964524502"


@pytest.mark.parametrize(
    ("unique_id", "agrees"),
    [
        (UUID, True),
        (f"urn:uuid:{UUID.lower()}^", True),
        (AS_OID, True),
        (f"urn:oid:{AS_OID}", True),
        (f"{AS_OID[:-1]}3", False),
        (f"{AS_OID}^1", False),
        (f"{UUID[:-1]}7", False),
        (UUID.replace("-", ""), False),
    ],
)
def test_a_uuid_agrees_with_its_number_under_the_arc_of_uuids(unique_id: str, *, agrees: bool):
    document = cda(CdaSpec(unique_id=UUID))
    found = opened(mail(package(document, unique_id=unique_id)))
    problem = found.packages[0].documents[0].problem

    assert (problem is None) == agrees


SIGNATURE = "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"
BESIDE = [
    {
        "class_code": Code(SIGNATURE, "URN", "Digital Signature"),
        "type_code": Code("E1762", "ASTM"),
    },
    {"mime_type": "text/xsl", "type_code": Code("FEUILLE-DE-STYLE")},
    {"mime_type": "Application/XSLT+XML"},
]


def with_beside(*documents: bytes, **changes: object) -> bytes:
    """A package of documents and of one file more, listed with the fields given."""
    files = [xdm.PackagedDocument(f"D{n}.XML", each) for n, each in enumerate(documents)]
    files.append(xdm.PackagedDocument("BESIDE.XML", b"<Signature/>"))
    entries = [entry_for(each, f"D{n}.XML") for n, each in enumerate(documents)]
    entries.append(DocumentEntry(uri="BESIDE.XML", unique_id="1.2.9", **changes))  # type: ignore[arg-type]  # tests name the fields
    patient = entries[0].patient_id if documents else ""
    return xdm.build_package(encode_metadata(submission_for(entries, patient_id=patient)), files)


@pytest.mark.parametrize("changes", BESIDE)
def test_what_only_accompanies_documents_is_none(changes: dict[str, object]):
    other = cda(CdaSpec(unique_id="1.2.250.1.213.999.2"))
    for documents in ((DOCUMENT,), (DOCUMENT, other)):
        found = opened(mail(with_beside(*documents, **changes)))
        assert found.packages[0].worst is None
        assert [d.content for d in found.packages[0].documents] == list(documents)


@pytest.mark.parametrize("changes", BESIDE)
def test_a_package_of_nothing_else_is_counted_and_told(changes: dict[str, object]):
    (found,) = opened(mail(with_beside(**changes))).packages

    assert found.documents == ()
    assert found.problem is not None
    assert found.problem.reason is Reason.METADATA_UNREADABLE


@pytest.mark.parametrize(
    "changes",
    [
        {"type_code": Code("E1762", "ASTM")},
        {"class_code": Code("31")},
        {"mime_type": "application/pdf"},
        {"mime_type": "text/xml", "type_code": Code("FEUILLE-DE-STYLE")},
    ],
)
def test_any_other_file_that_is_no_document_stops_the_package(changes: dict[str, object]):
    (found,) = opened(mail(with_beside(DOCUMENT, **changes))).packages

    assert found.worst is not None
    assert found.worst.reason is Reason.DOCUMENT_UNREADABLE


def test_mail_without_a_package_carries_none():
    found = opened(mail())

    assert found.packages == ()


@pytest.mark.parametrize("name", [b"IHE_XDM.ZIP", b"ihe_xdm.zip", b"Ihe_Xdm.Zip"])
def test_the_name_of_the_package_is_read_in_any_case(name: bytes):
    raw = mail(package(DOCUMENT)).replace(b"IHE_XDM.zip", name)

    assert len(opened(raw).packages) == 1


def test_another_archive_is_none():
    assert opened(mail(package(DOCUMENT)).replace(b"IHE_XDM.zip", b"photos.zip")).packages == ()


def test_each_package_counts_and_each_document_of_it():
    other = cda(CdaSpec(unique_id="1.2.9"))
    found = opened(mail(package(DOCUMENT, other), package(DOCUMENT)))

    assert [len(p.documents) for p in found.packages] == [2, 1]


def forwarded(inner: bytes) -> bytes:
    return (
        b"From: <dr.a@cabinet.mssante.test>\r\nSubject: TR\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="fw"\r\n\r\n--fw\r\nContent-Type: text/plain\r\n\r\nVoir\r\n'
        b"--fw\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--fw--\r\n"
    )


def test_a_forwarded_message_is_opened_and_told_apart():
    (found,) = opened(forwarded(mail(package(DOCUMENT)))).packages

    assert found.forwarded
    assert found.documents[0].content == DOCUMENT


def test_the_header_of_a_forwarded_message_is_not_believed():
    found = opened(forwarded(mail(package(DOCUMENT), prefix=PREFIX)))

    assert found.auth is None
    assert found.delivered_to == ()


AUTHOR = "labo@operateur-a.test"


def signed_detached() -> bytes:
    return smime.sign(
        mail(package(DOCUMENT), sender=AUTHOR), pki.signer(pki.seal(AUTHOR)), at=pki.AT
    )


def test_a_signed_message_is_verified_and_opened():
    found = opened(PREFIX + signed_detached(), pki.trust(), pki.AT)

    assert found.verdict.good
    assert found.packages[0].documents[0].content == DOCUMENT


def test_an_altered_message_is_opened_and_not_good():
    raw = signed_detached().replace(b"Bonjour", b"Bonsoir")
    found = opened(raw, pki.trust(), pki.AT)

    assert found.verdict.result == "fail"
    assert len(found.packages) == 1


def test_a_stranger_s_word_on_the_sender_is_not_believed():
    stranger = encode(AuthResults("evil.test", "CN=op", "labo@operateur-a.test"))

    assert opened(mail(package(DOCUMENT), prefix=stranger)).auth is None


@pytest.mark.parametrize(
    "field",
    [
        b"Disposition-Notification-To: <a@b.test>, <c@d.test>\r\n",
        b"Disposition-Notification-To: <a@b.test>\r\nDisposition-Notification-To: <a@b.test>\r\n",
        b"Disposition-Notification-To: not an address\r\n",
        b"X: y\r\n",
    ],
)
def test_who_is_to_be_told_must_be_one_address(field: bytes):
    assert opened(mail(package(DOCUMENT), prefix=field)).notify_to is None


def test_a_null_sender_is_known_as_such():
    assert opened(mail(package(DOCUMENT), prefix=b"Return-Path: <>\r\n")).return_path == ""
    assert opened(mail(package(DOCUMENT))).return_path is None


def test_two_authors_are_none():
    raw = mail(package(DOCUMENT), prefix=b"From: <evil@evil.test>\r\n")

    assert opened(raw).from_address is None


def test_a_message_that_two_readers_read_in_two_ways_is_not_filed():
    raw = mail(package(DOCUMENT)).replace(
        b"\r\n--zzb\r\nContent-Type: application", b"\n--zzb\r\nContent-Type: application", 1
    )
    found = opened(raw)

    assert found.unreadable
    assert all(
        p.worst is not None and p.worst.reason is Reason.MESSAGE_AMBIGUOUS for p in found.packages
    )


def test_packages_are_capped():
    assert len(opened(mail(*([b"x"] * 30))).packages) == 20


def signed_opaque() -> bytes:
    inner = mail(package(DOCUMENT), sender=AUTHOR)
    content = inner[inner.index(b"MIME-Version") :]
    cms = base64.encodebytes(sign_opaque(content, pki.signer(pki.seal(AUTHOR)), pki.AT))
    return (
        f"From: <{AUTHOR}>\r\nSubject: x\r\nMIME-Version: 1.0\r\n".encode()
        + b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + cms.replace(b"\n", b"\r\n")
    )


def test_an_opaque_signature_is_verified_and_opened():
    found = opened(signed_opaque(), pki.trust(), pki.AT)

    assert found.verdict.good
    assert not found.packages[0].forwarded
    assert found.packages[0].documents[0].content == DOCUMENT


def test_an_opaque_signature_that_was_forwarded_is_opened():
    found = opened(forwarded(signed_opaque()))

    assert not found.verdict.present
    assert found.packages[0].forwarded


def test_what_is_encrypted_holds_nothing_to_file():
    raw = signed_opaque().replace(b"smime-type=signed-data", b"smime-type=enveloped-data")
    at = raw.index(b"\r\n\r\n") + 4

    assert opened(raw[:at] + base64.encodebytes(b"\x30\x03\x02\x01\x00")).packages == ()


@pytest.mark.parametrize(
    ("listing", "several"),
    [
        (b"<a/>", False),
        (b'<rim:ExtrinsicObject id="1"></rim:ExtrinsicObject>', False),
        (b"<ExtrinsicObject/><ExtrinsicObject/>", True),
        (b"<ExtrinsicObject\n></ExtrinsicObject\n><\xc3\xa9:ExtrinsicObject>", True),
        (b"<x:ExtrinsicObjectRef/><ExtrinsicObject>", False),
    ],
)
def test_a_listing_of_several_documents_is_never_taken_for_one(listing, several):
    assert lists_several(listing) is several


def test_a_package_of_one_document_is_counted_without_inflating_it(monkeypatch):
    inflated = []
    content = xdm._content

    def counted(archive, entry, data_at):
        inflated.append(entry.name)
        return content(archive, entry, data_at)

    raw = mail(package(DOCUMENT))
    monkeypatch.setattr(xdm, "_content", counted)

    assert count_occurrences(raw) == 1
    assert [name.rpartition("/")[2] for name in inflated] == ["METADATA.XML"]


def reported(kind: bytes, notification: bytes, returned: bytes) -> bytes:
    return (
        b"From: <mailer@operateur-a.test>\r\nMIME-Version: 1.0\r\nContent-Type: "
        + kind
        + b"; boundary=rep\r\n\r\n--rep\r\nContent-Type: "
        + notification
        + b"\r\n\r\nx\r\n--rep\r\n"
        + returned
        + b"\r\n--rep--\r\n"
    )


BACK = b"Content-Type: message/rfc822\r\n\r\n" + mail(package(DOCUMENT))


@pytest.mark.parametrize(
    ("kind", "notification", "packages"),
    [
        pytest.param(b"multipart/report", b"message/disposition-notification", 0, id="read"),
        pytest.param(b"multipart/report", b"message/delivery-status", 0, id="delivered"),
        pytest.param(b"multipart/report", b"text/plain", 1, id="a report of nothing"),
        pytest.param(b"multipart/mixed", b"message/delivery-status", 1, id="no report"),
    ],
)
def test_what_a_notification_gives_back_is_no_new_document(kind, notification, packages):
    """RFC 8098 §3, RFC 3464 §2: a report sent from here and its receipt."""
    assert len(opened(reported(kind, notification, BACK)).packages) == packages


def test_a_package_beside_a_notification_is_opened():
    attached = BACK[BACK.index(b"--zzb\r\nContent-Type: application/zip") + 7 :]
    raw = reported(b"multipart/report", b"message/delivery-status", attached)

    assert len(opened(raw.replace(b"\r\n--zzb--\r\n", b"")).packages) == 1


@pytest.mark.parametrize(("depth", "packages"), [(1, 1), (4, 1), (5, 0)])
def test_signatures_in_signatures_are_opened_so_deep(depth: int, packages: int):
    raw = mail(package(DOCUMENT), sender=AUTHOR)
    for _ in range(depth):
        inner = raw[raw.index(b"MIME-Version") :]
        cms = base64.encodebytes(sign_opaque(inner, pki.signer(pki.seal(AUTHOR)), pki.AT))
        raw = (
            f"From: <{AUTHOR}>\r\nMIME-Version: 1.0\r\n".encode()
            + b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + cms.replace(b"\n", b"\r\n")
        )

    assert len(opened(raw).packages) == packages


INS, OTHER_INS = "279039999000178", "279039999000275"


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        pytest.param(cda(), (INS,), id="one"),
        pytest.param(cda(CdaSpec(patients=(PatientSpec(ins=None),))), (), id="none"),
        pytest.param(
            cda(CdaSpec(patients=(PatientSpec(other_ids=((OID_TEST, INS),)),))), (INS,), id="twice"
        ),
        pytest.param(
            cda(CdaSpec(patients=(PatientSpec(other_ids=((OID_TEST, OTHER_INS),)),))),
            None,
            id="two",
        ),
        pytest.param(cda(CdaSpec(patients=(PatientSpec(),) * 2)), None, id="two persons"),
        pytest.param(b"junk", None, id="unreadable"),
    ],
)
def test_whose_number_a_document_gives(content: bytes, numbers: tuple[str, ...] | None):
    """RULES §5: about two persons or numbers, it is nobody's."""
    found = read_number(content)

    assert (None if found is None else tuple(each.value for each in found)) == numbers


def test_what_is_unreadable_now_adds_nothing():
    assert len(read_acts(DOCUMENT)) == 1
    assert read_acts(b"junk") == ()
    assert read_lists(b"junk") == Lists()


def test_the_gate_judges_the_signature_and_counts_on_one_scan():
    """RULES §2: the receipt keeps what a message counts for."""
    raw = mail(package(DOCUMENT), package(DOCUMENT))

    assert examine(raw, NOBODY, pki.AT) == (NO_SIGNATURE, 2)
    verdict, counted = examine(signed_opaque(), pki.trust(), pki.AT)
    assert (verdict.good, counted) == (True, 1)
