"""What the national calendar proposes to a person, from age, sex and what the record shows.

The calendar is data (``calendars/prevention_2025.toml``): each rule has its source and date. A
line says that something is proposed at an age, that it is noted as done, or that nothing is noted;
it never says that something must or may be given: no contraindication, no risk, no individual
schedule (RULES §8, and DECISIONS.md on medical devices).

Source: RULES §8, MSS-FACTS §7.2.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count
from typing import Final

from record_bridge.prevention_calendar import Age, Calendar, PreventionKind, PreventionRule

TALK: Final = "Rien n'est noté dans votre dossier : parlez-en à votre médecin."
PROPOSED: Final = "Proposé à cet âge par le calendrier national."
_LAST_AGE_YEARS: Final = 120


class PreventionState(enum.Enum):
    """Where a line of the calendar stands, the day it is looked at."""

    UPCOMING = "upcoming"
    DUE = "due"
    MISSED = "missed"
    DONE = "done"
    PAST = "past"

    @property
    def label(self) -> str:
        """The state in French."""
        return _LABELS[self]


_LABELS = {
    PreventionState.UPCOMING: "à venir",
    PreventionState.DUE: "c'est le moment",
    PreventionState.MISSED: "non noté à l'âge prévu",
    PreventionState.DONE: "noté comme fait",
    PreventionState.PAST: "âge passé, non noté",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the calendar is read for.

    Attributes:
        sex: "M" or "F"; for any other value the lines of one sex are left out.
    """

    birth_date: date
    sex: str


@dataclass(frozen=True, slots=True)
class Dose:
    """A vaccination that the record shows as given.

    Attributes:
        antigens: what it protects against, in the calendar's words (`Calendar.antigens`).
        day: civil day; None is "date inconnue" and settles nothing (RULES §8).
    """

    antigens: frozenset[str]
    day: date | None


