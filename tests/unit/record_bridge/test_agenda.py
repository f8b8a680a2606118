"""What a document's acts become in the agenda (RULES §8)."""

from datetime import UTC, date, datetime

import pytest

from record_bridge.agenda import AgendaContext, entries, prescription_reminder
from record_bridge.model import ActKind, AgendaAct, AgendaEntry, AgendaStatus

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
CONTEXT = AgendaContext(AT, date(2026, 11, 2))


def act(kind: ActKind = ActKind.FOLLOW_UP, low: str | None = None, **more: object) -> AgendaAct:
    return AgendaAct(kind, "X", "1.2", str(more.pop("label", "")), low, **more)  # type: ignore[arg-type]  # tests name fields


def entry(*args: object, **more: object) -> AgendaEntry:
    return entries([act(*args, **more)], CONTEXT)[0]  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("low", "status"),
    [
        pytest.param("20261224", AgendaStatus.PROPOSED, id="future"),
        pytest.param("20261122", AgendaStatus.PROPOSED, id="today"),
        pytest.param("20261121", AgendaStatus.HISTORY, id="yesterday"),
        pytest.param("202611221005", AgendaStatus.PROPOSED, id="in five minutes, Paris time"),
        pytest.param("202611221000", AgendaStatus.PROPOSED, id="now, Paris time"),
        pytest.param("202611220955", AgendaStatus.HISTORY, id="five minutes ago, Paris time"),
        pytest.param("202611220955+0000", AgendaStatus.PROPOSED, id="with an offset"),
        pytest.param("20251122", AgendaStatus.HISTORY, id="one year ago"),
        pytest.param("20251121", AgendaStatus.TO_SCHEDULE, id="one year and a day ago"),
        pytest.param("20361122", AgendaStatus.PROPOSED, id="in ten years"),
        pytest.param("20361123", AgendaStatus.TO_SCHEDULE, id="in ten years and a day"),
        pytest.param("99991231", AgendaStatus.TO_SCHEDULE, id="year 9999"),
        pytest.param("2027", AgendaStatus.TO_SCHEDULE, id="a year alone"),
        pytest.param("202703", AgendaStatus.TO_SCHEDULE, id="a month alone"),
        pytest.param(None, AgendaStatus.TO_SCHEDULE, id="no date"),
        pytest.param("bientot", AgendaStatus.TO_SCHEDULE, id="no date at all"),
    ],
)
def test_the_date_decides_the_status(low: str | None, status: AgendaStatus):
    assert entry(low=low).status is status


def test_to_be_scheduled_has_no_day():
    found = entry(low="99991231")

    assert (found.day, found.start_at, found.reminder) == (None, None, "")


def test_an_hour_is_kept_as_an_instant():
    found = entry(low="202612240930")

    assert (found.day, found.start_at) == (
        date(2026, 12, 24),
        datetime(2026, 12, 24, 8, 30, tzinfo=UTC),
    )


MORNING, NOON = datetime(2026, 12, 24, 8, 30, tzinfo=UTC), datetime(2026, 12, 24, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "low", "high", "times"),
    [
        pytest.param(
            ActKind.APPOINTMENT, "202612240930", "202612241200", (MORNING, NOON), id="both"
        ),
        pytest.param(ActKind.APPOINTMENT, "202612240930", None, (MORNING, None), id="a beginning"),
        pytest.param(ActKind.APPOINTMENT, None, "202612241200", (NOON, None), id="an end alone"),
        pytest.param(
            ActKind.PRESCRIPTION, "202612240930", "202612241200", (NOON, None), id="a prescription"
        ),
        pytest.param(
            ActKind.PRESCRIPTION, "202612240930", None, (MORNING, None), id="one without an end"
        ),
        pytest.param(
            ActKind.APPOINTMENT, "999912240930", "999912241200", (None, None), id="out of bounds"
        ),
    ],
)
def test_when_it_begins_and_ends(
    kind: ActKind, low: str | None, high: str | None, times: tuple[datetime | None, ...]
):
    """RULES §8: a prescription matters when it ends, everything else when it begins."""
    found = entry(kind, low, high=high)

    assert (found.start_at, found.end_at) == times
    assert found.day == (None if times[0] is None else date(2026, 12, 24))


@pytest.mark.parametrize(
    ("low", "status"),
    [
        ("20270301", AgendaStatus.HISTORY),
        ("20270228", AgendaStatus.TO_SCHEDULE),
        ("20380301", AgendaStatus.PROPOSED),
        ("20380302", AgendaStatus.TO_SCHEDULE),
    ],
)
def test_years_from_a_leap_day_end_on_the_1st_of_march(low: str, status: AgendaStatus):
    context = AgendaContext(datetime(2028, 2, 29, 9, 0, tzinfo=UTC))

    assert entries([act(low=low)], context)[0].status is status


def test_what_the_act_says_of_itself_stays_with_its_line():
    made = AgendaAct(
        ActKind.VACCINATION, "J1", "1.2", "BCG", "20260102", place="Paris", atc="J07AN01"
    )
    found = entries([made], CONTEXT)[0]

    assert (found.kind, found.code, found.code_system) == (ActKind.VACCINATION, "J1", "1.2")
    assert (found.place, found.atc, found.title) == ("Paris", "J07AN01", "Vaccination : BCG")


