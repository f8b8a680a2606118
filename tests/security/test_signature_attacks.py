"""Signatures as attackers make them (threats C2 to C6, C9, C10, C12): never good, never a crash.

Source: RFC 8550 §4, RFC 5280 §6.1.
"""

import base64
import hashlib
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs import cms_verify, policy
from certs.cms_sign import Signer, sign_detached, sign_opaque
from certs.issue import Branch, KeyKind, LeafRequest, issue_leaf, new_key
from certs.smime import sign, verify
from certs.verdict import NO_SIGNATURE, PathStatus, Reason
from tests.support import cms, pki
from tests.support.cms import Recipe

ENTITY = b"Content-Type: text/plain\r\n\r\nCompte rendu joint."
EVE = "eve@cabinet.mssante.test"


def verdict_of(encoded: bytes, author: str = pki.AUTHOR, entity: bytes = ENTITY):
    return verify(cms.multipart(entity, encoded, author), pki.policy())


def by_recipe(**fields: object):
    return verdict_of(cms.signed(ENTITY, pki.signer(pki.seal()), Recipe(**fields)))


def test_the_recipe_without_a_fault_is_good():
    assert by_recipe().good


def test_c2_a_detached_signature_with_content_of_its_own_is_refused():
    signer = pki.signer(pki.seal())

    for embedded in (ENTITY, b"other content"):
        verdict = verdict_of(cms.signed(embedded, signer, Recipe(embedded=embedded)))
        assert verdict.result == "fail"
        assert verdict.reason is Reason.EMBEDDED_CONTENT


def block(content: bytes, signer: Signer) -> asn1_cms.SignerInfo:
    return asn1_cms.ContentInfo.load(sign_detached(content, signer))["content"]["signer_infos"][0]


def test_c3_several_signers_of_whom_one_is_not_the_author():
    mine, eves = pki.signer(pki.seal()), pki.signer(pki.seal(EVE))

    for first, second in ((mine, eves), (eves, mine)):
        held = [cms.parsed(mine), cms.parsed(eves)]
        verdict = verdict_of(cms.by_two(block(ENTITY, first), block(ENTITY, second), held))
        assert (verdict.intact, verdict.valid, verdict.matches_from) == (True, True, False)
        assert verdict.result == "fail"


def test_c3_several_signers_of_whom_one_is_bogus():
    mine, eves = pki.signer(pki.seal()), pki.signer(pki.seal(EVE))
    good = asn1_cms.ContentInfo.load(sign_detached(ENTITY, eves))["content"]
    bogus = asn1_cms.ContentInfo.load(sign_detached(b"other", mine))["content"]
    encoded = cms.rebuilt(
        good,
        infos=[good["signer_infos"][0], bogus["signer_infos"][0]],
        certificates=[cms.parsed(eves), cms.parsed(mine)],
    )

    for author in (EVE, pki.AUTHOR):
        assert verdict_of(encoded, author).result == "fail"


def test_c3_several_good_signers_that_are_all_the_author_are_good():
    first, second = pki.seal(), pki.seal(kind=KeyKind.RSA_2048)

    verdict = verdict_of(cms.together(ENTITY, pki.signer(first), pki.signer(second)))

    assert verdict.good


@pytest.mark.parametrize("order", [1, -1])
def test_c3_every_block_of_the_author_must_be_sound(order):
    """One good block does not stand for another that signs something else, or nothing."""
    mine, mine_too = pki.signer(pki.seal()), pki.signer(pki.seal(kind=KeyKind.RSA_2048))
    good, altered = block(ENTITY, mine), block(b"other", mine_too)
    wrong = block(ENTITY, mine_too)
    wrong["signature"] = bytes(reversed(wrong["signature"].native))

    held = [cms.parsed(mine), cms.parsed(mine_too)]
    unlike = verdict_of(cms.by_two(*[good, altered][::order], held))
    forged = verdict_of(cms.by_two(*[good, wrong][::order], held))
    nobodys = verdict_of(cms.by_two(*[good, block(ENTITY, mine_too)][::order], held[:1]))

    assert (unlike.intact, unlike.valid, unlike.matches_from) == (False, True, True)
    assert (forged.intact, forged.valid, forged.matches_from) == (True, False, True)
    assert (nobodys.intact, nobodys.valid, nobodys.matches_from) == (True, False, False)
    assert [unlike.reason, forged.reason, nobodys.reason] == [
        Reason.CONTENT_ALTERED,
        Reason.SIGNATURE_WRONG,
        Reason.NO_CERTIFICATE,
    ]
    assert {unlike.result, forged.result, nobodys.result} == {"fail"}


