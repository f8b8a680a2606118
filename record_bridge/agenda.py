"""Lines of a patient's agenda from the acts of a document.

Future acts are proposals that the patient decides on, past ones are history without a reminder,
both judged at the time of reception; what has no date, or one that cannot be meant, is "à
programmer". Titles are plain French text. Nothing repeats: no rule of recurrence is ever read.

Source: RULES §8, MSS-FACTS §4.5, threats X13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from record_bridge.formats.dtm import Dtm, paris_day, parse_dtm
from record_bridge.model import ActKind, AgendaAct, AgendaEntry, AgendaStatus

MAX_TITLE: Final = 200
_PAST_YEARS: Final = 1
_FUTURE_YEARS: Final = 10

_TITLES: Final = {
    ActKind.FOLLOW_UP: "Consultation de suivi",
    ActKind.PROCEDURE: "Acte prévu",
    ActKind.EXAMINATION: "Examen demandé",
    ActKind.VACCINATION: "Vaccination",
    ActKind.VACCINATION_DUE: "Vaccination recommandée",
    ActKind.PRESCRIPTION: "Ordonnance",
    ActKind.APPOINTMENT: "Rendez-vous",
    ActKind.CERTIFICATE: "Certificat de santé de l'enfant",
}
_GENERIC_CODES: Final = frozenset({"AMB", "EMER", "FLD", "HH", "IMP", "VR", "DRUG"})
"""Codes that say where or how, not what: the performer says more."""

_REMINDERS: Final = {
    ActKind.FOLLOW_UP: "Votre rendez-vous de suivi approche.",
    ActKind.PROCEDURE: "Un acte est prévu prochainement.",
    ActKind.EXAMINATION: "Un examen vous a été demandé.",
    ActKind.VACCINATION_DUE: "Une vaccination vous a été recommandée : parlez-en à votre médecin.",
    ActKind.APPOINTMENT: "Votre rendez-vous approche.",
}


@dataclass(frozen=True, slots=True)
class AgendaContext:
    """What the entries of one document are judged by.

    Attributes:
        received_at: aware UTC instant of reception.
        document_day: civil day of the document, for "l'ordonnance du ..."; None when unknown.
    """

    received_at: datetime
    document_day: date | None = None


def entries(acts: Sequence[AgendaAct], context: AgendaContext) -> tuple[AgendaEntry, ...]:
    """The agenda lines of a document, in its order.

    Args:
        acts: those that count (`record_bridge.cda_body.acts`).
        context: when the document came, and of which day it is.

    Source: RULES §8.
    """
    return tuple(_entry(act, ordinal, context) for ordinal, act in enumerate(acts))


def prescription_reminder(day: date | None) -> str:
    """What the patient is told when a prescription runs out; never "fin du traitement".

    Source: RULES §8.
    """
    of = f" du {day:%d/%m/%Y}" if day else ""
    return f"L'ordonnance{of} arrive à échéance : parlez-en à votre médecin ou pharmacien"


def _entry(act: AgendaAct, ordinal: int, context: AgendaContext) -> AgendaEntry:
    low, high = parse_dtm(act.low), parse_dtm(act.high)
    # a prescription matters when it ends; everything else when it begins
    when = (high or low) if act.kind is ActKind.PRESCRIPTION else (low or high)
    status = _status(act.kind, when, high, context.received_at)
    dated = None if status is AgendaStatus.TO_SCHEDULE else when
    return AgendaEntry(
        kind=act.kind,
        status=status,
        title=_title(act, when),
        day=None if dated is None else dated.day,
        start_at=None if dated is None else dated.at,
        end_at=None if dated is None or high is None or high is when else high.at,
        reminder=_reminder(act, status, context),
        place=act.place,
        code=act.code,
        code_system=act.code_system,
        ordinal=ordinal,
        atc=act.atc,
    )


def _status(
    kind: ActKind, when: Dtm | None, high: Dtm | None, received_at: datetime
) -> AgendaStatus:
    """Source: RULES §8 (future, past, no date, outside -1 to +10 years)."""
    if kind in (ActKind.VACCINATION, ActKind.CERTIFICATE):
        return AgendaStatus.HISTORY  # done, whenever it was
    if when is None or when.day is None:
        return AgendaStatus.TO_SCHEDULE
    today = paris_day(received_at)
    if not _years_from(today, -_PAST_YEARS) <= when.day <= _years_from(today, _FUTURE_YEARS):
        return AgendaStatus.TO_SCHEDULE
    last = high if high is not None and high.day is not None else when
    is_past = last.at < received_at if last.at is not None else (last.day or today) < today
    return AgendaStatus.HISTORY if is_past else AgendaStatus.PROPOSED


def _years_from(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return day.replace(year=day.year + years, day=28) + timedelta(days=1)


def _title(act: AgendaAct, when: Dtm | None) -> str:
    title = _TITLES[act.kind]
    label = "" if act.code in _GENERIC_CODES else act.label
    if act.kind is ActKind.PROCEDURE and label:
        title = label
    elif act.kind is ActKind.FOLLOW_UP:
        more = act.performer or label
        title = f"{title} – {more}" if more else title
    elif label:
        title = f"{title} : {label}"
    if act.kind is ActKind.VACCINATION:
        title += f" (dose {act.dose})" if act.dose else ""
        if when is None:
            title += " – date inconnue"
        elif when.day is None:
            title += f" – {when.text[:4]}, date inconnue"
    return _plain(title)


def _plain(text: str) -> str:
    """One line without control characters; pages escape it like any text."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(shown.split())[:MAX_TITLE]


def _reminder(act: AgendaAct, status: AgendaStatus, context: AgendaContext) -> str:
    """Source: RULES §8 (none for the past, none for as-needed items)."""
    if status is not AgendaStatus.PROPOSED or act.as_needed:
        return ""
    if act.kind is ActKind.PRESCRIPTION:
        return prescription_reminder(context.document_day)
    return _REMINDERS.get(act.kind, "")
