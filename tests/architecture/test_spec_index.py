"""Specifications: every one named in the code is in ``tests/spec/index.tsv``, and honestly.

``Yes`` means: all of it that concerns Pli is done, named where it is done and named by a test.
``Partial`` says in its note which part, ``No`` and ``Roadmap`` are not done.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "tests" / "spec" / "index.tsv"
PACKAGES = ("certs", "directory", "record_bridge", "mailserver")
REFERENCE = re.compile(r"\b(RFC \d{3,5}|[A-Z]{2,8}(?:-[A-Z0-9]+)*) §[\w.]+")
LOOSE = re.compile(r"\bRFC[ -]?(\d{3,5})\b")
STATUSES = {"Yes", "Partial", "No", "Roadmap"}


def references(*folders: str) -> Mapping[str, set[str]]:
    """Give key -> files that name one of its sections."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for match in REFERENCE.finditer(path.read_text("utf-8")):
                found[match[1]].add(str(path.relative_to(ROOT)))
    return found


with INDEX.open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE))
KEYS = {row["key"] for row in ROWS}
CODE = references(*PACKAGES)
TESTS = references("tests")


def test_the_index_is_a_table_in_order() -> None:
    assert list(ROWS[0]) == ["key", "title", "version", "status", "note"]
    assert len(KEYS) == len(ROWS)
    assert {row["status"] for row in ROWS} <= STATUSES
    assert all(row["title"] and row["version"] for row in ROWS)


@pytest.mark.parametrize("key", sorted(CODE.keys() | TESTS.keys()))
def test_a_specification_that_is_named_is_in_the_index(key: str) -> None:
    assert key in KEYS, sorted(CODE.get(key, set()) | TESTS.get(key, set()))


def test_an_rfc_is_never_named_outside_the_index() -> None:
    loose = {
        f"RFC {match[1]}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for match in LOOSE.finditer(path.read_text("utf-8"))
        if match[1] != "822"  # message/rfc822, "rfc822 names": words of other specifications
    }

    assert loose - KEYS == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["key"])
def test_a_status_is_borne_out(row: dict[str, str]) -> None:
    key = row["key"]

    match row["status"]:
        case "Yes":
            assert CODE.get(key), "nothing in the code names it"
            assert TESTS.get(key), "no test names it"
        case "Partial":
            assert CODE.get(key), "nothing in the code names it"
            assert row["note"], "which part?"
        case _:
            assert not CODE.get(key), "the code names what is said not to be done"


def test_what_is_still_to_do_is_not_told_as_done() -> None:
    todo = re.compile(r"\btodo (RFC \d{3,5}|[A-Z]{2,8}(?:-[A-Z0-9]+)*) §", re.IGNORECASE)
    status = {row["key"]: row["status"] for row in ROWS}
    told = {
        match[1]
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for match in todo.finditer(path.read_text("utf-8"))
    }

    assert {key for key in told if status[key] == "Yes"} == set()
