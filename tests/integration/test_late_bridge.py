"""A bridge that does not speak is noticed (RULES §7)."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from mailserver.mail_process import LATE_AFTER, watch_bridge
from tests.support.mailstore import AT, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def _alarms(practice, at) -> list[dict]:
    with capture_logs() as lines:
        await watch_bridge(practice.store, at)
    return [line for line in lines if line["event"] == "bridge_late"]


@pytest.mark.parametrize(
    ("waited", "late"),
    [
        (LATE_AFTER - timedelta(seconds=1), False),
        (LATE_AFTER, True),
        (timedelta(days=3), True),
    ],
)
async def test_mail_that_waits_for_the_bridge_raises_an_alarm(practice, waited, late):
    await practice.store.messages.deliver(
        practice.delivery([entry(practice.application), entry(practice.patient, held=True)])
    )

    alarms = await _alarms(practice, AT + waited)

    assert bool(alarms) is late
    assert all(line["count"] == 1 for line in alarms)


async def test_mail_that_the_bridge_spoke_of_raises_none(practice):
    await practice.store.messages.deliver(practice.delivery([entry(practice.application)]))
    await practice.say(["$Filed"])

    assert await _alarms(practice, AT + timedelta(days=3)) == []
