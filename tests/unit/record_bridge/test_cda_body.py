"""Which acts of a document count (RULES §8), and its narrative."""

import pytest

from record_bridge.cda_body import MAX_ACTS_PER_KIND, acts, copies, level1_file, sections
from record_bridge.errors import MalformedCdaError
from record_bridge.formats.cda_header import load_cda, read_header
from record_bridge.model import ActKind, AgendaAct
from tests.support.cda import (
    PDF,
    CdaSpec,
    cda,
    device,
    follow_up,
    planned_procedure,
    prescription,
    vaccination,
)


def read(*entries: tuple[str, str], **spec: object) -> tuple[AgendaAct, ...]:
    document = load_cda(cda(CdaSpec(acts=entries, **spec)))  # type: ignore[arg-type]  # tests name fields
    return acts(document, read_header(document))


def section(code: str, *entries: str) -> str:
    inside = "".join(f"<entry>{e}</entry>" for e in entries)
    return f'<component><section><code code="{code}"/>{inside}</section></component>'


def test_each_kind_is_read():
    found = read(
        follow_up("20261224", place="Clinique"),
        planned_procedure("20261225"),
        vaccination("20201010"),
        vaccination("20270101", mood="INT"),
        prescription("20261101", "20261201", renewals=2),
    )

    assert [(a.kind, a.label, a.low, a.high) for a in found] == [
        (ActKind.FOLLOW_UP, "Consultation de suivi", "20261224", None),
        (ActKind.PROCEDURE, "Coloscopie totale", "20261225", None),
        (ActKind.VACCINATION, "REPEVAX", "20201010", None),
        (ActKind.VACCINATION_DUE, "REPEVAX", "20270101", None),
        (ActKind.PRESCRIPTION, "AMOXICILLINE 1 g", "20261101", "20261201"),
    ]
    assert found[0].place == "Clinique"
    assert found[4].renewals == 2


MAKERS = {
    "encounter": lambda **k: follow_up("20261224", **k),
    "procedure": lambda **k: planned_procedure("20261224", **k),
    "vaccination": lambda **k: vaccination("20201010", **k),
    "vaccination due": lambda **k: vaccination("20270101", mood="INT", **k),
    "prescription": lambda **k: prescription("20261101", "20261201", **k),
}


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"attributes": 'negationInd="true"'}, id="negated"),
        pytest.param({"attributes": 'nullFlavor="NI"'}, id="null"),
        pytest.param({"status": "cancelled"}, id="cancelled"),
        pytest.param({"status": "aborted"}, id="aborted"),
        pytest.param({"status": "nullified"}, id="nullified"),
        pytest.param({"status": "suspended"}, id="suspended"),
    ],
)
def test_what_did_not_or_will_not_happen_leaves_nothing(maker, how: dict[str, str]):
    assert read(maker(**how)) == ()


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize(
    "how",
    [
        {"attributes": 'negationInd="false"'},
        {"status": "active"},
        {"status": "completed"},
        {"status": None},
    ],
)
def test_what_did_or_will_happen_counts(maker, how: dict[str, str]):
    assert len(read(maker(**how))) == 1


@pytest.mark.parametrize(
    "around",
    [
        '<organizer classCode="CLUSTER" moodCode="EVN" negationInd="true"><component>{}</component></organizer>',
        '<act classCode="ACT" moodCode="EVN" negationInd="true"><entryRelationship>{}</entryRelationship></act>',
        '<act classCode="ACT" moodCode="EVN"><entryRelationship negationInd="true">{}</entryRelationship></act>',
        '<act negationInd="true"><entryRelationship><act><entryRelationship>{}</entryRelationship></act></entryRelationship></act>',
        '<act><statusCode code="cancelled"/><entryRelationship>{}</entryRelationship></act>',
    ],
)
def test_negation_is_inherited_from_what_encloses(around: str):
    code, entry = follow_up("20261224")

    assert read((code, around.format(entry))) == ()
    assert (
        len(
            read(
                (
                    code,
                    around.format(entry)
                    .replace("negationInd", "x")
                    .replace("cancelled", "active"),
                )
            )
        )
        == 1
    )


def test_a_null_flavor_is_not_inherited():
    code, entry = follow_up("20261224")
    around = f'<act nullFlavor="NI"><entryRelationship>{entry}</entryRelationship></act>'

    assert len(read((code, around))) == 1


def test_a_vaccine_is_known_by_its_atc_code_among_the_translations():
    (found,) = read(vaccination("20201010", atc="J07BD52"))

    assert found.atc == "J07BD52"
    assert found.code == "65082437"


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("1.2.250.1.213.1.1.1.5.1", "CSE-CS8"),
        ("1.2.250.1.213.1.1.1.5.2", "CSE-CS9"),
        ("1.2.250.1.213.1.1.1.5.3", "CSE-CS24"),
    ],
)
def test_a_childs_certificate_says_that_its_examination_took_place(root, name):
    content = cda(CdaSpec(code="CERT_DECL")).replace(
        b'<templateId root="1.2.250.1.213.1.1.1.1"/>',
        b'<templateId root="1.2.250.1.213.1.1.1.1"/><templateId root="' + root.encode() + b'"/>',
    )
    assert root.encode() in content
    document = load_cda(content)

    (found,) = acts(document, read_header(document))

    assert (found.kind, found.code) == (ActKind.CERTIFICATE, name)
    assert found.low


