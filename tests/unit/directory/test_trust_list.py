"""The trust list: only what the signer covered is trusted, and nothing shrinks silently.

Source: MSS-OP §3.2.
"""

import base64
import hashlib
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from certs.names import compared_name
from directory.errors import TrustListError, TrustListReason
from directory.trust_list import (
    NOTHING_TRUSTED,
    REMEMBERED,
    Freshness,
    ListedDomain,
    TrustList,
    encode,
    parse,
)
from directory.trust_signature import sign
from tests.support.trust import LIST_AT, make_signer

DN_A = "CN=smtp.chu-a.test,OU=10B0167890,O=CHU A,ST=Gironde (33),C=FR"
DN_B = "CN=smtp.lab-b.test,OU=10B0167891,O=LAB B,ST=Rhône (69),C=FR"
ENTRIES = (
    ListedDomain("chu-a.mssante.test", DN_A, "CHU"),
    ListedDomain("chu-a.mssante.test", DN_B, "the same domain through another operator"),
    ListedDomain("Lab-B.mssante.test", DN_B),
)
DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"


@pytest.fixture(scope="module")
def signer():
    return make_signer("Liste de test")


@pytest.fixture(scope="module")
def stranger():
    return make_signer("Une autre liste")


@pytest.fixture(scope="module")
def signed(signer):
    return sign(encode(ENTRIES, LIST_AT), signer.key, signer.certificate)


def reason_of(xml: bytes, signer_der: bytes | None) -> TrustListReason:
    with pytest.raises(TrustListError) as caught:
        parse(xml, signer=signer_der)
    assert str(caught.value) == "the trust list cannot be used"
    return caught.value.reason


def test_a_signed_list_is_read(signed, signer):
    trust = parse(signed, signer=signer.der)

    assert trust.signed
    assert trust.generated_at == LIST_AT
    assert trust.allows("chu-a.mssante.test", DN_A)
    assert trust.allows("CHU-A.mssante.test", DN_B)
    assert trust.allows("lab-b.mssante.test", DN_B)


def test_a_name_is_compared_in_any_case_and_spacing(signed, signer):
    trust = parse(signed, signer=signer.der)

    assert trust.allows("chu-a.mssante.test", DN_A.lower().replace(",", ", "))


@pytest.mark.parametrize(
    "domain",
    [
        "lab-b.mssante.test",
        "evil-chu-a.mssante.test",
        "chu-a.mssante.test.evil.test",
        "chu-a.mssante.test.",
        "chu-a.mssante.test\0.evil.test",
        " chu-a.mssante.test",
        "mssante.test",
        "",
    ],
)
def test_a_certificate_does_not_speak_for_a_domain_it_is_not_listed_for(signed, signer, domain):
    assert not parse(signed, signer=signer.der).allows(domain, DN_A)


def test_an_operator_has_all_its_domains(signed, signer):
    operator = parse(signed, signer=signer.der).operator_of(DN_B)

    assert operator is not None
    assert operator.domains == {"chu-a.mssante.test", "lab-b.mssante.test"}


def test_an_unknown_name_is_no_operator(signed, signer):
    assert parse(signed, signer=signer.der).operator_of("CN=other,C=FR") is None


def test_an_unsigned_list_is_accepted_only_without_a_configured_signer(signer):
    xml = encode(ENTRIES, LIST_AT)

    assert not parse(xml, signer=None).signed
    assert reason_of(xml, signer.der) is TrustListReason.UNSIGNED


def test_a_list_signed_by_another_is_refused(signed, stranger):
    assert reason_of(signed, stranger.der) is TrustListReason.SIGNATURE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"chu-a.mssante.test", b"evil.mssante.test", id="a domain"),
        pytest.param(b"CN=smtp.chu-a.test", b"CN=smtp.evil.test", id="a name"),
        pytest.param(b"2026-11-22T10:00:00Z", b"2027-11-22T10:00:00Z", id="the date"),
    ],
)
def test_a_list_altered_after_signing_is_refused(signed, signer, old, new):
    assert reason_of(signed.replace(old, new, 1), signer.der) is TrustListReason.SIGNATURE


def test_an_altered_signature_value_is_refused(signed, signer):
    root = etree.fromstring(signed)
    value = root.find(f".//{{{DS}}}SignatureValue")
    value.text = base64.b64encode(b"\x01" * 256).decode()

    assert reason_of(etree.tostring(root), signer.der) is TrustListReason.SIGNATURE


