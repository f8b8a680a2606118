"""When a message is tried again, and when its sender is told."""

from datetime import UTC, datetime, timedelta

import pytest

from mailserver.outbound.schedule import Schedule

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60), (5, 60), (100, 60)]
)
def test_retries_come_after_1_5_15_and_then_every_60_minutes(attempts: int, minutes: int) -> None:
    assert Schedule().next_try(attempts=attempts, queued_at=AT, at=AT) == AT + timedelta(
        minutes=minutes
    )


@pytest.mark.parametrize(("waited_s", "given_up"), [(3600, False), (3599, True), (0, True)])
def test_a_message_is_given_up_when_its_next_try_would_be_too_late(
    waited_s: int,
    given_up: bool,  # noqa: FBT001
) -> None:
    at = AT + timedelta(days=5) - timedelta(seconds=waited_s)

    assert given_up is (Schedule().next_try(attempts=9, queued_at=AT, at=at) is None)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 60.0), (0.5, 63.0), (1.0, 66.0)])
def test_chance_adds_its_part_to_a_delay_and_no_more(chance: float, seconds: float) -> None:
    plan = Schedule(jitter=0.1)

    assert plan.next_try(attempts=1, queued_at=AT, at=AT, chance=chance) == AT + timedelta(
        seconds=seconds
    )


def test_a_site_s_own_delays_repeat_the_last_one() -> None:
    plan = Schedule(delays_s=(10, 20))

    assert [plan.delay(attempts, 0.0).total_seconds() for attempts in (1, 2, 3, 9)] == [
        10,
        20,
        20,
        20,
    ]
