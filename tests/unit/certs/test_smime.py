"""Whole messages signed by us: what stays outside, what moves inside, and every verdict.

Source: RFC 1847 §2.1, RFC 8551 §3.5.
"""

from datetime import timedelta

import pytest
from asn1crypto.cms import ContentInfo

from certs.cms_sign import sign_detached, sign_opaque
from certs.errors import MalformedCmsError
from certs.issue import Branch, KeyKind
from certs.mime import decode_body, decode_text, scan, walk
from certs.names import dn_string
from certs.smime import content, is_signed_or_encrypted, sign, verify
from certs.verdict import NO_SIGNATURE, PathStatus, Reason
from tests.support import cms, pki


def signed(raw: bytes | None = None) -> bytes:
    return sign(raw or pki.message(), pki.signer(pki.seal()), at=pki.AT)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_what_we_sign_is_good_with_every_kind_of_key(kind):
    seal = pki.signer(pki.seal(kind=kind))
    raw = sign(pki.message(), seal, at=pki.AT)

    verdict = verify(raw, pki.policy())

    assert verdict.good
    assert verdict.result == "pass"
    assert verdict.reason is None
    assert verdict.signer_names == (pki.AUTHOR,)
    assert verdict.signer_dn == "CN=Cachet Cabinet ZZCANARY,O=Cabinet ZZCANARY,C=FR"
    assert verdict.signer_serial == f"{seal.certificate.serial_number:X}"
    assert verdict.signer_issuer == dn_string(seal.certificate.issuer)


def test_header_fields_stay_outside_in_order_and_the_body_moves_inside():
    outline = scan(signed())

    assert [field.name for field in outline.header] == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
    ]
    assert outline.root.type == "multipart/signed"
    assert [child.type for child in outline.root.children] == [
        "text/plain",
        "application/pkcs7-signature",
    ]
    assert not outline.anomalies


def test_a_signed_or_encrypted_message_passes_unchanged():
    once = signed()

    assert sign(once, pki.signer(pki.seal())) == once
    assert is_signed_or_encrypted(once)
    assert is_signed_or_encrypted(cms.opaque(b"\x30\x00", pki.AUTHOR))
    for kind in (b"multipart/encrypted; boundary=b", b"application/octet-stream; name=A.P7M"):
        raw = b"From: <a@b.test>\r\nContent-Type: " + kind + b"\r\n\r\nx"
        assert sign(raw, pki.signer(pki.seal())) == raw
    for kind in (b"application/octet-stream; name=a.bin", b"text/plain; name=a.p7m"):
        assert not is_signed_or_encrypted(b"Content-Type: " + kind + b"\r\n\r\nx")
    assert not is_signed_or_encrypted(pki.message())


def test_signing_twice_gives_the_same_octets_with_an_rsa_key():
    signer = pki.signer(pki.seal(kind=KeyKind.RSA_2048))

    assert sign(pki.message(), signer, at=pki.AT) == sign(pki.message(), signer, at=pki.AT)


EIGHT_BIT = (
    "MIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "--b\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "Été à Orléans = fin \r\n"
    "ligne\r\n"
    "--b\r\n"
    "Content-Type: application/x-thing\r\n"
    "\r\n"
    "\u00ff\u00fe\r\n"
    "--b\r\n"
    "Content-Type: message/rfc822\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "Subject: dedans\r\n"
    "Content-Type: text/html; charset=utf-8\r\n"
    "\r\n"
    "<p>é</p>\r\n"
    "--b--\r\n"
).encode()


def test_every_part_is_seven_bit_before_it_is_signed_and_reads_the_same():
    raw = signed(pki.message(body=EIGHT_BIT))

    assert raw.isascii()
    assert verify(raw, pki.policy()).good
    parts = {part.type: part for part in walk(scan(raw))}
    assert decode_text(raw, parts["text/plain"]) == "Été à Orléans = fin \r\nligne"
    assert decode_body(raw, parts["application/x-thing"]) == "\u00ff\u00fe".encode()
    assert decode_text(raw, parts["text/html"]) == "<p>é</p>"
    assert parts["message/rfc822"].encoding == "7bit"


def test_lines_too_long_for_transport_are_encoded():
    at_limit, over = b"a" * 998, b"a" * 999
    head = b"Content-Type: text/plain\r\n\r\n"

    kept = scan(signed(pki.message(body=head + at_limit + b"\r\n"))).root.children[0]
    folded = scan(signed(pki.message(body=head + over + b"\r\n"))).root.children[0]

    assert kept.encoding == "7bit"
    assert folded.encoding == "quoted-printable"


def test_a_message_without_mime_fields_can_be_signed():
    raw = signed(pki.message(body=b"\r\nbonjour\r\n"))

    assert verify(raw, pki.policy()).good
    (text, _) = scan(raw).root.children
    assert decode_text(raw, text).strip() == "bonjour"
    assert (text.type, text.param("charset")) == ("text/plain", "us-ascii")


def test_the_boundary_is_of_the_content():
    other = signed(pki.message(body=b"\r\nautre\r\n"))

    assert scan(other).root.param("boundary") != scan(signed()).root.param("boundary")


