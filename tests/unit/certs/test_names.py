"""Distinguished names in the trust list's form and in the form that compares.

Source: RFC 4514 §2, RFC 8550 §3.
"""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.names import compared_name, dn_string, rfc822_names, written_name
from tests.support import pki


def name(*pairs: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


OPERATOR = name(
    (NameOID.COUNTRY_NAME, "FR"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Gironde (33)"),
    (NameOID.ORGANIZATION_NAME, "CHU d'Été, SA"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "318751275100020"),
    (NameOID.COMMON_NAME, "smtp.chu-a.mssante.test"),
)


def test_a_name_is_written_most_specific_first():
    assert (
        dn_string(OPERATOR)
        == "CN=smtp.chu-a.mssante.test,OU=318751275100020,O=CHU d'Été\\, SA,ST=Gironde (33),C=FR"
    )


@pytest.mark.parametrize(
    "written",
    [
        "CN=smtp.chu-a.mssante.test,OU=318751275100020,O=CHU d'Été\\, SA,ST=Gironde (33),C=FR",
        "CN=SMTP.chu-a.mssante.test, OU=318751275100020, O=CHU d'Été, SA, ST=Gironde (33), C=FR",
        "cn=smtp.chu-a.mssante.test,ou=318751275100020,o=CHU  d'ÉTÉ\\2C SA,s=gironde (33),c=fr",
        (
            "CN=smtp.chu-a.mssante.test,OU=318751275100020,O=CHU d'E\u0301te\u0301, SA,"
            "ST=Gironde (33),C=FR"
        ),
        (
            "2.5.4.3=smtp.chu-a.mssante.test,OID.2.5.4.11=318751275100020,O=CHU d'Été\\, SA,"
            "ST=Gironde (33),C=FR"
        ),
    ],
)
def test_ways_to_write_one_name_compare_equal(written):
    assert compared_name(written) == compared_name(dn_string(OPERATOR))


@pytest.mark.parametrize(
    "other",
    [
        "CN=smtp.chu-a.mssante.test,OU=318751275100020,O=CHU d'Été,ST=Gironde (33),C=FR",
        (
            "CN=smtp.chu-a.mssante.test.evil.test,OU=318751275100020,O=CHU d'Été\\, SA,"
            "ST=Gironde (33),C=FR"
        ),
        "C=FR,ST=Gironde (33),O=CHU d'Été\\, SA,OU=318751275100020,CN=smtp.chu-a.mssante.test",
        "",
    ],
)
def test_other_names_do_not_compare_equal(other):
    assert compared_name(other) != compared_name(dn_string(OPERATOR))


@pytest.mark.parametrize(
    "value", ["a,OU=b", "a+OU=b", "a\\,OU=b", "a=b", "#a", " a ", 'a"b', "a\x01b", "a;OU=b"]
)
def test_a_value_cannot_pretend_to_be_two_attributes(value):
    hostile = name((NameOID.COMMON_NAME, value))
    honest = name((NameOID.ORGANIZATIONAL_UNIT_NAME, "b"), (NameOID.COMMON_NAME, "a"))

    assert compared_name(dn_string(hostile)) != compared_name(dn_string(honest))


def test_the_attributes_of_one_rdn_are_no_sequence_of_rdns():
    together, apart = "CN=a+OU=b,C=FR", "CN=a,OU=b,C=FR"

    assert compared_name(together) != compared_name(apart)
    assert compared_name(together) == compared_name("OU=B + CN=A, C=fr")
    assert len(compared_name(together)) == 2


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("chu\x00-a", id="NUL"),
        pytest.param("chu\x1f-a", id="a control"),
        pytest.param("chu\u202e-a", id="a change of direction"),
        pytest.param("chu\ue000-a", id="private use"),
        pytest.param("chu\u0378-a", id="unassigned"),
        pytest.param("\xad", id="nothing that counts"),
        pytest.param("", id="empty"),
    ],
)
def test_a_value_that_may_not_be_compared_makes_it_nobodys_name(value):
    assert compared_name(dn_string(name((NameOID.COMMON_NAME, value or " ")))) == ()
    assert compared_name(f"CN={value},C=FR") == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("chu\xad-a", "chu-a", id="a soft hyphen"),
        pytest.param("STRASSE", "straße", id="case folding"),
        pytest.param("ﬁn", "fin", id="a ligature"),
        pytest.param("a\u00a0b", "A  B", id="kinds of space"),
        pytest.param("\u0130", "i\u0307", id="a dotted capital"),
    ],
)
def test_values_are_prepared_before_they_are_compared(one, other):
    assert compared_name(f"CN={one}") == compared_name(f"CN={other}") != ()


@pytest.mark.parametrize(
    "text", ["CN=a\\,b+OU=c,O=d\\+e,C=FR", "CN=\\#a\\ ,C=FR", dn_string(OPERATOR)]
)
def test_a_compared_name_is_read_back_as_it_is_written(text):
    assert compared_name(written_name(compared_name(text))) == compared_name(text) != ()


def test_addresses_come_from_the_alternative_name_only():
    certificate = x509.load_pem_x509_certificate(pki.seal().certificate)

    assert rfc822_names(certificate) == (pki.AUTHOR,)
    assert rfc822_names(next(iter(pki.practice().authorities.values())).certificate) == ()
