"""``pli agenda list --at DATE``: the agenda as its patient is shown it on a day (RULES §8)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from record_bridge.errors import RecordStateError
from tests.support.cda import CdaSpec
from tests.support.webmail import Webmail, webmail


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        yield opened


async def lines(site: Webmail, day: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await site.commands_table["agenda_at"](
        {"patient_id": site.patients["patient"], "day": day, "actor": "cli:test"}
    )
    return found


async def test_a_line_is_to_come_or_past_as_the_day_says(site: Webmail) -> None:
    document = await site.file(CdaSpec(unique_id="1.2.1"))
    hidden = await site.file(CdaSpec(unique_id="1.2.2"), visibility="invisible_patient")
    await site.add_agenda(document, title="Suivi", day="2026-12-24")
    await site.add_agenda(hidden, title="ZZCACHE", day="2026-12-24")

    said = {
        day: [(each["title"], each["status"]) for each in await lines(site, day)
              if each["kind"] != "prevention"]
        for day in ("2026-12-24", "2026-12-25")
    }  # fmt: skip

    assert said == {"2026-12-24": [("Suivi", "proposed")], "2026-12-25": [("Suivi", "past")]}


async def test_prevention_is_judged_on_that_day(site: Webmail) -> None:
    at_fifty = {each["rule"]: each["status"] for each in await lines(site, "2029-04-01")}
    before = {each["rule"]: each["status"] for each in await lines(site, "2026-04-01")}

    changed = {rule for rule in at_fifty if at_fifty[rule] != before.get(rule)}
    assert changed, "a woman of fifty is shown what she was not at forty-seven"
    assert any("sein" in rule or "breast" in rule for rule in changed)


@pytest.mark.parametrize("day", ["2026-13-01", "hier", "1979-03-27"])
async def test_a_day_that_is_none_of_their_life_is_refused(site: Webmail, day: str) -> None:
    with pytest.raises(RecordStateError, match="no_such_day"):
        await lines(site, day)


async def test_the_look_is_in_the_trail(site: Webmail) -> None:
    await lines(site, "2026-12-24")

    accesses = await site.queries.accesses(site.patients["patient"])
    assert [each.kind for each in accesses] == ["agenda_listed"]