def test_an_unsigned_message_has_no_signature():
    assert verify(pki.message(), pki.policy()) == NO_SIGNATURE


def test_an_altered_body_is_not_intact():
    raw = signed().replace(b"Compte rendu joint", b"Compte rendu JOINT")

    verdict = verify(raw, pki.policy())

    assert (verdict.intact, verdict.result) == (False, "fail")
    assert verdict.reason is Reason.CONTENT_ALTERED
    assert verdict.path.trusted


def test_an_altered_signature_is_intact_but_not_valid():
    entity = b"Content-Type: text/plain\r\n\r\nx"
    encoded = bytearray(cms.signed(entity, pki.signer(pki.seal()), cms.Recipe()))
    encoded[-5] ^= 1

    verdict = verify(cms.multipart(entity, bytes(encoded), pki.AUTHOR), pki.policy())

    assert (verdict.intact, verdict.valid, verdict.result) == (True, False, "fail")
    assert verdict.reason is Reason.SIGNATURE_WRONG


def test_a_foreign_authority_is_untrusted_but_sound():
    raw = sign(pki.message(), pki.signer(pki.seal(name="Ailleurs")), at=pki.AT)

    verdict = verify(raw, pki.policy())

    assert (verdict.intact, verdict.valid, verdict.matches_from) == (True, True, True)
    assert verdict.path.status is PathStatus.UNTRUSTED
    assert verdict.result == "policy"


def test_a_revoked_signer_fails():
    issued = pki.seal("revoked@cabinet.mssante.test")
    lists = tuple(
        pki.practice().issue_crl(
            branch, pki.AT, [issued.serial] if branch is Branch.ORGANISATION else []
        )
        for branch in Branch
    )
    raw = sign(pki.message("revoked@cabinet.mssante.test"), pki.signer(issued), at=pki.AT)

    verdict = verify(raw, pki.policy(lists=lists))
    later = verify(raw, pki.policy(pki.AT + timedelta(days=400), lists=lists))

    assert verdict.path.status is PathStatus.REVOKED
    assert verdict.path.event_at == pki.AT
    assert verdict.result == "fail"
    assert later.path.status is PathStatus.REVOKED  # an old list still tells what it names


def test_revocation_unknown_is_not_good():
    raw = signed()
    without_leafs_issuer = tuple(
        pki.practice().issue_crl(branch, pki.AT)
        for branch in Branch
        if branch is not Branch.ORGANISATION
    )

    for lists in ((), without_leafs_issuer, (b"junk",)):
        verdict = verify(raw, pki.policy(lists=lists))
        assert verdict.path.status is PathStatus.REVOCATION_UNKNOWN
        assert verdict.result == "policy"


def test_a_list_is_good_until_its_last_second_and_not_after():
    raw = signed()
    edge = pki.AT + timedelta(days=90)

    assert verify(raw, pki.policy(edge)).path.status is PathStatus.TRUSTED
    stale = verify(raw, pki.policy(edge + timedelta(seconds=1)))
    assert stale.path.status is PathStatus.REVOCATION_UNKNOWN
    early = verify(raw, pki.policy(pki.AT - timedelta(seconds=1)))
    assert early.path.status is PathStatus.REVOCATION_UNKNOWN


def test_validity_is_judged_at_reception():
    raw = signed()

    expired = verify(raw, pki.policy(pki.AT + timedelta(days=3 * 365, seconds=1)))
    early = verify(raw, pki.policy(pki.AT - timedelta(hours=1, seconds=1)))

    assert expired.path.status is PathStatus.EXPIRED
    assert expired.path.event_at == pki.AT + timedelta(days=3 * 365)
    assert expired.result == "policy"
    assert early.path.status is PathStatus.NOT_YET_VALID


def test_a_list_of_another_authority_of_the_same_name_proves_nothing():
    stranger = type(pki.practice()).create(pki.AT, pki.ORGANISATION)
    lists = tuple(stranger.issue_crl(branch, pki.AT) for branch in Branch)

    verdict = verify(signed(), pki.policy(lists=lists))

    assert verdict.path.status is PathStatus.REVOCATION_UNKNOWN


def test_a_tls_certificate_signs_no_mail():
    issued = pki.practice().issue_server(pki.AT, ["a.test"], {"CN": "a.test"})
    raw = sign(pki.message(), pki.signer(issued))

    verdict = verify(raw, pki.policy())

    assert verdict.path.status is PathStatus.UNTRUSTED
    assert not verdict.matches_from


def test_opaque_signatures_are_verified_and_opened():
    encoded = sign_opaque(pki.BODY, pki.signer(pki.seal()), pki.AT)
    raw = cms.opaque(encoded, pki.AUTHOR)

    assert verify(raw, pki.policy()).good
    assert content(raw) == pki.BODY


def test_only_an_opaque_signature_has_content():
    with pytest.raises(MalformedCmsError):
        content(signed())
    with pytest.raises(MalformedCmsError):
        content(cms.opaque(b"junk", pki.AUTHOR))