@dataclass(frozen=True, slots=True)
class Declared:
    """What a person said with "déjà fait".

    Attributes:
        rule_id: of the calendar's line; ordinal: its dose or turn, from 1.
        day: when it was done, else when it was said.
    """

    rule_id: str
    ordinal: int
    day: date


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known to be done.

    Attributes:
        certificates: code of a child's health certificate in the record -> its civil day.
    """

    doses: tuple[Dose, ...] = ()
    declared: tuple[Declared, ...] = ()
    certificates: Mapping[str, date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreventionItem:
    """One line for the patient.

    Attributes:
        ordinal: dose or turn, from 1; with ``rule_id`` it names the line for good.
        due_from: first civil day; due_until: last one, None when it has no end.
        done_on: civil day when ``state`` is DONE.
        text: plain French sentence.
        source: where the rule stands, with its date.
    """

    rule_id: str
    ordinal: int
    kind: PreventionKind
    title: str
    due_from: date
    due_until: date | None
    state: PreventionState
    done_on: date | None
    text: str
    source: str


def plan(
    calendar: Calendar, person: Person, evidence: Evidence, today: date
) -> tuple[PreventionItem, ...]:
    """Every line of the calendar for one person, by date, past ones included.

    Args:
        calendar: `record_bridge.prevention_calendar.parse_calendar`.
        person: whose birth date is not after ``today``; a later one gives no line.
        evidence: what is known to be done; what lies after ``today`` is not.
        today: civil day in France.

    Source: RULES §8, MSS-FACTS §7.2.
    """
    if person.birth_date > today:
        return ()
    reading = _Reading(calendar, person, evidence, today)
    items = [
        item for rule in calendar.rules if reading.concerns(rule) for item in reading.of(rule)
    ]
    return tuple(sorted(items, key=lambda item: item.due_from))


@dataclass(slots=True)
class _Turn:
    """One dose or turn before it is judged."""

    ordinal: int
    first: date
    last: date | None
    done: date | None


class _Reading:
    """One person's calendar on one day."""

    __slots__ = ("_birth", "_calendar", "_evidence", "_sex", "_spent", "_today")

    def __init__(
        self, calendar: Calendar, person: Person, evidence: Evidence, today: date
    ) -> None:
        self._calendar = calendar
        self._birth = person.birth_date
        self._sex = person.sex
        self._evidence = evidence
        self._today = today
        self._spent: set[tuple[str, int]] = set()
        """(family of antigens, place of the dose) already counted for an earlier line."""

    def concerns(self, rule: PreventionRule) -> bool:
        if rule.sex is not None and rule.sex != self._sex:
            return False
        return rule.born_from is None or self._birth >= rule.born_from

    def of(self, rule: PreventionRule) -> Iterator[PreventionItem]:
        """The lines of one rule; one of which nothing was named any more is left out."""
        named_until = self._end(rule.catch_up)
        for turn in self._turns(rule):
            last = max(turn.last, named_until) if turn.last and named_until else turn.last
            if last is not None and last < self._calendar.date and turn.done is None:
                continue
            yield self._item(rule, turn)

    # --- turns -------------------------------------------------------------------------------

    def _turns(self, rule: PreventionRule) -> Iterator[_Turn]:
        if rule.kind is PreventionKind.SCREENING:
            return self._screening(rule)
        if rule.kind is not PreventionKind.VACCINATION:
            return self._once(rule)
        if rule.season is not None:
            return self._season(rule, rule.season)
        if rule.every is not None:
            return self._boosters(rule, rule.every)
        return self._series(rule)

    def _once(self, rule: PreventionRule) -> Iterator[_Turn]:
        done = self._declared(rule, 1)
        if done is None and rule.certificate is not None:
            done = self._known(self._evidence.certificates.get(rule.certificate))
        yield _Turn(1, rule.first.after(self._birth), self._end(rule.until), done)

    def _screening(self, rule: PreventionRule) -> Iterator[_Turn]:
        """What was done, each with its day, then the next turn while the age lasts."""
        end = self._end(rule.until)
        days = self._days_of(rule)
        for ordinal, day in enumerate(days, 1):
            yield _Turn(ordinal, day, end, day)
        due = rule.first.after(self._birth)
        if days and rule.every is not None:
            again = rule.second_after if len(days) == 1 and rule.second_after else rule.every
            due = max(due, again.after(days[-1]))
        elif rule.after is not None:
            before = self._days_of(self._calendar.rule(rule.after))
            if before and rule.after_delay is not None:
                due = max(due, rule.after_delay.after(before[-1]))
        if end is None or due <= end:
            yield _Turn(len(days) + 1, due, end, None)

    def _series(self, rule: PreventionRule) -> Iterator[_Turn]:
        last_until = self._end(rule.catch_up or rule.last_dose_until)
        taken = iter(self._doses(rule, rule.counted_from, last_until))
        previous: date | None = None
        for ordinal, age in enumerate(rule.doses, 1):
            first = age.after(self._birth)
            is_last = ordinal == len(rule.doses)
            if ordinal > 1 and rule.second_after is not None:
                first = rule.second_after.after(previous or first)
            last = self._end(rule.last_dose_until) if is_last else None
            last = last or self._end(age)
            if rule.is_open_ended:
                last = None
            done = self._declared(rule, ordinal) or next(taken, None)
            previous = done or previous
            yield _Turn(ordinal, first, last if last is None else max(first, last), done)

    def _boosters(self, rule: PreventionRule, every: Age) -> Iterator[_Turn]:
        """Fixed ages, each until the day before the next; the first to come ends the list."""
        first = rule.doses[0].after(self._birth)
        horizon = Age(_LAST_AGE_YEARS, "y").after(self._birth)
        for ordinal in count(1):
            following = every.after(first)
            last = following - timedelta(days=1)
            done = self._declared(rule, ordinal)
            if done is None:
                done = next(iter(self._between(rule, first, last)), None)
            yield _Turn(ordinal, first, last, done)
            if first > self._today or following > horizon:
                return
            first = following

    def _season(self, rule: PreventionRule, season: tuple[int, int]) -> Iterator[_Turn]:
        """This campaign while it runs, else the next one."""
        month, day = season
        start = date(self._today.year, month, day)
        if self._today.month < month and Age(4, "m").after(start.replace(year=start.year - 1)) > (
            self._today
        ):
            start = start.replace(year=start.year - 1)
        eligible = rule.doses[0].after(self._birth)
        while start < eligible:
            start = start.replace(year=start.year + 1)
        end = Age(4, "m").after(start) - timedelta(days=1)
        done = self._declared(rule, start.year)
        if done is None:
            done = next(iter(self._between(rule, start - timedelta(days=31), end)), None)
        yield _Turn(start.year, start, end, done)

    # --- evidence ------------------------------------------------------------------------------

    def _known(self, day: date | None) -> date | None:
        return day if day is not None and self._birth <= day <= self._today else None

    def _declared(self, rule: PreventionRule, ordinal: int) -> date | None:
        days = [
            said.day
            for said in self._evidence.declared
            if said.rule_id == rule.id and said.ordinal == ordinal
        ]
        return self._known(max(days)) if days else None

    def _days_of(self, rule: PreventionRule) -> list[date]:
        said = {said.day for said in self._evidence.declared if said.rule_id == rule.id}
        return sorted(day for day in said if self._known(day) is not None)

    def _doses(
        self, rule: PreventionRule, counted_from: Age | None, until: date | None
    ) -> Sequence[date]:
        first = self._birth if counted_from is None else counted_from.after(self._birth)
        return self._between(rule, first, until, limit=len(rule.doses))

    def _between(
        self, rule: PreventionRule, first: date, last: date | None, limit: int = 1
    ) -> Sequence[date]:
        """Days of the doses that count for a rule, each counted once in its family."""
        family, wanted = rule.antigens[0], frozenset(rule.antigens)
        days: list[date] = []
        dated = [
            (dose.day, place)
            for place, dose in enumerate(self._evidence.doses)
            if dose.day is not None and wanted <= dose.antigens
        ]
        for day, place in sorted(dated):
            is_free = (family, place) not in self._spent and self._known(day) is not None
            if is_free and first <= day and (last is None or day <= last) and len(days) < limit:
                self._spent.add((family, place))
                days.append(day)
        return days

    # --- judgement -----------------------------------------------------------------------------

    def _end(self, age: Age | None) -> date | None:
        return None if age is None else age.last_day(self._birth)

    def _item(self, rule: PreventionRule, turn: _Turn) -> PreventionItem:
        state = self._state(rule, turn)
        title = rule.title
        if len(rule.doses) > 1:
            title = f"{title} – dose {turn.ordinal}"
        text = {
            PreventionState.DONE: "" if turn.done is None else f"Noté le {turn.done:%d/%m/%Y}.",
            PreventionState.MISSED: TALK,
        }.get(state, PROPOSED)
        return PreventionItem(
            rule_id=rule.id,
            ordinal=turn.ordinal,
            kind=rule.kind,
            title=title,
            due_from=turn.first,
            due_until=turn.last,
            state=state,
            done_on=turn.done,
            text=text,
            source=f"{self._calendar.source_of(rule)} ({self._calendar.date:%d/%m/%Y})",
        )

    def _state(self, rule: PreventionRule, turn: _Turn) -> PreventionState:
        if turn.done is not None:
            return PreventionState.DONE
        if self._today < turn.first:
            return PreventionState.UPCOMING
        if turn.last is None or self._today <= turn.last:
            return PreventionState.DUE
        named_until = self._end(rule.catch_up)
        if named_until is not None and self._today <= named_until:
            return PreventionState.MISSED
        return PreventionState.PAST