def test_an_entry_added_beside_what_is_signed_is_refused(signed, signer):
    root = etree.fromstring(signed)
    wrapper = etree.Element(root.tag, nsmap=root.nsmap)
    wrapper.append(etree.fromstring(encode(ENTRIES, LIST_AT))[0])
    wrapper.append(etree.fromstring(encode((ListedDomain("evil.test", DN_A),), LIST_AT))[1])
    wrapper.append(root)

    assert reason_of(etree.tostring(wrapper), signer.der) is TrustListReason.SIGNATURE


def test_two_signatures_are_refused(signed, signer):
    root = etree.fromstring(signed)
    root.append(etree.fromstring(etree.tostring(root.find(f"{{{DS}}}Signature"))))

    assert reason_of(etree.tostring(root), signer.der) is TrustListReason.SIGNATURE


def test_a_signer_whose_certificate_has_expired_is_refused(signed, signer):
    with pytest.raises(TrustListError) as caught:
        parse(signed, signer=signer.der, at=LIST_AT + timedelta(days=366))

    assert caught.value.reason is TrustListReason.SIGNATURE


def test_a_truncated_file_is_refused(signed, signer):
    cut = signed[: len(signed) // 2]

    assert reason_of(cut, signer.der) is TrustListReason.UNREADABLE
    assert reason_of(cut, None) is TrustListReason.UNREADABLE


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<!DOCTYPE a [<!ENTITY x 'y'>]><a/>", id="entities"),
        pytest.param(b"<!DOCTYPE a SYSTEM 'http://x/'><a/>", id="external dtd"),
    ],
)
def test_what_is_no_safe_xml_is_refused(xml):
    assert reason_of(xml, None) is TrustListReason.UNREADABLE


def test_another_document_is_refused():
    assert reason_of(b"<html/>", None) is TrustListReason.STRUCTURE


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda xml: xml.replace(b"<Description></Description>", b"", 1), id="a child missing"
        ),
        pytest.param(
            lambda xml: xml.replace(b"<Description></Description>", b"<Autre/>", 1),
            id="an unknown child",
        ),
        pytest.param(
            lambda xml: xml.replace(b"2026-11-22T10:00:00Z</Date", b"hier</Date", 1), id="no date"
        ),
        pytest.param(
            lambda xml: xml.replace(b"10:00:00Z</DateDeG", b"10:00:00</DateDeG", 1),
            id="a date without zone",
        ),
    ],
)
def test_an_entry_that_is_not_of_the_schema_refuses_the_list(damage):
    assert reason_of(damage(encode(ENTRIES, LIST_AT)), None) is TrustListReason.STRUCTURE


def test_a_list_of_nobody_is_refused():
    assert reason_of(encode((), LIST_AT), None) is TrustListReason.EMPTY


def test_an_entry_that_cannot_be_read_trusts_nobody_and_is_counted():
    bad = (ListedDomain("pas un domaine", DN_A), ListedDomain("x.mssante.test", "nobody"))

    trust = parse(encode(ENTRIES + bad, LIST_AT), signer=None)

    assert trust.skipped == 2
    assert set(trust.entries) == {"chu-a.mssante.test", "lab-b.mssante.test"}


def test_a_domain_with_accents_is_kept_as_its_a_label():
    trust = parse(encode((ListedDomain("hôpital.mssante.test", DN_A),), LIST_AT), signer=None)

    assert trust.lists("xn--hpital-ixa.mssante.test")


def _of(count: int, at=LIST_AT) -> TrustList:
    return TrustList(
        at, {f"d{n}.mssante.test": frozenset({compared_name("CN=x")}) for n in range(count)}
    )