@pytest.mark.parametrize("label", ["smime-type=enveloped-data", "smime-type=certs-only", "x=y"])
def test_structure_counts_and_not_the_label(label):
    encoded = sign_opaque(pki.BODY, pki.signer(pki.seal()))

    assert verify(cms.opaque(encoded, pki.AUTHOR, label), pki.policy()).good


GOOD, FAILED, NONE = "pass", "fail", "none"
LIMIT, ENCODED = b"\r\n\r\n--limit", b"\r\nContent-Transfer-Encoding: 7bit"


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        pytest.param(b"", b"", GOOD, id="as it was"),
        pytest.param(b' protocol="application/pkcs7-signature";', b"", GOOD, id="no protocol"),
        pytest.param(b'l="application/pkcs7', b'l="application/pgp', NONE, id="OpenPGP"),
        pytest.param(b"e: application/pkcs7-sig", b"e: application/x-pkcs7-sig", GOOD, id="older"),
        pytest.param(b"e: application/pkcs7-signature", b"e: text/plain", FAILED, id="no p7s"),
        pytest.param(b"\r\n\r\nMI", b"\r\n\r\n\xff!", FAILED, id="no base64"),
        pytest.param(LIMIT, b"\r\nContent-Type: text/plain" + LIMIT, FAILED, id="two types"),
        pytest.param(LIMIT, ENCODED * 2 + LIMIT, FAILED, id="two encodings"),
        pytest.param(LIMIT, ENCODED + LIMIT, GOOD, id="one encoding"),
        pytest.param(b" boundary=", b" micalg=x; boundary=", FAILED, id="a parameter twice"),
    ],
)
def test_what_is_a_detached_signature(old, new, result):
    """RFC 1847 §2.1, RFC 8551 §3.5.3, threat S20."""
    entity = b"Content-Type: text/plain\r\n\r\nbonjour"
    encoded = sign_detached(entity, pki.signer(pki.seal()))
    raw = cms.multipart(entity, encoded, pki.AUTHOR)

    verdict = verify(raw.replace(old, new, 1), pki.policy())

    assert verdict.result == result
    assert (verdict.reason is Reason.MALFORMED) is (result == FAILED)


@pytest.mark.parametrize(
    ("kind", "junk", "result"),
    [
        pytest.param("application/pkcs7-mime; smime-type=signed-data", False, GOOD, id="labelled"),
        pytest.param("application/x-pkcs7-mime", False, GOOD, id="older"),
        pytest.param("application/octet-stream; name=SMIME.P7M", False, GOOD, id="by its name"),
        pytest.param("application/octet-stream; name=a.bin", False, NONE, id="another name"),
        pytest.param("application/octet-stream", False, NONE, id="no name"),
        pytest.param("text/plain; name=smime.p7m", False, NONE, id="a text"),
        pytest.param("application/pkcs7-mime", True, FAILED, id="junk"),
        pytest.param(
            "application/pkcs7-mime; smime-type=Signed-Data", True, FAILED, id="labelled"
        ),
        pytest.param("application/pkcs7-mime; smime-type=enveloped-data", True, NONE, id="sealed"),
        pytest.param("application/octet-stream; name=a.p7m", True, NONE, id="junk by its name"),
    ],
)
def test_what_is_an_opaque_signature(kind, junk, result):
    """RFC 8551 §3.9: what says that it is signed and cannot be read is not unsigned."""
    encoded = b"junk" if junk else sign_opaque(pki.BODY, pki.signer(pki.seal()), pki.AT)
    raw = cms.opaque(encoded, pki.AUTHOR).replace(
        b"application/pkcs7-mime; name=smime.p7m; smime-type=signed-data", kind.encode()
    )

    assert verify(raw, pki.policy()).result == result
    if result == GOOD:
        assert content(raw) == pki.BODY
    else:
        with pytest.raises(MalformedCmsError):
            content(raw)


def test_an_opaque_signature_that_two_readers_read_in_two_ways_is_refused():
    encoded = sign_opaque(pki.BODY, pki.signer(pki.seal()), pki.AT)
    raw = cms.opaque(encoded, pki.AUTHOR).replace(b"\r\n\r\n", b"\r\nContent-Type: a/b\r\n\r\n")

    assert verify(raw, pki.policy()).reason is Reason.MALFORMED


def test_what_is_labelled_signed_and_is_something_else_is_not_signed():
    other = ContentInfo({"content_type": "data", "content": b"x"}).dump()

    assert verify(cms.opaque(other, pki.AUTHOR), pki.policy()) == NO_SIGNATURE


def test_an_opaque_signature_without_content_is_refused():
    raw = cms.opaque(sign_detached(b"x", pki.signer(pki.seal())), pki.AUTHOR)

    assert verify(raw, pki.policy()).reason is Reason.MALFORMED
    with pytest.raises(MalformedCmsError):
        content(raw)


def test_what_cannot_be_decoded_has_no_content():
    raw = cms.opaque(b"x", pki.AUTHOR).replace(b"\r\n\r\n", b"\r\n\r\n\xff!")

    assert verify(raw, pki.policy()).reason is Reason.MALFORMED
    with pytest.raises(MalformedCmsError):
        content(raw)