@pytest.mark.parametrize("order", [1, -1])
def test_c3_the_worst_path_among_the_signers_is_the_messages(order):
    trusted, foreign = pki.seal(), pki.seal(name="Ailleurs")
    revoked = pki.seal(kind=KeyKind.RSA_2048)
    lists = tuple(
        pki.practice().issue_crl(
            branch, pki.AT, [revoked.serial] if branch is Branch.ORGANISATION else []
        )
        for branch in Branch
    )

    def judged(*issued):
        signers = [pki.signer(each) for each in issued]
        blocks = [block(ENTITY, each) for each in signers[::order]]
        encoded = cms.by_two(*blocks, [cms.parsed(each) for each in signers])
        return verify(cms.multipart(ENTITY, encoded, pki.AUTHOR), pki.policy(lists=lists))

    beside, over = judged(trusted, foreign), judged(foreign, revoked)

    assert (beside.path.status, beside.result) == (PathStatus.UNTRUSTED, "policy")
    assert (over.path.status, over.result) == (PathStatus.REVOKED, "fail")
    assert beside.reason is over.reason is Reason.PATH


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64decode("MAsGCSqGSIb3DQEHAg=="),  # crash_01 of RUB-NDS "Johnny, you are fired"
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"junk that is no CMS",
        bytes(range(256)) * 4,
    ],
)
def test_c4_empty_and_broken_structures_are_refused_without_a_crash(encoded):
    for raw in (cms.multipart(ENTITY, encoded, pki.AUTHOR), cms.opaque(encoded, pki.AUTHOR)):
        verdict = verify(raw, pki.policy())
        assert verdict.present
        assert verdict.result == "fail"
        assert verdict.reason is Reason.MALFORMED


def test_c4_octets_after_the_structure_are_refused():
    encoded = sign_detached(ENTITY, pki.signer(pki.seal()))

    assert verdict_of(encoded + b"\0").reason is Reason.MALFORMED


def test_c4_a_signature_without_signers_is_refused():
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, pki.signer(pki.seal())))["content"]

    assert verdict_of(cms.rebuilt(data, infos=[])).reason is Reason.NO_SIGNER


WRAPPED = {
    "prepended": b"--o\r\n\r\nread me first\r\n--o\r\n%b\r\n--o--\r\n",
    "appended": b"--o\r\n%b\r\n--o\r\n\r\nread me too\r\n--o--\r\n",
    "alone": b"--o\r\n%b\r\n--o--\r\n",
    "forwarded": b"--o\r\nContent-Type: message/rfc822\r\n\r\n%b\r\n--o--\r\n",
}


@pytest.mark.parametrize("form", WRAPPED)
def test_c5_a_signed_part_does_not_sign_the_message(form):
    inner = sign(pki.message(), pki.signer(pki.seal()))
    if form != "forwarded":
        inner = inner[inner.index(b"Content-Type: multipart/signed") :]
    raw = pki.message(
        body=b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n"
        + WRAPPED[form] % inner
    )

    assert verify(raw, pki.policy()) == NO_SIGNATURE


def test_c5_a_third_part_in_a_multipart_signed_is_refused():
    raw = sign(pki.message(), pki.signer(pki.seal()))
    boundary = raw[raw.index(b"boundary=") + 10 :].split(b'"')[0]
    raw = raw.replace(
        b"--" + boundary + b"--", b"--%b\r\n\r\nread me\r\n--%b--" % (boundary, boundary)
    )

    assert verify(raw, pki.policy()).reason is Reason.MALFORMED


