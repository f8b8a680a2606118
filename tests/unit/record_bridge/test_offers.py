"""What comes without a package: what it hints at, and who is suggested; nobody is decided on.

Source: RULES §5, MSS-CL §2.1, MSS-CL §3.1.
"""

from datetime import date

import pytest

from record_bridge import life
from record_bridge.errors import RecordStateError
from record_bridge.offers import PDF, TEXT, Hints, Told, read_offer, suggested
from tests.support.cda import PDF as FILE
from tests.support.hprim import letter

TODAY = date(2026, 11, 30)
CAMILLE = {
    "family": "ZZCANARY-NOM", "given": "CAMILLE", "birth_date": "19790328",
    "matricule": "279039999000178",
}  # fmt: skip
TWIN = CAMILLE | {"given": "CLAUDE", "matricule": "179039999000278"}
OTHER = CAMILLE | {"family": "DURAND", "birth_date": "19800101", "matricule": "180019999000123"}


def test_a_letter_hints_by_its_header_and_its_letters_come_out_as_utf_8():
    offer = read_offer(letter().encode("latin-1"), Told(codes="11502-2, x"), TODAY)

    assert offer.media_type == TEXT
    assert "glycémie" in offer.content.decode()
    assert offer.hints == Hints(
        "ZZCANARY-NOM", "ZZCANARYPRENOM", "19790328", "279039999000178", "11502-2"
    )


@pytest.mark.parametrize(
    ("told", "hints"),
    [
        (Told("20261122_CR_DE-LA-TOUR_Anne_42.pdf"), Hints("DE LA TOUR", "Anne")),
        (Told("scan.pdf"), Hints()),
        (
            Told("scan.pdf", "XDM/1.0/DDM+CR DURAND Anne 28/03/1979"),
            Hints("DURAND", "Anne", "19790328"),
        ),
        (Told(codes="34112-3,11502-2"), Hints(type_code="34112-3")),
        (Told(codes="rien,<b>"), Hints()),
        (Told("_" * 9000, "a " * 9000, "," * 9000), Hints()),
    ],
)
def test_a_pdf_hints_by_what_is_around_it(told, hints):
    offer = read_offer(FILE, told, TODAY)

    assert (offer.media_type, offer.content, offer.hints) == (PDF, FILE, hints)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "file_empty", id="empty"),
        pytest.param(b"%PDF-1.4\ncut", "not_offered", id="cut PDF"),
        pytest.param(b"MZ\x90\x00", "not_offered", id="program"),
        pytest.param(b"Bonjour", "not_offered", id="words"),
        pytest.param(b"PK\x03\x04", "not_offered", id="archive"),
        pytest.param((letter() * 2).encode(), "several_patients", id="two patients"),
        pytest.param(b"%PDF-" + b"a" * (life.MAX_FILE - 4), "file_too_large", id="one over"),
        pytest.param(b"%PDF-" + b"a" * (3 * life.MAX_FILE), "file_too_large", id="far over"),
    ],
)
def test_anything_else_is_refused(raw, reason):
    with pytest.raises(RecordStateError) as caught:
        read_offer(raw, Told(), TODAY)
    assert caught.value.reason == reason


def test_a_pdf_of_exactly_five_megabytes_is_offered():
    raw = FILE[:-6] + b"a" * (life.MAX_FILE - len(FILE)) + b"%%EOF\n"

    assert len(read_offer(raw, Told(), TODAY).content) == life.MAX_FILE


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        pytest.param(Hints(), [], id="nothing"),
        pytest.param(Hints("zzcanary nom", "Camille"), [CAMILLE], id="both names"),
        pytest.param(Hints("ZZCANARY-NOM"), [], id="one name is too few"),
        pytest.param(Hints(birth_date="19790328"), [], id="a day is too few"),
        pytest.param(
            Hints("ZZCANARY-NOM", "Camille", "19790328"), [CAMILLE, TWIN], id="best first"
        ),
        pytest.param(
            Hints("ZZCANARY-NOM", "CAMILLE", "19990101"), [], id="names with another birth date"
        ),
        pytest.param(Hints(number="2790399990001"), [CAMILLE], id="number without key"),
        pytest.param(
            Hints("DURAND", "Camille", "19800101", "279039999000178"), [OTHER, CAMILLE],
            id="a child under a parent's number",
        ),
    ],
)  # fmt: skip
def test_suggestions_fit_enough_hints_best_first(hints, expected):
    assert suggested(hints, [TWIN, CAMILLE, OTHER]) == expected
