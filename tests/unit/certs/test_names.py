"""Distinguished names in the trust list's form and in the form that compares.

Source: RFC 4514 §2, RFC 8550 §3.
"""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.names import dn_string, normalise_dn, rfc822_names
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
    assert normalise_dn(written) == normalise_dn(dn_string(OPERATOR))


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
    assert normalise_dn(other) != normalise_dn(dn_string(OPERATOR))


@pytest.mark.parametrize(
    "value", ["a,OU=b", "a+OU=b", "a\\,OU=b", "a=b", "#a", " a ", 'a"b', "a\x01b", "a;OU=b"]
)
def test_a_value_cannot_pretend_to_be_two_attributes(value):
    hostile = name((NameOID.COMMON_NAME, value))
    honest = name((NameOID.ORGANIZATIONAL_UNIT_NAME, "b"), (NameOID.COMMON_NAME, "a"))

    assert normalise_dn(dn_string(hostile)) != normalise_dn(dn_string(honest))
    assert normalise_dn(dn_string(hostile)).count("CN=") == 1


def test_addresses_come_from_the_alternative_name_only():
    certificate = x509.load_pem_x509_certificate(pki.seal().certificate)

    assert rfc822_names(certificate) == (pki.AUTHOR,)
    assert rfc822_names(next(iter(pki.practice().authorities.values())).certificate) == ()
