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
