"""The generated documents are read as their golden summaries say, each whole."""

import csv
import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest

from directory.codes import class_of, type_label
from record_bridge import agenda, cda_body
from record_bridge.formats.cda_header import CdaHeader, load_cda, read_header
from record_bridge.formats.dtm import parse_dtm
from record_bridge.medications import medications
from record_bridge.model import Environment, Medication
from tests.support.cda_vectors import FOLDER, VECTORS
from tests.support.record import message, opened, report

RECEIVED = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
GOLDEN: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "golden.toml").read_text("utf-8"))
DEFAULTS = GOLDEN.pop("defaults")
with (FOLDER / "types.tsv").open(encoding="utf-8", newline="") as _file:
    TYPES = list(csv.DictReader(_file, delimiter="\t"))


def summary(content: bytes) -> tuple[dict[str, Any], tuple[Any, ...]]:
    root = load_cda(content)
    header = read_header(root)
    acts = cda_body.acts(root, header)
    created = parse_dtm(header.effective_time)
    assert created is not None
    entries = agenda.entries(acts, agenda.AgendaContext(RECEIVED, created.day))
    told = {
        "type": header.code,
        "title": header.title,
        "patient": patient_of(header),
        "authors": [author.name for author in header.authors],
        "created": str(created.day),
        "visit": "" if header.encounter is None else visit_of(header),
        "level": header.level,
        "agenda": [line(entry) for entry in entries],
        "medications": [named(each) for each in medications(root)],
        "reminders": sum(
            entry.kind.value == "prescription" and entry.reminder != "" for entry in entries
        ),
    }
    return told, acts


def patient_of(header: CdaHeader) -> str:
    (patient,) = header.patients
    (ins,) = patient.ins_ids
    return " ".join(
        (
            ins.extension,
            *patient.birth_families,
            *patient.first_givens,
            patient.birth_time or "",
            patient.sex or "",
            patient.birth_place,
        )
    )


def visit_of(header: CdaHeader) -> str:
    assert header.encounter is not None
    return f"{header.encounter.low} {header.encounter.high}"


def line(entry: Any) -> str:
    day = "-" if entry.day is None else str(entry.day)
    last = entry.atc or entry.place or ""
    return f"{entry.kind.value} | {entry.status.value} | {day} | {entry.title} | {last}".strip()


def named(medication: Medication) -> str:
    last = "si besoin" if medication.as_needed else medication.renewals or ""
    days = f"{medication.low or '-'} | {medication.high or '-'}"
    return f"{medication.kind.value} | {medication.label} | {days} | {last}".strip()


def test_every_document_has_a_golden_summary_and_is_as_generated() -> None:
    stored = {path.stem: path.read_bytes() for path in FOLDER.glob("*.xml")}

    assert stored == VECTORS
    assert set(GOLDEN) == set(VECTORS)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_document_is_read_as_its_golden_summary_says(name: str) -> None:
    golden = {"reminders": 0, **DEFAULTS, **GOLDEN[name]}
    renewals = golden.pop("renewals", None)

    told, acts = summary((FOLDER / f"{name}.xml").read_bytes())

    assert told == golden
    if renewals is not None:
        assert [act.renewals for act in acts] == renewals


def test_the_three_certificates_are_told_apart() -> None:
    codes = []
    for age in ("8_days", "9_months", "24_months"):
        (act,) = summary((FOLDER / f"certificate_{age}.xml").read_bytes())[1]
        codes.append(act.code)

    assert codes == ["CSE-CS8", "CSE-CS9", "CSE-CS24"]


def test_level_1_bodies_are_given_as_they_are() -> None:
    kinds = {}
    for name in ("pdf", "plain_text"):
        body = cda_body.level1_file(load_cda((FOLDER / f"{name}.xml").read_bytes()))
        assert body is not None
        kinds[body.media_type] = body.content[:5]

    assert kinds == {"application/pdf": b"%PDF-", "text/plain": b"Compt"}


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row["code"])
def test_every_national_type_is_read_with_its_label_and_class(row: dict[str, str]) -> None:
    raw = message(1, report(1, code=row["code"], code_display=row["label"]))

    (document,) = opened(raw, Environment.TEST).packages[0].documents

    assert document.problem is None
    assert document.header is not None
    assert document.header.code == row["code"]
    assert type_label(row["code"]) == row["label"]
    assert class_of(row["code"]) == row["class"]