@pytest.mark.parametrize("low", ["20261224", "19750101", None])
def test_a_certificate_is_history_whenever_it_was(low: str | None):
    assert entry(ActKind.CERTIFICATE, low).status is AgendaStatus.HISTORY


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ActKind.FOLLOW_UP, "Votre rendez-vous de suivi approche."),
        (ActKind.PROCEDURE, "Un acte est prévu prochainement."),
        (ActKind.EXAMINATION, "Un examen vous a été demandé."),
        (
            ActKind.VACCINATION_DUE,
            "Une vaccination vous a été recommandée : parlez-en à votre médecin.",
        ),
        (ActKind.APPOINTMENT, "Votre rendez-vous approche."),
        (ActKind.VACCINATION, ""),
        (ActKind.CERTIFICATE, ""),
    ],
)
def test_each_kind_reminds_in_its_own_words(kind: ActKind, said: str):
    assert entry(kind, "20261224").reminder.replace("\u00a0", " ") == said


def test_a_period_that_still_runs_is_not_past():
    assert entry(low="20261101", high="20261231").status is AgendaStatus.PROPOSED


def test_the_past_reminds_of_nothing():
    assert entry(low="20261101").reminder == ""


@pytest.mark.parametrize("low", ["20261224", "19750101", "20100101", None, "1975"])
def test_a_vaccination_done_is_history_whenever_it_was(low: str | None):
    assert entry(ActKind.VACCINATION, low).status is AgendaStatus.HISTORY


@pytest.mark.parametrize(
    ("low", "title"),
    [
        ("20200103", "Vaccination : REPEVAX (dose 2)"),
        (None, "Vaccination : REPEVAX (dose 2) – date inconnue"),
        ("1975", "Vaccination : REPEVAX (dose 2) – 1975, date inconnue"),
    ],
)
def test_a_vaccination_without_a_date_says_so(low: str | None, title: str):
    assert entry(ActKind.VACCINATION, low, label="REPEVAX", dose=2).title == title


def test_a_vaccination_without_a_date_settles_no_day():
    assert entry(ActKind.VACCINATION, None).day is None


def test_a_prescription_counts_by_its_end():
    found = entry(ActKind.PRESCRIPTION, "20261101", high="20261231", label="AMOXICILLINE")

    assert (found.day, found.status) == (date(2026, 12, 31), AgendaStatus.PROPOSED)
    assert found.reminder == (
        "L'ordonnance du 02/11/2026 arrive à échéance : parlez-en à votre médecin ou pharmacien"
    )


def test_an_as_needed_line_reminds_of_nothing():
    assert entry(ActKind.PRESCRIPTION, "20261101", high="20261231", as_needed=True).reminder == ""


def test_no_reminder_says_that_a_treatment_ends():
    said = " ".join(entry(kind, "20261224").reminder for kind in ActKind) + prescription_reminder(
        None
    )

    assert "fin du traitement" not in said.lower()
    assert "L'ordonnance arrive à échéance" in said


@pytest.mark.parametrize(
    ("kind", "more", "title"),
    [
        (
            ActKind.FOLLOW_UP,
            {"performer": "Médecin - Cardiologie"},
            "Consultation de suivi – Médecin - Cardiologie",
        ),
        (ActKind.FOLLOW_UP, {}, "Consultation de suivi"),
        (ActKind.FOLLOW_UP, {"label": "Bilan"}, "Consultation de suivi – Bilan"),
        (ActKind.PROCEDURE, {"label": "Coloscopie"}, "Coloscopie"),
        (ActKind.PROCEDURE, {}, "Acte prévu"),
        (ActKind.EXAMINATION, {"label": "IRM"}, "Examen demandé : IRM"),
        (ActKind.VACCINATION_DUE, {"label": "BCG"}, "Vaccination recommandée : BCG"),
        (ActKind.PRESCRIPTION, {"label": "X"}, "Ordonnance : X"),
        (ActKind.APPOINTMENT, {"label": "Bloc"}, "Rendez-vous : Bloc"),
    ],
)
def test_titles_are_french(kind: ActKind, more: dict[str, object], title: str):
    assert entry(kind, **more).title == title


def test_a_title_is_one_plain_line_of_bounded_length():
    found = entry(ActKind.PROCEDURE, label="a\r\nSUMMARY:\x00 \u202ex<b>" + "y" * 500)

    assert found.title.startswith("a SUMMARY: x<b>yyy")
    assert len(found.title) == 200


def test_a_code_that_only_says_where_is_not_a_title():
    found = entries([AgendaAct(ActKind.FOLLOW_UP, "AMB", "", "Ambulatoire", None)], CONTEXT)[0]

    assert found.title == "Consultation de suivi"


def test_entries_keep_the_order_of_the_document():
    found = entries([act(), act(), act()], CONTEXT)

    assert [e.ordinal for e in found] == [0, 1, 2]