def froms(*fields: str) -> bytes:
    raw = sign(pki.message(), pki.signer(pki.seal()))
    end = raw.index(b"\r\n") + 2
    return b"".join(each.encode() + b"\r\n" for each in fields) + raw[end:]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([f"From: <{EVE}>"], Reason.SIGNER_NOT_FROM),
        ([f"From: {pki.AUTHOR}", f"From: {EVE}"], Reason.FROM_AMBIGUOUS),
        ([f"From: {EVE}", f"From: {pki.AUTHOR}"], Reason.FROM_AMBIGUOUS),
        ([f"From: {pki.AUTHOR}, {EVE}"], Reason.FROM_AMBIGUOUS),
        ([f"From: {pki.AUTHOR}", f"from: {pki.AUTHOR}"], Reason.FROM_AMBIGUOUS),
        ([f'From: "{pki.AUTHOR}" <{EVE}>'], Reason.SIGNER_NOT_FROM),
        ([f"From: {EVE}", f"Sender: {pki.AUTHOR}"], Reason.SIGNER_NOT_FROM),
        ([f"From: {pki.AUTHOR.upper()}"], Reason.SIGNER_NOT_FROM),
        (["From: dr.zzcanary@cabinet.mssante.test.evil.test"], Reason.SIGNER_NOT_FROM),
        ([], Reason.FROM_AMBIGUOUS),
    ],
)
def test_c6_the_signer_must_be_the_one_author(fields, reason):
    verdict = verify(froms(*fields), pki.policy())

    assert (verdict.intact, verdict.valid, verdict.path.trusted) == (True, True, True)
    assert not verdict.matches_from
    assert verdict.result == "fail"
    assert verdict.reason is reason


def test_c6_the_domain_compares_in_any_case():
    local, _, domain = pki.AUTHOR.partition("@")

    assert verify(froms(f"From: {local}@{domain.upper()}"), pki.policy()).good


def test_c6_a_common_name_is_no_address():
    key = new_key(KeyKind.EC_P256)
    request = LeafRequest(
        x509.Name(
            [
                x509.NameAttribute(NameOID.EMAIL_ADDRESS, pki.AUTHOR),
                x509.NameAttribute(NameOID.COMMON_NAME, pki.AUTHOR),
            ]
        ),
        [x509.RFC822Name(EVE)],
        [ExtendedKeyUsageOID.EMAIL_PROTECTION],
        key,
        pki.AT,
        pki.AT + timedelta(days=1),
    )
    issued = issue_leaf(pki.practice().authorities[Branch.ORGANISATION], request)

    verdict = verify(sign(pki.message(), pki.signer(issued)), pki.policy())

    assert verdict.path.trusted
    assert verdict.reason is Reason.SIGNER_NOT_FROM


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"digest": "md5", "signature_digest": "sha256"}, Reason.ALGORITHM),
        ({"digest": "sha1"}, Reason.ALGORITHM),
        ({"signature_digest": "sha1"}, Reason.ALGORITHM),
        ({"signature_digest": "sha384"}, Reason.ALGORITHM),
        ({"announced": ["sha384"]}, Reason.ALGORITHM),
        ({"announced": []}, Reason.ALGORITHM),
        ({"attributes": []}, Reason.ATTRIBUTES),
        ({"attributes": ["message_digest"]}, Reason.ATTRIBUTES),
        ({"attributes": ["content_type"]}, Reason.ATTRIBUTES),
        (
            {"attributes": ["content_type", "message_digest", "message_digest"]},
            Reason.ATTRIBUTES,
        ),
        ({"attributes": ["content_type", "content_type", "message_digest"]}, Reason.ATTRIBUTES),
        ({"values": {"content_type": ["data", "data"]}}, Reason.ATTRIBUTES),
        ({"values": {"message_digest": [b"x" * 32, b"y" * 32]}}, Reason.ATTRIBUTES),
        ({"values": {"message_digest": []}}, Reason.ATTRIBUTES),
        ({"content_type": "signed_data"}, Reason.ATTRIBUTES),
    ],
)
def test_c10_weak_digests_and_faulty_attributes_are_refused(fields, reason):
    verdict = by_recipe(**fields)

    assert verdict.result == "fail"
    assert not verdict.valid
    assert verdict.reason is reason


def leaf_with(key, *, usages=(ExtendedKeyUsageOID.EMAIL_PROTECTION,)) -> Signer:
    request = LeafRequest(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cachet")]),
        [x509.RFC822Name(pki.AUTHOR)],
        list(usages),
        key,
        pki.AT - timedelta(hours=1),
        pki.AT + timedelta(days=1),
    )
    return pki.signer(issue_leaf(pki.practice().authorities[Branch.ORGANISATION], request))


