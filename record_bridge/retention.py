"""Until when a record is kept, by a structure's policy; nothing here destroys anything.

A policy is data: each rule has its source, and how sure that is. The latest day of all rules that
count is the deadline; a rule from the death stands in for those from activity and birth, as its
text says. A record about which somebody is in dispute has none. What is the last activity is
ours to say: the latest day on which the record was registered or received a document.

Source: RULES §6 (nothing is deleted physically by a message), MSS-FACTS §6.4 (closing).
"""

import enum
import tomllib
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from record_bridge.errors import RecordStateError
from record_bridge.habilitation import CellStatus

MAX_POLICY: Final = 64 * 1024
MAX_RULES: Final = 20
MAX_YEARS: Final = 150
MAX_TEXT: Final = 300
_KEYS: Final = {"id", "label", "starts", "years", "source", "status"}


class Start(enum.Enum):
    """What a rule counts from."""

    LAST_ACTIVITY = "last_activity"
    BIRTH = "birth"
    DEATH = "death"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """One rule of a policy.

    Attributes:
        years: from ``starts`` to the last day on which the record is kept.
        source: the text that says so; ``status`` how sure that is.
        within_years: it counts only when it starts less than so many years after the last
            activity; 0 for always.
    """

    id: str
    label: str
    starts: Start
    years: int
    source: str
    status: CellStatus
    within_years: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one structure."""

    title: str
    rules: tuple[RetentionRule, ...]


@dataclass(frozen=True, slots=True)
class KeptFacts:
    """What is known of a record.

    Attributes:
        disputed: deadlines are suspended.
    """

    born: date
    last_activity: date
    died: date | None = None
    closed: date | None = None
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a record is kept (the day included), and by which rule."""

    day: date
    rule: RetentionRule


def parse_policy(text: str) -> Policy:
    """Read a policy.

    Raises:
        RecordStateError: ``bad_policy``: it is not one, or a rule has no source.
    """
    if len(text) > MAX_POLICY:
        raise RecordStateError("bad_policy")
    try:
        content = tomllib.loads(text)
        rules = tuple(_rule(each) for each in content["rule"])
        title = _text(content["title"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError):
        raise RecordStateError("bad_policy") from None
    ids = {rule.id for rule in rules}
    starts = {rule.starts for rule in rules}
    if len(ids) != len(rules) or len(rules) > MAX_RULES or Start.LAST_ACTIVITY not in starts:
        raise RecordStateError("bad_policy")
    return Policy(title, rules)


def _rule(given: dict[str, Any]) -> RetentionRule:
    if set(given) - {"within_years"} != _KEYS:
        raise ValueError("keys")
    years, within = given["years"], given.get("within_years", 0)
    if type(years) is not int or not 1 <= years <= MAX_YEARS:
        raise ValueError("years")
    if type(within) is not int or not 0 <= within <= MAX_YEARS:
        raise ValueError("within_years")
    return RetentionRule(
        _text(given["id"]),
        _text(given["label"]),
        Start(given["starts"]),
        years,
        _text(given["source"]),
        CellStatus(given["status"]),
        within,
    )


def _text(given: object) -> str:
    if not isinstance(given, str) or not 0 < len(given.strip()) <= MAX_TEXT:
        raise ValueError("text")
    return " ".join(given.split())


def deadline(policy: Policy, facts: KeptFacts) -> Deadline | None:
    """Give until when a record is kept; None while somebody is in dispute about it."""
    if facts.disputed:
        return None
    found = [
        Deadline(years_after(start, rule.years), rule)
        for rule in policy.rules
        if (start := _start(rule, facts)) is not None and _counts(rule, start, facts)
    ]
    if any(each.rule.starts is Start.DEATH for each in found):
        found = [
            each for each in found if each.rule.starts not in (Start.LAST_ACTIVITY, Start.BIRTH)
        ]
    return max(found, key=lambda each: each.day)


def _start(rule: RetentionRule, facts: KeptFacts) -> date | None:
    return {
        Start.LAST_ACTIVITY: facts.last_activity,
        Start.BIRTH: facts.born,
        Start.DEATH: facts.died,
        Start.CLOSING: facts.closed,
    }[rule.starts]


def _counts(rule: RetentionRule, start: date, facts: KeptFacts) -> bool:
    return not rule.within_years or start < years_after(facts.last_activity, rule.within_years)


def years_after(day: date, years: int) -> date:
    """The same day years later; of 29 February, the 1st of March when there is none."""
    year = min(day.year + years, date.max.year)
    try:
        return day.replace(year=year)
    except ValueError:
        return date(year, 3, 1)
