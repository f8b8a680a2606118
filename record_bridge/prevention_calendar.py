"""The national prevention calendar, read from its data file and checked.

Source: MSS-FACTS §7.2, RULES §8.
"""

import enum
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Final

from record_bridge.errors import MalformedCalendarError

_AGE: Final = re.compile(r"(\d{1,3})([dmy])")
_SEASON: Final = re.compile(r"(\d\d)-(\d\d)")
_MONTHS: Final = 12


class PreventionKind(enum.Enum):
    """What a rule proposes."""

    EXAMINATION = "examination"
    CHECKUP = "checkup"
    DENTAL = "dental"
    SCREENING = "screening"
    VACCINATION = "vaccination"


_SOURCES: Final = {
    PreventionKind.EXAMINATION: "examens",
    PreventionKind.CHECKUP: "bilans",
    PreventionKind.DENTAL: "dentaire",
    PreventionKind.SCREENING: "depistages",
    PreventionKind.VACCINATION: "vaccins",
}


class CellStatus(enum.Enum):
    """How sure a value of the calendar is."""

    OFFICIAL = "official"
    SECONDARY = "secondary"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Age:
    """An age or a delay.

    Attributes:
        number: 0 to 999.
        unit: "d", "m" or "y".
    """

    number: int
    unit: str

    def after(self, day: date) -> date:
        """The day this long after another; a day that its month lacks is the first of the next."""
        if self.unit == "d":
            return day + timedelta(days=self.number)
        months = self.number * (_MONTHS if self.unit == "y" else 1)
        year, month = divmod(day.year * _MONTHS + day.month - 1 + months, _MONTHS)
        try:
            return day.replace(year=year, month=month + 1)
        except ValueError:
            year, month = divmod(year * _MONTHS + month + 1, _MONTHS)
            return date(year, month + 1, 1)

    def last_day(self, birth_date: date) -> date:
        """The last day at which a person has this age, counted in its unit."""
        return Age(self.number + 1, self.unit).after(birth_date) - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PreventionRule:
    """One rule of the calendar.

    Attributes:
        first: the age at which it is first due.
        until: the last age that counts, included.
        every: it comes back so long after the last time.
        second_after: the second time comes so long after the first.
        after, after_delay: due so long after another rule's last time.
        doses: ages of a vaccination's doses.
        antigens: what a dose must hold to count.
        counted_from: doses before this age belong to an earlier rule.
        last_dose_until: the last age for the last dose, included.
        catch_up: the last age at which a missed line is named, included.
        season: (month, day) at which a campaign begins.
        statuses: name of a value -> how sure it is, where not official.
    """

    id: str
    kind: PreventionKind
    title: str
    first: Age
    until: Age | None = None
    sex: str | None = None
    every: Age | None = None
    second_after: Age | None = None
    after: str | None = None
    after_delay: Age | None = None
    certificate: str | None = None
    doses: tuple[Age, ...] = ()
    antigens: tuple[str, ...] = ()
    counted_from: Age | None = None
    last_dose_until: Age | None = None
    catch_up: Age | None = None
    season: tuple[int, int] | None = None
    born_from: date | None = None
    compulsory: bool = False
    statuses: tuple[tuple[str, CellStatus], ...] = ()

    @property
    def is_open_ended(self) -> bool:
        """Whether a dose of it stays due without a last age."""
        return self.catch_up is None and self.last_dose_until is None


@dataclass(frozen=True)
class Calendar:
    """The calendar: its date, its sources and its rules, in the file's order."""

    date: date
    title: str
    sources: Mapping[str, str]
    rules: tuple[PreventionRule, ...]
    antigens: Mapping[str, frozenset[str]]
    """ATC code of a vaccine -> what it protects against."""

    @cached_property
    def _by_id(self) -> dict[str, PreventionRule]:
        return {rule.id: rule for rule in self.rules}

    def rule(self, rule_id: str) -> PreventionRule:
        """The rule of that id.

        Raises:
            MalformedCalendarError: there is none.
        """
        try:
            return self._by_id[rule_id]
        except KeyError:
            raise MalformedCalendarError from None

    def source_of(self, rule: PreventionRule) -> str:
        """Where the rule stands, in French."""
        return self.sources[_SOURCES[rule.kind]]


def parse_calendar(text: str) -> Calendar:
    """Read a calendar file.

    Raises:
        MalformedCalendarError: not TOML, a value missing or of the wrong form, an id used twice,
            a rule that names an unknown one.
    """
    try:
        values = tomllib.loads(text)
        rules = tuple(_rules(values))
        calendar = Calendar(
            date=values["date"],
            title=values["title"],
            sources={name: str(values["sources"][name]) for name in _SOURCES.values()},
            rules=rules,
            antigens={code: frozenset(held) for code, held in values["atc"].items()},
        )
    except (tomllib.TOMLDecodeError, LookupError, TypeError, ValueError) as error:
        raise MalformedCalendarError from error
    if not isinstance(calendar.date, date) or len({rule.id for rule in rules}) != len(rules):
        raise MalformedCalendarError
    for rule in rules:
        if rule.after is not None:
            calendar.rule(rule.after)
    return calendar


def parse_age(text: str) -> Age:
    """Read an age: "8d", "2m", "50y".

    Raises:
        MalformedCalendarError: another form.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise MalformedCalendarError
    return Age(int(match[1]), match[2])


def _rules(values: Mapping[str, Any]) -> Iterator[PreventionRule]:
    for kind in PreventionKind:
        for entry in values[kind.value]:
            yield _rule(kind, dict(entry))


def _rule(kind: PreventionKind, entry: dict[str, Any]) -> PreventionRule:
    doses = tuple(parse_age(age) for age in entry.pop("doses", ()))
    first = parse_age(entry.pop("from")) if "from" in entry else doses[0]
    statuses = tuple(
        (name.removesuffix("_status"), CellStatus(entry.pop(name)))
        for name in sorted(entry)
        if name.endswith("_status")
    )
    ages: dict[str, Any] = {
        name: parse_age(entry.pop(name))
        for name in (
            "until",
            "every",
            "second_after",
            "after_delay",
            "counted_from",
            "last_dose_until",
            "catch_up",
        )
        if name in entry
    }
    if kind not in {PreventionKind.SCREENING, PreventionKind.VACCINATION}:
        ages.setdefault("until", first)
    season = entry.pop("season", None)
    if season is not None:
        match = _SEASON.fullmatch(season)
        season = None if match is None else (int(match[1]), int(match[2]))
        if season is None:
            raise MalformedCalendarError
    antigens = tuple(entry.pop("antigens", ()))
    if (kind is PreventionKind.VACCINATION) != bool(antigens):
        raise MalformedCalendarError
    return PreventionRule(
        kind=kind,
        first=first,
        doses=doses,
        antigens=antigens,
        season=season,
        statuses=statuses,
        **ages,
        **entry,
    )
