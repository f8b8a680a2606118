"""The INS number: its key, its authorities, the forms of its traits (RULES §5).

Source: MSS-FACTS §5.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge.errors import InsError
from record_bridge.ins import (
    TraitsText,
    compose,
    has_good_key,
    key_of,
    parse_birth_date,
    parse_ins,
    parse_traits,
)
from record_bridge.model import Environment, InsMatricule, InsTraits, Sex

NIR, NIA = "1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.9"
TESTS = [
    "1.2.250.1.213.1.4.10",
    "1.2.250.1.213.1.4.11",
    "1.2.250.1.213.1.4.2",
    "1.2.250.1.213.1.4.6",
]


@pytest.mark.parametrize(
    "matricule", ["279035121518989", "277076322082910", "162018885045327", "274075176079430"]
)
def test_published_identifiers_have_a_good_key(matricule: str):
    assert has_good_key(matricule)


@pytest.mark.parametrize(
    "matricule", ["221042545611404", "224027511583555", "279035121518988", "", "2A"]
)
def test_a_wrong_key_is_seen(matricule: str):
    assert not has_good_key(matricule)


@pytest.mark.parametrize(
    ("number", "same_as"), [("180012A123456", "1800119123456"), ("180012B123456", "1800118123456")]
)
def test_corsica_counts_as_19_and_18(number: str, same_as: str):
    assert key_of(number) == key_of(same_as) == f"{97 - int(same_as) % 97:02}"


def test_2a_elsewhere_than_in_the_department_is_no_number():
    with pytest.raises(InsError):
        key_of("12A0175123456")


@pytest.mark.parametrize("oid", [NIR, NIA])
@pytest.mark.parametrize("environment", list(Environment))
def test_the_key_is_enforced_under_the_production_authorities(oid: str, environment: Environment):
    good = parse_ins("277076322082910", oid, environment)

    assert good == InsMatricule("277076322082910", oid)
    with pytest.raises(InsError, match="key"):
        parse_ins("277076322082911", oid, environment)


@pytest.mark.parametrize("oid", TESTS)
def test_the_key_is_not_enforced_under_test_authorities(oid: str):
    assert parse_ins("221042545611404", oid, Environment.TEST).value == "221042545611404"


@pytest.mark.parametrize("oid", TESTS)
def test_production_refuses_test_authorities(oid: str):
    with pytest.raises(InsError, match="test"):
        parse_ins("279035121518989", oid, Environment.PRODUCTION)


@pytest.mark.parametrize("oid", [NIR, NIA])
@pytest.mark.parametrize("text", ["27707632208291", "2770763220829100", "977076322082910", ""])
def test_a_number_of_another_form_is_refused_under_the_production_authorities(text: str, oid: str):
    with pytest.raises(InsError, match=r": form$"):
        parse_ins(text, oid, Environment.TEST)


@pytest.mark.parametrize("oid", TESTS)
@pytest.mark.parametrize("text", ["", "2790-39999", "1" * 23, "é", "²"])
def test_a_test_number_is_one_to_22_letters_and_digits(text: str, oid: str):
    assert parse_ins("1" * 22, oid, Environment.TEST).value == "1" * 22
    with pytest.raises(InsError, match=r": form$"):
        parse_ins(text, oid, Environment.TEST)


def test_a_number_is_taken_without_its_spaces_and_in_capitals():
    taken = parse_ins(" 1 80 01 2a 123 456 12 ", f" {TESTS[0]} ", Environment.TEST)

    assert taken == InsMatricule("180012A12345612", TESTS[0])


def test_another_authority_is_no_ins():
    with pytest.raises(InsError, match="authority"):
        parse_ins("279035121518989", "1.2.3", Environment.TEST)


@pytest.mark.parametrize("text", ["19790328", "1979-03-28", "28/03/1979", " 28/03/1979 "])
def test_birth_dates_are_read_in_three_forms(text: str):
    assert parse_birth_date(text) == "19790328"


def test_the_last_day_of_a_year_is_a_birth_date():
    assert parse_birth_date("31/12/1979") == "19791231"


@pytest.mark.parametrize(
    "text", ["1979", "197903", "28/3/1979", "19791328", "32/01/1979", "١٩٧٩٠٣٢٨", ""]
)
def test_other_dates_are_refused(text: str):
    with pytest.raises(InsError):
        parse_birth_date(text)


def test_an_unknown_day_is_kept_as_zeros():
    assert parse_birth_date("19790000") == "19790000"


def test_traits_are_read():
    text = TraitsText("  ZZCANARY  NOM ", "ANNE  LISE", "1979-03-28", " f ", " 2a004 ")

    read = InsTraits("ZZCANARY NOM", "ANNE LISE", "19790328", Sex.FEMALE, "2A004")
    assert parse_traits(text) == read


@pytest.mark.parametrize("place", [None, "", " "])
def test_a_birth_place_may_be_left_out(place: str | None):
    read = parse_traits(TraitsText("A", "B", "19790328", "F", place))

    assert read.birth_place is None


@pytest.mark.parametrize(
    "text",
    [
        TraitsText("", "A", "19790328", "F"),
        TraitsText("A", " ", "19790328", "F"),
        TraitsText("A", "B", "1979", "F"),
        TraitsText("A", "B", "19790328", "X"),
        TraitsText("A", "B", "19790328", "F", "7505"),
    ],
)
def test_partial_traits_are_refused(text: TraitsText):
    with pytest.raises(InsError):
        parse_traits(text)


@given(st.sampled_from(Sex), st.integers(1, 999), st.integers(99990, 99999))
def test_composed_numbers_have_a_good_key(sex: Sex, order: int, place: int):
    assert has_good_key(compose(sex, "19790328", str(place), order))


def test_no_input_is_quoted_in_an_error():
    with pytest.raises(InsError) as caught:
        parse_ins("ZZCANARY", NIR, Environment.TEST)

    assert "ZZCANARY" not in str(caught.value)
