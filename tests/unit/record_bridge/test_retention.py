"""Until when a record is kept: cases worked out from the text, not from the code.

Source: MSS-FACTS §6.4; art. R1112-7 of the code of public health, as others quote it.
"""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from record_bridge.errors import RecordStateError
from record_bridge.retention import (
    MAX_POLICY,
    MAX_RULES,
    MAX_TEXT,
    MAX_YEARS,
    KeptFacts,
    deadline,
    parse_policy,
    years_after,
)

TEXT = (Path(__file__).parents[3] / "record_bridge" / "retention_2026.toml").read_text("utf-8")
POLICY = parse_policy(TEXT)
ADULT = KeptFacts(born=date(1970, 5, 12), last_activity=date(2026, 3, 1))
CHILD = KeptFacts(born=date(2020, 2, 29), last_activity=date(2026, 3, 1))
RULE = (
    '[[rule]]\nid = "a"\nlabel = "b"\nstarts = "last_activity"\nyears = 20\nsource = "c"\n'
    'status = "assumed"\n'
)


@pytest.mark.parametrize(
    ("facts", "until", "rule"),
    [
        pytest.param(ADULT, "2046-03-01", "last_activity", id="twenty years"),
        pytest.param(CHILD, "2048-02-29", "minor", id="to the 28th birthday"),
        pytest.param(
            replace(CHILD, born=date(2018, 3, 1)), "2046-03-01", "last_activity",
            id="the later of two equal ones is one day",
        ),
        pytest.param(replace(ADULT, died=date(2030, 6, 1)), "2040-06-01", "death", id="died"),
        pytest.param(
            replace(CHILD, died=date(2026, 6, 1)), "2036-06-01", "death", id="a child that died"
        ),
        pytest.param(
            replace(ADULT, died=date(2036, 2, 29)), "2046-03-01", "death", id="a day before ten"
        ),
        pytest.param(
            replace(ADULT, died=date(2036, 3, 1)), "2046-03-01", "last_activity", id="ten later"
        ),
        pytest.param(
            replace(ADULT, closed=date(2040, 1, 1)), "2050-01-01", "closing", id="closed late"
        ),
        pytest.param(
            replace(ADULT, closed=date(2027, 1, 1)), "2046-03-01", "last_activity", id="closed"
        ),
    ],
)  # fmt: skip
def test_a_record_is_kept_until_the_day_that_the_text_says(
    facts: KeptFacts, until: str, rule: str
) -> None:
    found = deadline(POLICY, facts)

    assert found is not None
    assert (found.day.isoformat(), found.rule.id) == (until, rule)


def test_a_dispute_suspends_every_deadline() -> None:
    assert deadline(POLICY, replace(ADULT, disputed=True)) is None


def test_every_rule_that_pli_brings_along_names_its_text_and_none_is_called_official() -> None:
    assert {rule.status.value for rule in POLICY.rules} == {"secondary", "assumed"}
    assert all("Code de la santé publique" in rule.source for rule in POLICY.rules)


def test_a_leap_day_and_the_end_of_the_calendar() -> None:
    assert years_after(date(2020, 2, 29), 10) == date(2030, 3, 1)
    assert years_after(date(2000, 2, 29), 9000) == date(9999, 3, 1)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("title =", id="not TOML"),
        pytest.param('title = "a"\nrule = 3\n', id="no rules"),
        pytest.param('title = "a"\n' + RULE.replace('source = "c"\n', ""), id="no source"),
        pytest.param('title = "a"\n' + RULE.replace('"c"', '" "'), id="blank source"),
        pytest.param('title = "a"\n' + RULE.replace("20", "0"), id="no years"),
        pytest.param(
            'title = "a"\n' + RULE.replace("20", str(MAX_YEARS + 1)), id="too many years"
        ),
        pytest.param('title = "a"\n' + RULE.replace("20", "true"), id="years of a truth"),
        pytest.param('title = "a"\n' + RULE.replace("last_activity", "birth"), id="no base rule"),
        pytest.param('title = "a"\n' + RULE.replace("assumed", "sure"), id="status"),
        pytest.param('title = "a"\n' + RULE + RULE, id="twice"),
        pytest.param('title = "a"\n' + RULE + "more = 1\n", id="another key"),
        pytest.param(
            'title = "a"\n' + "".join(RULE.replace('"a"', f'"{n}"') for n in range(MAX_RULES + 1)),
            id="too many rules",
        ),
        pytest.param('title = "a"\n' + RULE + "#" * MAX_POLICY, id="too large"),
        pytest.param("title = 1\n" + RULE, id="title of a number"),
        pytest.param(f'title = "{"a" * (MAX_TEXT + 1)}"\n' + RULE, id="title too long"),
        *(
            pytest.param(f'title = "a"\n{RULE}within_years = {within}\n', id=f"within {within}")
            for within in (-1, MAX_YEARS + 1, "true", '"1"', 1.5)
        ),
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(RecordStateError) as refused:
        parse_policy(text)
    assert refused.value.reason == "bad_policy"


def test_limits_are_reached() -> None:
    rules = "".join(RULE.replace('"a"', f'"{n}"') for n in range(MAX_RULES))
    text = 'title = "a"\n' + rules.replace("= 20", f"= {MAX_YEARS}")
    assert len(parse_policy(text + "#" * (MAX_POLICY - len(text))).rules) == MAX_RULES


@pytest.mark.parametrize(("years", "within"), [(1, 0), (1, MAX_YEARS), (MAX_YEARS, 1)])
def test_a_rule_says_its_years(years: int, within: int) -> None:
    text = f'title = "{"a" * MAX_TEXT}"\n{RULE.replace("20", str(years))}within_years = {within}\n'
    (rule,) = parse_policy(text).rules

    assert (rule.years, rule.within_years) == (years, within)


def test_a_rule_always_counts_unless_it_says_otherwise() -> None:
    (rule,) = parse_policy(f'title = "a"\n{RULE}').rules

    assert rule.within_years == 0