def test_a_vaccination_without_a_date_counts_without_one():
    (found,) = read(vaccination(None))

    assert (found.kind, found.low) == (ActKind.VACCINATION, None)


def test_an_as_needed_line_is_known():
    (found,) = read(prescription("20261101", "20261201", as_needed=True))

    assert found.as_needed


def test_a_treatment_that_is_no_prescription_is_not_one():
    _, entry = prescription("20261101", "20261201")
    entry = entry.replace("1.2.250.1.213.1.1.3.83", "1.2.250.1.213.1.1.3.42")

    assert read(("10160-0", entry)) == ()


def test_history_is_not_an_appointment():
    code, entry = follow_up("20201224")

    assert read((code, entry.replace('moodCode="ARQ"', 'moodCode="EVN"'))) == ()


@pytest.mark.parametrize(("count", "kept"), [(99, 99), (100, 100), (101, 100), (3000, 100)])
def test_each_kind_is_capped(count: int, kept: int):
    found = read(*([follow_up("20261224")] * count), vaccination("20201010"))

    assert MAX_ACTS_PER_KIND == 100
    assert [a.kind for a in found].count(ActKind.FOLLOW_UP) == kept
    assert found[-1].kind is ActKind.VACCINATION


def test_sections_inside_sections_are_read():
    inner = section("18776-5", follow_up("20261224")[1])
    outer = f'<component><section><code code="x"/>{inner}</section></component>'

    assert len(read(sections=(outer,))) == 1


def test_a_label_may_stand_in_the_narrative():
    entry = (
        '<encounter classCode="ENC" moodCode="ARQ"><code nullFlavor="NA"><originalText>'
        '<reference value="#c1"/></originalText></code></encounter>'
    )
    text = '<component><section><text><content ID="c1">Revoir  le chirurgien</content></text></section></component>'

    assert read(("18776-5", entry), sections=(text,))[0].label == "Revoir le chirurgien"


def test_words_of_two_lines_or_cells_stay_two_words():
    text = (
        "<table><tr><td>A<br/>B</td><td>C</td></tr></table><list><item>D</item><item>E</item>"
        "</list><content>F</content><content>G</content><sub>2</sub>"
    )
    spec = CdaSpec(sections=(f"<component><section><text>{text}</text></section></component>",))

    assert sections(load_cda(cda(spec)))[-1].text == "A B C D E FG2"


def test_a_notice_of_appointment_is_one():
    (found,) = read(code="56446-8", effective_time="202612241030+0100")

    assert (found.kind, found.low) == (ActKind.APPOINTMENT, "202612241030+0100")


def test_the_file_of_level_1_is_decoded():
    document = load_cda(cda(CdaSpec(pdf=PDF)))
    found = level1_file(document)

    assert found is not None
    assert (found.media_type, found.content) == ("application/pdf", PDF)
    assert level1_file(load_cda(cda())) is None


def test_broken_base64_is_refused():
    content = cda(CdaSpec(pdf=PDF)).replace(b'"B64">', b'"B64">*')

    with pytest.raises(MalformedCdaError, match="base64"):
        level1_file(load_cda(content))


def test_the_pdf_copy_of_level_3_is_found():
    copy = section(
        "55108-5",
        '<observationMedia classCode="OBS" moodCode="EVN">'
        '<value mediaType="application/pdf" representation="B64">JVBERg==</value></observationMedia>',
    )
    (found,) = copies(load_cda(cda(CdaSpec(sections=(copy,)))))

    assert (found.media_type, found.content) == ("application/pdf", b"%PDF")


def test_sections_come_in_reading_order():
    found = sections(load_cda(cda(CdaSpec(acts=(follow_up("20261224"),)))))

    assert [(s.code, s.title, s.depth) for s in found] == [
        ("11502-2", "Résultats", 0),
        ("18776-5", "Section 18776-5", 0),
    ]
    assert "ZZCANARYTEXTE" in found[0].text


@pytest.mark.parametrize(
    ("low", "high", "days", "unit", "end"),
    [
        pytest.param("20261201", "20270131", "60", "d", "20270131", id="its end is written"),
        pytest.param("20261201", None, "60", "d", "20270130", id="start and days of use"),
        pytest.param("20261201", None, "", "d", None, id="no days"),
        pytest.param("20261201", None, "0", "d", None, id="no use at all"),
        pytest.param("20261201", None, "2", "mo", None, id="another unit"),
        pytest.param("2026", None, "60", "d", None, id="no day to count from"),
        pytest.param("99991231", None, "999", "d", None, id="past the end of the calendar"),
    ],
)
def test_a_device_prescription_ends_when_its_use_does(low, high, days, unit, end):
    (act,) = read(device(low, high, days=days, unit=unit))

    assert act.kind is ActKind.PRESCRIPTION
    assert (act.label, act.low, act.high) == ("LITS MÉDICAUX", low, end)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(device("20261201", None, mood="EVN"), id="a device in place"),
        pytest.param(device("20261201", None, attributes='negationInd="true"'), id="negated"),
        pytest.param(device("20261201", None, attributes='nullFlavor="NI"'), id="unknown"),
    ],
)
def test_a_device_that_nobody_asks_for_is_no_prescription(entry):
    assert read(entry) == ()