@pytest.mark.parametrize(
    ("digest", "of_another", "reason"),
    [
        ("sha256", False, None),
        ("sha512", False, None),
        ("sha256", True, Reason.NO_CERTIFICATE),
        ("sha1", False, Reason.ALGORITHM),
    ],
)
def test_c10_a_signature_that_binds_its_certificate_holds_with_no_other(
    digest, of_another, reason
):
    """RFC 5035 §5: one key may have several certificates."""
    signer = pki.signer(pki.seal())
    bound = pki.signer(pki.seal(EVE)) if of_another else signer
    der = bound.certificate.public_bytes(serialization.Encoding.DER)
    identifier = {
        "hash_algorithm": {"algorithm": digest},
        "cert_hash": hashlib.new(digest, der).digest(),
    }
    recipe = Recipe(
        attributes=("content_type", "message_digest", "signing_certificate_v2"),
        values={"signing_certificate_v2": [tsp.SigningCertificateV2({"certs": [identifier]})]},
    )

    verdict = verdict_of(cms.signed(ENTITY, signer, recipe))

    assert (verdict.good, verdict.reason) == (reason is None, reason)


def test_c10_a_signer_is_known_by_issuer_and_number_or_by_its_key():
    """RFC 5652 §5.3: another authority's certificate of the same number is not the signer's."""
    signer = pki.signer(pki.seal())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "X")])
    stranger = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(signer.certificate.serial_number)
        .not_valid_before(pki.AT - timedelta(hours=1))
        .not_valid_after(pki.AT + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    held = [cms.parsed(Signer(stranger, key)), cms.parsed(signer)]
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, signer))["content"]
    info = data["signer_infos"][0]

    assert verdict_of(cms.rebuilt(data, infos=[info], certificates=held)).good
    for identifier, reason in ((held[1].key_identifier, None), (b"x", Reason.NO_CERTIFICATE)):
        info["sid"] = asn1_cms.SignerIdentifier("subject_key_identifier", identifier)
        encoded = cms.rebuilt(data, infos=[info], certificates=held)
        assert verdict_of(encoded).reason is reason


TIMES = [asn1_cms.Time({"utc_time": pki.AT + timedelta(days=n)}) for n in range(2)]
CLAIMS = [core.OctetString(each) for each in (b"one", b"two")]


@pytest.mark.parametrize(
    ("attributes", "values", "reason"),
    [
        pytest.param(["signing_time"], TIMES[:1], None, id="a time"),
        pytest.param(["signing_time"], TIMES, Reason.ATTRIBUTES, id="two times"),
        pytest.param(["signing_time"] * 2, TIMES[:1], Reason.ATTRIBUTES, id="a time twice"),
        pytest.param(["1.2.3.4"], CLAIMS, None, id="an unknown one of two values"),
        pytest.param(["1.2.3.4"] * 2, CLAIMS[:1], Reason.ATTRIBUTES, id="an unknown one twice"),
    ],
)
def test_c10_an_attribute_stands_once_and_one_that_matters_with_one_value(
    attributes, values, reason
):
    """RFC 5652 §5.3, RFC 5652 §11.3."""
    recipe = Recipe(
        attributes=("content_type", "message_digest", *attributes), values={attributes[0]: values}
    )

    assert verdict_of(cms.signed(ENTITY, pki.signer(pki.seal()), recipe)).reason is reason


def test_c10_what_is_signed_is_mime_content_and_nothing_else():
    """RFC 8551 §2.4.1: id-data."""
    info = asn1_cms.ContentInfo.load(sign_detached(ENTITY, pki.signer(pki.seal())))
    info["content"]["encap_content_info"]["content_type"] = "tst_info"

    assert verdict_of(info.dump(force=True)).reason is Reason.MALFORMED


@pytest.mark.parametrize("bits", [1024, 2047])
def test_c10_a_short_rsa_key_is_refused(bits):
    verdict = verdict_of(sign_detached(ENTITY, leaf_with(rsa.generate_private_key(65537, bits))))

    assert verdict.reason is Reason.WEAK_KEY
    assert verdict.path.status is PathStatus.UNTRUSTED
    assert verdict.result == "fail"


def test_c10_a_curve_off_the_list_is_refused():
    verdict = verdict_of(sign_detached(ENTITY, leaf_with(ec.generate_private_key(ec.SECP521R1()))))

    assert verdict.reason is Reason.WEAK_KEY


