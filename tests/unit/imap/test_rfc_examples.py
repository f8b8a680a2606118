"""The table of the RFCs' examples: each is played somewhere, or says why it cannot be.

``tests/transcripts/imap/rfc_examples.tsv``: capability, specification and section, what the
example shows, the file under ``tests`` that plays it ("-": none), why not. A capability that is
announced without a row fails here, and so does a row whose file is gone or does not name its
section.

Source: RFC 9051 §6, RFC 3501 §6.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailserver.imap.grammar import READERS
from mailserver.imap.responses import capabilities
from mailserver.sasl.offer import Offer
from mailserver.sasl.steps import Channel
from tests.integration.imap.test_transcripts import FILES

TESTS = Path(__file__).parents[2]
TABLE = TESTS / "transcripts" / "imap" / "rfc_examples.tsv"
SPECIFICATION = re.compile(r"(RFC \d{4,5}) (§[\d.]+)")
SECTIONS = {
    "RFC 9051": [
        *(f"§6.1.{n}" for n in range(1, 4)),
        *(f"§6.2.{n}" for n in range(1, 4)),
        *(f"§6.3.{n}" for n in range(1, 14)),
        *(f"§6.4.{n}" for n in range(1, 10)),
        *(f"§6.4.4.{n}" for n in range(2, 5)),
    ],
    "RFC 3501": [
        *(f"§6.1.{n}" for n in range(1, 4)),
        *(f"§6.2.{n}" for n in range(1, 4)),
        *(f"§6.3.{n}" for n in range(1, 12)),
        *(f"§6.4.{n}" for n in range(1, 9)),
        "§6.5.1",
    ],
}
"""The sections of the commands, all of which have examples."""


@dataclass(frozen=True)
class Row:
    capability: str
    specification: str
    section: str
    example: str
    file: str
    why_not: str


def rows() -> list[Row]:
    found = []
    for line in TABLE.read_text("utf-8").splitlines():
        capability, place, example, file, why_not = line.split("\t")
        match = SPECIFICATION.fullmatch(place)
        assert match is not None, place
        found.append(Row(capability, match[1], match[2], example, file, why_not))
    return found


ROWS = rows()
MECHANISMS = Offer(lambda _login: b"", tokens=True).names(Channel(b"binding", "fingerprint"))


def announced() -> set[str]:
    moments = (
        {"before_login": True, "mechanisms": MECHANISMS, "tls_offered": False},
        {"before_login": True, "mechanisms": (), "tls_offered": True},
        {"before_login": False, "mechanisms": MECHANISMS, "tls_offered": False},
    )
    words = {
        word.decode()
        for moment in moments
        for word in capabilities(compressed=False, limit=7, **moment).split()
    }
    return {"APPENDLIMIT" if word.startswith("APPENDLIMIT=") else word for word in words}


def named_in(file: Path) -> dict[str, set[str]]:
    """Give the sections that a file's comments or docstrings name, by specification."""
    found: dict[str, set[str]] = {}
    text = file.read_text("utf-8")
    if file.suffix == ".txt":
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    current = ""
    for match in re.finditer(r"RFC \d{4,5}|§[\d.]*\d", text):
        if match[0].startswith("RFC"):
            current = match[0]
        else:
            found.setdefault(current, set()).add(match[0])
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.specification} {row.section}")
def test_an_example_is_played_or_says_why_not(row):
    if row.file == "-":
        assert row.why_not
        return
    file = TESTS / row.file
    assert file.exists()
    assert file.suffix == ".py" or file in FILES
    assert row.section in named_in(file).get(row.specification, set())


@pytest.mark.parametrize("capability", sorted(announced()))
def test_what_is_announced_has_examples_that_are_played(capability):
    assert any(row.capability == capability and row.file != "-" for row in ROWS)


def test_no_row_speaks_of_what_is_not_announced():
    assert {row.capability for row in ROWS} <= announced()


@pytest.mark.parametrize("specification", SECTIONS)
def test_every_command_of_the_base_has_its_examples(specification):
    there = {row.section for row in ROWS if row.specification == specification}
    assert set(SECTIONS[specification]) <= there


def test_every_command_is_in_a_conversation():
    said = set()
    for file in FILES:
        for line in file.read_text("utf-8").splitlines():
            match = re.match(r"C\d?: \S+ (UID \S+|\S+)", line)
            if match:
                said.add(match[1].upper().encode())

    assert set(READERS) - said - {b"COMPRESS"} == set()  # tests/integration/imap/test_compress.py


def test_a_section_that_a_file_does_not_name_is_seen():
    assert named_in(TABLE.parent / "uidonly.txt") == {"RFC 9586": {"§3"}}