@pytest.mark.parametrize(("left", "accepted"), [(8, True), (7, False), (1, False)])
def test_a_list_that_loses_more_than_a_fifth_is_refused(left, accepted):
    assert _of(10).lost(_of(left)) == 10 - left
    if accepted:
        _of(10).check_loss(_of(left))
        return
    with pytest.raises(TrustListError) as caught:
        _of(10).check_loss(_of(left))

    assert caught.value.reason is TrustListReason.SHRUNK


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(timedelta(), None, id="the same date"),
        pytest.param(-timedelta(seconds=1), TrustListReason.OLDER, id="a second older"),
        pytest.param(timedelta(days=9), None, id="now"),
        pytest.param(timedelta(days=9, hours=1), None, id="clocks that differ"),
        pytest.param(
            timedelta(days=9, hours=1, seconds=1), TrustListReason.FUTURE, id="of the future"
        ),
        pytest.param(timedelta(days=9999), TrustListReason.FUTURE, id="far off"),
    ],
)
def test_a_list_is_no_older_than_the_one_in_use_nor_than_now(made, reason):
    now = LIST_AT + timedelta(days=9)
    if reason is None:
        _of(10).check_age(_of(10, LIST_AT + made), now)
        return
    with pytest.raises(TrustListError) as caught:
        _of(10).check_age(_of(10, LIST_AT + made), now)

    assert caught.value.reason is reason


def test_a_list_that_shrinks_day_by_day_is_refused_as_if_at_once():
    later = _of(100).followed_by(_of(81), LIST_AT)

    later.check_loss(_of(80))
    assert later.lost(_of(79)) == 21
    with pytest.raises(TrustListError):
        later.check_loss(_of(79))


def test_what_left_a_month_ago_or_with_the_word_of_two_persons_is_no_loss():
    month = LIST_AT + REMEMBERED
    later = _of(100).followed_by(_of(81), LIST_AT).followed_by(_of(81), month)
    assert later.lost(_of(79)) == 21
    later = later.followed_by(_of(81), month + timedelta(seconds=1))
    assert later.lost(_of(79)) == 2

    assert _of(100).followed_by(_of(50), LIST_AT).vouched_for().lost(_of(49)) == 1


@pytest.mark.parametrize("vouched", [False, True])
def test_a_domain_that_returns_with_another_name_is_told(vouched):
    without = _of(10).followed_by(_of(9), LIST_AT)
    without = without.vouched_for() if vouched else without
    other = frozenset({compared_name("CN=y")})
    back = TrustList(LIST_AT, {**without.entries, "d9.mssante.test": other})

    assert without.new_names(_of(10)) == ()
    assert without.new_names(back) == (("d9.mssante.test", compared_name("CN=y")),)
    assert not without.lists("d9.mssante.test")
    assert without.followed_by(back, LIST_AT).departed == {}


def test_the_first_list_follows_nothing():
    NOTHING_TRUSTED.check_age(_of(1), LIST_AT)
    NOTHING_TRUSTED.check_loss(_of(1))
    assert NOTHING_TRUSTED.new_names(_of(1)) == ()


def test_a_name_that_is_new_for_a_known_domain_is_told_and_nothing_else_is():
    known = parse(encode(ENTRIES, LIST_AT), signer=None)
    entries = [
        ListedDomain("chu-a.mssante.test", DN_A.upper()),  # as before, written otherwise
        ListedDomain("lab-b.mssante.test", DN_B),
        ListedDomain("lab-b.mssante.test", DN_A),
        ListedDomain("new.mssante.test", DN_A),  # nobody knew this domain
    ]

    newer = parse(encode(entries, LIST_AT), signer=None)

    assert known.new_names(newer) == (("lab-b.mssante.test", compared_name(DN_A)),)


def test_names_are_compared_rdn_by_rdn():
    listed = ListedDomain("chu-a.mssante.test", "CN=a+OU=b,O=c,C=FR")
    trust = parse(encode((listed,), LIST_AT), signer=None)

    assert trust.allows("chu-a.mssante.test", "ou=B+cn=A, o=C, c=fr")
    assert not trust.allows("chu-a.mssante.test", "CN=a,OU=b,O=c,C=FR")
    assert not trust.allows("chu-a.mssante.test", "O=c,CN=a+OU=b,C=FR")
    assert not trust.allows("chu-a.mssante.test", "CN=a\\+OU\\=b,O=c,C=FR")
    assert not trust.allows("chu-a.mssante.test", "")


@pytest.mark.parametrize(
    ("age", "freshness"),
    [
        (timedelta(hours=24), Freshness.FRESH),
        (timedelta(hours=24, seconds=1), Freshness.STALE),
        (timedelta(days=8), Freshness.STALE),
        (timedelta(days=8, seconds=1), Freshness.EXPIRED),
    ],
)
def test_age_makes_a_list_stale_then_expired(age, freshness):
    judged = _of(1).freshness(LIST_AT + age, timedelta(hours=24), timedelta(days=7))

    assert freshness is judged