def test_c10_a_key_of_another_kind_than_the_algorithm_is_refused():
    mine, rsas = pki.signer(pki.seal()), pki.signer(pki.seal(kind=KeyKind.RSA_2048))
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, mine))["content"]
    info = data["signer_infos"][0]
    info["signature_algorithm"] = {"algorithm": "sha256_rsa"}
    assert verdict_of(cms.rebuilt(data, infos=[info])).reason is Reason.ALGORITHM
    swapped = asn1_cms.ContentInfo.load(sign_detached(ENTITY, rsas))["content"]
    info = swapped["signer_infos"][0]
    info["signature_algorithm"] = {"algorithm": "sha256_ecdsa"}
    assert verdict_of(cms.rebuilt(swapped, infos=[info])).reason is Reason.ALGORITHM


def test_c10_an_absent_certificate_is_refused():
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, pki.signer(pki.seal())))["content"]

    verdict = verdict_of(cms.rebuilt(data, infos=data["signer_infos"], certificates=[]))

    assert verdict.reason is Reason.NO_CERTIFICATE
    assert verdict.result == "fail"


def authority(issuer: Branch, **extensions: object):
    """A sub-authority made by hand under one of ours."""
    above = pki.practice().authorities[issuer]
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sous-AC")]))
        .issuer_name(above.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.AT - timedelta(hours=1))
        .not_valid_after(pki.AT + timedelta(days=9))
    )
    for extension, critical in extensions.values():
        builder = builder.add_extension(extension, critical=critical)
    return key, builder.sign(above.key, hashes.SHA256())


def signer_under(key, certificate) -> Signer:
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cachet")]))
        .issuer_name(certificate.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.AT - timedelta(hours=1))
        .not_valid_after(pki.AT + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(pki.AUTHOR)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Signer(leaf, leaf_key, (certificate,))


BASIC = (x509.BasicConstraints(ca=True, path_length=None), True)


@pytest.mark.parametrize(
    ("issuer", "extensions"),
    [
        pytest.param(Branch.ORGANISATION, {"basic": BASIC}, id="path-length-exceeded"),
        pytest.param(Branch.ROOT, {}, id="not-an-authority"),
        pytest.param(
            Branch.ROOT,
            {
                "basic": BASIC,
                "names": (
                    x509.NameConstraints([x509.RFC822Name("autre.mssante.test")], None),
                    True,
                ),
            },
            id="name-constraints",
        ),
        pytest.param(
            Branch.ROOT,
            {
                "basic": BASIC,
                "unknown": (
                    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
                    True,
                ),
            },
            id="critical-unknown",
        ),
    ],
)
def test_c9_paths_that_rfc_5280_forbids_are_untrusted(issuer, extensions):
    key, certificate = authority(issuer, **extensions)

    verdict = verdict_of(sign_detached(ENTITY, signer_under(key, certificate)))

    assert (verdict.intact, verdict.valid, verdict.matches_from) == (True, True, True)
    assert verdict.path.status is PathStatus.UNTRUSTED


def test_c9_the_same_path_without_a_fault_is_found_through_what_the_message_holds():
    """Else the paths above would be untrusted for want of their authority."""
    signer = signer_under(*authority(Branch.ROOT, basic=BASIC))

    found = verdict_of(sign_detached(ENTITY, signer))
    alone = verdict_of(sign_detached(ENTITY, Signer(signer.certificate, signer.key)))

    assert found.path.status is PathStatus.REVOCATION_UNKNOWN  # it issues no list
    assert alone.path.status is PathStatus.UNTRUSTED


def test_c9_a_leaf_cannot_issue():
    leaf = pki.signer(pki.seal())

    verdict = verdict_of(sign_detached(ENTITY, signer_under(leaf.key, leaf.certificate)))

    assert verdict.path.status is PathStatus.UNTRUSTED


def test_c9_a_self_signed_certificate_is_untrusted():
    key = ec.generate_private_key(ec.SECP256R1())
    _, template = authority(Branch.ROOT, basic=BASIC)
    mine = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(pki.AT - timedelta(hours=1))
        .not_valid_after(pki.AT + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(pki.AUTHOR)]), critical=False)
        .sign(key, hashes.SHA256())
    )

    verdict = verdict_of(sign_detached(ENTITY, Signer(mine, key)))

    assert verdict.path.status is PathStatus.UNTRUSTED
    assert verdict.result == "policy"


