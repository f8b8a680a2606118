"""What patients add: files judged by their octets, measurements in their range, words in lines.

Source: MSS-FACTS §7.1.
"""

from datetime import date

import pytest

from record_bridge import life
from record_bridge.errors import RecordStateError

PDF = b"%PDF-1.7\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\0" * 20 + b"\0\0\0\0IEND\xaeB`\x82"
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 10 + b"\xff\xd9"
RTF = b"{\\rtf1 bonjour}"
TIFF = b"II*\x00" + b"\0" * 10


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        (PDF, "a.PDF", "application/pdf"),
        (PNG, "a.png", "image/png"),
        (JPEG, "a.jpeg", "image/jpeg"),
        (JPEG, "a.jpg", "image/jpeg"),
        (RTF, "a.rtf", "application/rtf"),
        (TIFF, "a.tif", "image/tiff"),
        (b"MM\x00*" + b"\0" * 8, "a.tiff", "image/tiff"),
        ("Médecin : « oui »\r\n".encode(), "a.txt", "text/plain"),
        ("Médecin".encode("latin-1"), "a.txt", "text/plain"),
    ],
)
def test_a_file_is_what_its_octets_say(content, name, media_type):
    assert life.sniff(content, name) == media_type


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        pytest.param(b"", "a.pdf", "file_empty", id="empty"),
        pytest.param(PDF, "a.png", "file_ending", id="another ending"),
        pytest.param(b"MZ", "a.exe", "file_type", id="an ending of no file"),
        pytest.param(PDF, "a", "file_ending", id="no ending"),
        pytest.param(PDF, "a.pdf.exe", "file_ending", id="two endings"),
        pytest.param(b"%PDF-1.7\n", "a.pdf", "file_type", id="cut PDF"),
        pytest.param(b"MZ\x90\x00", "a.pdf", "file_type", id="program"),
        pytest.param(b"PK\x03\x04", "a.pdf", "file_type", id="archive"),
        pytest.param(b"<html><script>", "a.txt", "file_type", id="markup as text"),
        pytest.param(b"<svg onload=x>", "a.png", "file_type", id="svg as image"),
        pytest.param(b"a\0b", "a.txt", "file_type", id="binary as text"),
        pytest.param(b"\x80\x81", "a.txt", "file_type", id="neither UTF-8 nor Latin-1"),
    ],
)
def test_anything_else_is_refused(content, name, reason):
    with pytest.raises(RecordStateError) as caught:
        life.sniff(content, name)
    assert caught.value.reason == reason


def test_a_file_has_at_most_five_megabytes():
    at = b"a" * life.MAX_FILE
    assert life.sniff(at, "a.txt") == "text/plain"
    for more in (1, life.MAX_FILE):
        with pytest.raises(RecordStateError, match="file_too_large"):
            life.sniff(at + b"a" * more, "a.txt")


@pytest.mark.parametrize(
    ("code", "value", "kept"),
    [
        ("weight", "72.5", "72,5"), ("weight", " 72 ", "72"), ("blood_pressure", "128/76", "128/76"),
        ("temperature", "45", "45"), ("temperature", "25", "25"),
    ],
)  # fmt: skip
def test_a_measurement_is_kept_in_one_form(code, value, kept):
    assert life.measured(code, value) == kept


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("weight", "<72"), ("weight", ""), ("weight", "-1"), ("weight", "72 kg"), ("weight", "501"),
        ("temperature", "45,01"), ("temperature", "24,99"), ("blood_pressure", "120"),
        ("blood_pressure", "120/80/1"), ("blood_pressure", "12/8"), ("weight", "1e2"), ("nothing", "1"),
        ("weight", "٧٢"),
    ],
)  # fmt: skip
def test_a_measurement_that_cannot_be_meant_is_refused(code, value):
    with pytest.raises(RecordStateError):
        life.measured(code, value)


def test_words_become_lines_without_control_characters():
    assert life.line(" a\r\nb\x00c\u202e ") == "a b c"
    assert life.paragraph("a\r\nb\x07\n") == "a\nb"
    assert len(life.line("x" * 1000)) == life.MAX_LINE
    assert len(life.paragraph("x" * 20_000)) == life.MAX_TEXT


def test_a_day_is_between_birth_and_today():
    born, today = date(1980, 1, 1), date(2026, 11, 23)
    assert life.civil_day("1980-01-01", today, born=born) == born
    assert life.civil_day("2026-11-23", today, born=born) == today
    for text in ("1979-12-31", "2026-11-24", "hier", ""):
        with pytest.raises(RecordStateError):
            life.civil_day(text, today, born=born)
