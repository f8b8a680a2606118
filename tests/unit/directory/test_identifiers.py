"""Identifiers: the key is checked by parse, the shape alone by lenient."""

import pytest

from directory.errors import IdentifierError, IdentifierReason
from directory.identifiers import (
    Finess,
    IdNatPs,
    IdNatStruct,
    PsKind,
    Rpps,
    Siret,
    StructKind,
    luhn,
)


@pytest.mark.parametrize("text", ["79927398713", "10002345675"])
def test_an_rpps_with_a_right_key_is_read(text):
    value = text if luhn(text) else next(t for d in "0123456789" if luhn(t := text[:-1] + d))

    assert Rpps.parse(value).value == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("79927398710", IdentifierReason.KEY, id="wrong key"),
        pytest.param("7992739871", IdentifierReason.SHAPE, id="ten digits"),
        pytest.param("799273987133", IdentifierReason.SHAPE, id="twelve digits"),
        pytest.param("7992739871x", IdentifierReason.SHAPE, id="a letter"),
        pytest.param("79927398713\n", IdentifierReason.SHAPE, id="a line end"),
        pytest.param("٧٩٩٢٧٣٩٨٧١٣", IdentifierReason.SHAPE, id="other digits"),
        pytest.param("", IdentifierReason.SHAPE, id="nothing"),
    ],
)
def test_a_bad_rpps_is_refused_with_its_reason_and_without_its_text(text, reason):
    with pytest.raises(IdentifierError) as caught:
        Rpps.parse(text)

    assert reason is caught.value.reason
    assert not text.strip() or text.strip() not in str(caught.value)


def test_the_published_test_rpps_is_read_leniently_only():
    assert Rpps.lenient("80123456789").value == "80123456789"
    with pytest.raises(IdentifierError):
        Rpps.parse("80123456788")


@pytest.mark.parametrize("text", ["750712184", "920000684"])
def test_a_real_finess_is_read(text):
    assert Finess.parse(text).value == text


def test_a_corsican_finess_is_read_by_shape():
    assert Finess.parse("2a0000014").value == "2A0000014"


def test_a_finess_with_a_wrong_key_is_refused():
    with pytest.raises(IdentifierError) as caught:
        Finess.parse("750712185")

    assert caught.value.reason is IdentifierReason.KEY


def test_a_siret_is_read_and_gives_its_siren():
    siret = Siret.parse("73282932000074")

    assert siret.siren == "732829320"


def test_a_siret_of_la_poste_is_read_by_its_own_rule():
    assert Siret.parse("35600000049837").value == "35600000049837"


def test_a_siret_with_a_wrong_key_is_refused():
    with pytest.raises(IdentifierError):
        Siret.parse("73282932000075")


def test_a_national_identifier_of_a_professional_gives_the_rpps():
    identifier = IdNatPs.parse("879927398713")

    assert identifier.kind is PsKind.RPPS
    assert identifier.rpps == Rpps("79927398713")
    assert str(identifier) == "879927398713"


def test_an_adeli_identifier_has_no_rpps():
    assert IdNatPs.parse("0759301471").rpps is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1750712184", StructKind.FINESS),
        ("373282932000074", StructKind.SIRET),
        ("2732829320", StructKind.SIREN),
        ("479927398713/01", StructKind.RPPS_RANK),
    ],
)
def test_a_national_identifier_of_a_structure_is_read_by_kind(text, kind):
    identifier = IdNatStruct.parse(text)

    assert kind is identifier.kind
    assert str(identifier) == text


@pytest.mark.parametrize("text", ["9750712184", "", "x1"])
def test_an_unknown_type_digit_is_refused(text):
    with pytest.raises(IdentifierError) as caught:
        IdNatStruct.parse(text)

    assert caught.value.reason is IdentifierReason.KIND


def test_an_organization_gives_its_national_form():
    assert str(IdNatStruct.of_organization("750712184")) == "1750712184"
    assert str(IdNatStruct.of_organization("73282932000074")) == "373282932000074"
