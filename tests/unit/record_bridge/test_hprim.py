"""HPRIM Médecin text: twelve lines that say who, however sloppily; anything else is not it."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge.formats import hprim
from record_bridge.formats.hprim import parse_hprim
from tests.support.hprim import HEADER, letter

TODAY = date(2026, 11, 30)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_the_header_is_read_in_every_encoding_and_line_end(encoding, end):
    raw = letter(family="ZZCANARY-NÖEL").replace("\n", end).encode(encoding)

    read = parse_hprim(raw, TODAY)

    assert read is not None
    assert (read.family, read.given, read.birth_date) == (
        "ZZCANARY-NÖEL", "ZZCANARYPRENOM", "19790328",
    )  # fmt: skip
    assert (read.number, read.sender) == ("279039999000178", "LABO DE TEST")
    assert "glycémie 0,95 g/L" in read.text
    assert "\r" not in read.text


@pytest.mark.parametrize(
    ("written", "born"),
    [
        ("28/03/1979", "19790328"),
        ("28/03/79", "19790328"),
        ("28031979", "19790328"),
        ("28-03-1979", "19790328"),
        ("01/01/25", "20250101"),
        ("29/02/1980", "19800229"),
        ("29/02/1981", ""),
        ("01/12/2026", ""),
        ("31/11/1979", ""),
        ("01/01/1850", ""),
        ("", ""),
        ("inconnue", ""),
        ("٢٨/٠٣/١٩٧٩", ""),
    ],
)
def test_a_day_is_read_when_it_has_been(written, born):
    read = parse_hprim(letter(born=written).encode(), TODAY)

    assert read is not None
    assert read.birth_date == born


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2 79 03 99 990 001 78", "279039999000178"),
        ("2790399990001", "2790399990001"),
        ("2790 2A 9990001", ""),
        ("279032A990001", "279032A990001"),
        ("27903999900017", ""),
        ("27903999900017899", ""),
        ("néant", ""),
    ],
)
def test_a_number_is_one_of_thirteen_or_fifteen_characters(written, number):
    read = parse_hprim(letter(number=written).encode(), TODAY)

    assert read is not None
    assert read.number == number


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(letter().encode() + b"\x1a", id="DOS end of file"),
        pytest.param(b"\r\n\r\n" + letter().encode(), id="blank lines first"),
        pytest.param(letter(end="").encode(), id="no end mark, but a birth date"),
        pytest.param(letter(end="****FINFICHIER****\n").encode(), id="end of file mark only"),
        pytest.param(letter(end="****FIN***\n").encode(), id="short mark"),
        pytest.param(letter(family="Z" * 5000).encode(), id="long line"),
    ],
)
def test_what_real_senders_do_is_read(raw):
    read = parse_hprim(raw, TODAY)

    assert read is not None
    assert read.given == "ZZCANARYPRENOM"
    assert len(read.family) <= hprim.MAX_LINE


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \r\n\x1a", id="blank"),
        pytest.param(b"\n".join([b"x"] * 11), id="eleven lines"),
        pytest.param(letter(end="", born="").encode(), id="neither mark nor date"),
        pytest.param(letter(family="").encode(), id="no name"),
        pytest.param(b"\n" * 21 + letter().encode(), id="too many blank lines"),
        pytest.param(letter().encode() + b"\x00binary", id="binary"),
        pytest.param(letter().encode("utf-16"), id="UTF-16"),
        pytest.param(b"<ClinicalDocument/>", id="markup"),
        pytest.param(b"%PDF-1.4\n%%EOF", id="PDF"),
        pytest.param(b"H|~^\\&|0.HPR||001~LABO||ORU|||002||P|H2.2\r" * 20, id="HPRIM santé"),
    ],
)
def test_anything_else_is_not_hprim_text(raw):
    assert parse_hprim(raw, TODAY) is None


def test_a_file_with_two_patients_says_so():
    both = letter(end="****FIN****\n") + letter(family="AUTRE")

    read = parse_hprim(both.encode(), TODAY)

    assert read is not None
    assert read.several


def test_one_patient_with_both_end_marks_is_one():
    read = parse_hprim(letter(end="****FIN****\n****FINFICHIER****\n").encode(), TODAY)

    assert read is not None
    assert not read.several


def test_a_file_has_at_most_five_megabytes():
    start = letter(end="")
    whole = start.encode() + b"a" * (hprim.MAX_OCTETS - len(start.encode()))

    assert parse_hprim(whole, TODAY) is not None
    assert parse_hprim(whole + b"a", TODAY) is None
    assert parse_hprim(whole * 2, TODAY) is None


@given(st.binary(max_size=2000))
def test_no_octets_make_it_fail(raw):
    read = parse_hprim(HEADER.encode() + raw, TODAY)

    assert read is None or read.family == "ZZCANARY-NOM"