def ans_signed(
    signer, *, xpath="/descendant::ds:Signature", tamper=False, named=None, covered=True
) -> bytes:
    """Sign as the sibling ANS list does: XAdES, xmldsig-filter2, two references.

    Made here by hand, with lxml's canonicalisation and RSA of pyca, apart from signxml.
    """

    def c14n(element):
        return etree.tostring(element, method="c14n", exclusive=True)

    def digest(octets):
        return base64.b64encode(hashlib.sha256(octets).digest()).decode()

    root = etree.fromstring(encode(ENTRIES, LIST_AT))
    certificate = digest((named or signer).der)
    properties = (
        f'<xades:SignedProperties xmlns:xades="{XADES}" xmlns:ds="{DS}" Id="props">'
        "<xades:SignedSignatureProperties><xades:SigningTime>2026-11-22T10:00:00Z"
        "</xades:SigningTime><xades:SigningCertificateV2><xades:Cert><xades:CertDigest>"
        '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
        f"<ds:DigestValue>{certificate}</ds:DigestValue></xades:CertDigest></xades:Cert>"
        "</xades:SigningCertificateV2></xades:SignedSignatureProperties></xades:SignedProperties>"
    )
    exclusive = "http://www.w3.org/2001/10/xml-exc-c14n#"
    sha256 = "http://www.w3.org/2001/04/xmlenc#sha256"
    info = (
        f'<ds:SignedInfo xmlns:ds="{DS}"><ds:CanonicalizationMethod Algorithm="{exclusive}"/>'
        '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>'
        '<ds:Reference URI=""><ds:Transforms>'
        '<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2">'
        '<dsf:XPath xmlns:dsf="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">'
        f"{xpath}</dsf:XPath></ds:Transform>"
        f'<ds:Transform Algorithm="{exclusive}"/></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{sha256}"/>'
        f"<ds:DigestValue>{digest(c14n(root))}</ds:DigestValue></ds:Reference>"
        '<ds:Reference Type="http://uri.etsi.org/01903#SignedProperties" URI="#props">'
        f'<ds:Transforms><ds:Transform Algorithm="{exclusive}"/></ds:Transforms>'
        f'<ds:DigestMethod Algorithm="{sha256}"/><ds:DigestValue>'
        f"{digest(c14n(etree.fromstring(properties)))}</ds:DigestValue>"
        "</ds:Reference></ds:SignedInfo>"
    )
    if not covered:
        start, end = '<ds:Reference Type="http://uri.etsi.org', "</ds:SignedInfo>"
        info = info[: info.index(start)] + end
    value = base64.b64encode(
        signer.key.sign(c14n(etree.fromstring(info)), padding.PKCS1v15(), hashes.SHA256())
    ).decode()
    signature = (
        f'<ds:Signature xmlns:ds="{DS}" Id="s">{info}<ds:SignatureValue>{value}'
        "</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>"
        f"{base64.b64encode(signer.der).decode()}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
        f'<ds:Object><xades:QualifyingProperties xmlns:xades="{XADES}" Target="#s">{properties}'
        "</xades:QualifyingProperties></ds:Object></ds:Signature>"
    )
    root.append(etree.fromstring(signature))
    xml = etree.tostring(root)
    return xml.replace(b"lab-b", b"lab-c").replace(b"Lab-B", b"Lab-C") if tamper else xml


def test_a_list_signed_in_the_published_way_is_read(signer):
    trust = parse(ans_signed(signer), signer=signer.der)

    assert trust.signed
    assert trust.allows("lab-b.mssante.test", DN_B)


def test_a_list_signed_in_the_published_way_and_altered_is_refused(signer):
    assert reason_of(ans_signed(signer, tamper=True), signer.der) is TrustListReason.SIGNATURE


def test_a_transform_that_takes_away_more_than_the_signature_is_refused(signer):
    xml = ans_signed(signer, xpath="/descendant::*[local-name()='Domaine']")

    assert reason_of(xml, signer.der) is TrustListReason.SIGNATURE


def test_properties_that_name_another_certificate_are_refused(signer, stranger):
    xml = ans_signed(signer, named=stranger)

    assert reason_of(xml, signer.der) is TrustListReason.SIGNATURE


def test_properties_that_are_not_signed_are_refused(signer):
    assert reason_of(ans_signed(signer, covered=False), signer.der) is TrustListReason.SIGNATURE