def test_c12_sixteen_signers_are_judged_and_seventeen_refused():
    signer = pki.signer(pki.seal())

    assert verdict_of(cms.together(ENTITY, *[signer] * 16)).good
    assert verdict_of(cms.together(ENTITY, *[signer] * 17)).reason is Reason.TOO_MANY


def test_c12_sixty_four_certificates_are_read_and_one_more_refused():
    signer = pki.signer(pki.seal())
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, signer))["content"]
    one = cms.parsed(signer)

    for count, reason in ((64, None), (65, Reason.TOO_MANY), (400, Reason.TOO_MANY)):
        encoded = cms.rebuilt(data, infos=data["signer_infos"], certificates=[one] * count)
        assert verdict_of(encoded).reason is reason


def test_c12_a_signature_is_read_up_to_its_size():
    encoded = sign_detached(ENTITY, pki.signer(pki.seal()))
    exact = replace(policy.DEFAULT, max_detached_cms_bytes=len(encoded))
    less = replace(policy.DEFAULT, max_detached_cms_bytes=len(encoded) - 1)

    assert cms_verify.verify_detached(encoded, ENTITY, exact).reason is None
    assert cms_verify.verify_detached(encoded, ENTITY, less).reason is Reason.TOO_MANY
    for octets, reason in ((len(encoded), None), (len(encoded) - 1, Reason.TOO_MANY)):
        limits = replace(policy.DEFAULT, max_cms_bytes=octets)
        assert cms_verify.verify_detached(encoded, ENTITY, limits).reason is reason


def test_c12_ten_thousand_signers_are_refused_at_once():
    data = asn1_cms.ContentInfo.load(sign_opaque(ENTITY, pki.signer(pki.seal())))["content"]
    info = data["signer_infos"][0]
    encoded = cms.rebuilt(data, infos=[info] * 10_000, embedded=ENTITY)
    raw = cms.opaque(encoded, pki.AUTHOR)

    started = time.process_time()
    verdict = verify(raw, pki.policy())

    assert verdict.reason is Reason.TOO_MANY
    assert time.process_time() - started < 1


def test_c12_a_deeply_nested_structure_is_refused_without_a_crash():
    encoded = b"\x30\x80" * 100_000

    assert verdict_of(encoded[:300_000]).result == "fail"
    assert cms_verify.content_kind(encoded) is None


def test_c12_a_mesh_of_cross_certificates_does_not_hold_the_verifier():
    # Every authority certifies every other: the number of paths is the factorial of theirs.
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"AC {n}")]) for n in range(7)]
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    mesh: list[asn1_x509.Certificate] = []
    made: list[x509.Certificate] = []
    for subject, subject_key in zip(names, keys, strict=True):
        for issuer, issuer_key in zip(names, keys, strict=True):
            if subject == issuer:
                continue
            certificate = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(issuer)
                .public_key(subject_key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(pki.AT - timedelta(hours=1))
                .not_valid_after(pki.AT + timedelta(days=1))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .sign(issuer_key, hashes.SHA256())
            )
            made.append(certificate)
            mesh.append(
                asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))
            )
    signer = signer_under(keys[0], made[0])
    data = asn1_cms.ContentInfo.load(sign_detached(ENTITY, signer))["content"]
    encoded = cms.rebuilt(
        data, infos=data["signer_infos"], certificates=[cms.parsed(signer), *mesh]
    )

    started = time.process_time()
    verdict = verdict_of(encoded)

    assert verdict.path.status is PathStatus.UNTRUSTED
    assert time.process_time() - started < 2  # the sandbox's deadline


@pytest.mark.parametrize("seed", range(40))
def test_a_mutated_signature_is_never_good_and_never_raises(seed):
    encoded = bytearray(sign_detached(ENTITY, pki.signer(pki.seal())))
    step = max(1, len(encoded) // 40)
    for position in range(seed * step, min(len(encoded), (seed + 1) * step), 5):
        for flip in (0x01, 0x80):
            mutated = bytearray(encoded)
            mutated[position] ^= flip
            verdict = verdict_of(bytes(mutated))
            signed_by_author = verdict.good
            # Only octets that nothing signs (the order of certificates, versions) may change.
            assert not signed_by_author or verdict.signer_names == (pki.AUTHOR,)
