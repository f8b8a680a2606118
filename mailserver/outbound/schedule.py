"""When to try again to send a message that another operator could not take; pure.

Retries come after 1, 5, 15 and 60 minutes, then every 60 minutes until the message has been
queued for five days, each a little later than that by chance; then its sender is told. After four
hours the sender is told that it waits.

Source: RFC 5321 §4.5.4.1.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

DELAYS_S = (60, 300, 900, 3600)
"""The site's schedule, issue 2 of the product; the last one repeats."""
DELAY_NOTICE_AFTER = timedelta(hours=4)
GIVE_UP_AFTER = timedelta(days=5)
"""RFC 5321 §4.5.4.1: "generally needs to be at least 4-5 days"."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A plan of retries.

    Args:
        delays_s: seconds before each retry, the last one repeated; not empty.
        give_up_after: how long a message may wait in all.
        notice_after: how long it waits before its sender is told so.
        jitter: the most that chance adds to a delay, as a part of it, 0 to 1: what failed together
            is not tried again together.
    """

    delays_s: tuple[int, ...] = DELAYS_S
    give_up_after: timedelta = GIVE_UP_AFTER
    notice_after: timedelta = DELAY_NOTICE_AFTER
    jitter: float = 0.0

    def delay(self, attempts: int, chance: float) -> timedelta:
        """Give the wait after so many tries, at least 1; ``chance`` is 0 to 1."""
        seconds = self.delays_s[min(attempts, len(self.delays_s)) - 1]
        return timedelta(seconds=seconds * (1 + self.jitter * chance))

    def next_try(
        self, *, attempts: int, queued_at: datetime, at: datetime, chance: float = 0.0
    ) -> datetime | None:
        """Give the instant of the next try, None when it is time to give up.

        Args:
            attempts: tries already made, this one included; at least 1.
            queued_at: when the message was accepted from its sender.
            at: now.
            chance: 0 to 1, drawn by the caller.
        """
        then = at + self.delay(attempts, chance)
        return then if then - queued_at <= self.give_up_after else None
