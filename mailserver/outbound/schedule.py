"""When to try again to send a message that another operator could not take; pure.

Retries come after 1, 5, 15 and 60 minutes, then every 60 minutes until the message has been
queued for five days; then its sender is told. A first sign that the mail waits is not sent: the
MSSanté clients of today show such notes as failures.

Source: RFC 5321 §4.5.4.1.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

DELAYS_S = (60, 300, 900, 3600)
"""The site's schedule, issue 2 of the product; the last one repeats."""
GIVE_UP_AFTER = timedelta(days=5)
"""RFC 5321 §4.5.4.1: "generally needs to be at least 4-5 days"."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A plan of retries.

    Args:
        delays_s: seconds before each retry, the last one repeated; not empty.
        give_up_after: how long a message may wait in all.
    """

    delays_s: tuple[int, ...] = DELAYS_S
    give_up_after: timedelta = GIVE_UP_AFTER

    def next_try(self, *, attempts: int, queued_at: datetime, at: datetime) -> datetime | None:
        """Give the instant of the next try, None when it is time to give up.

        Args:
            attempts: tries already made, this one included; at least 1.
            queued_at: when the message was accepted from its sender.
            at: now.
        """
        delay = self.delays_s[min(attempts, len(self.delays_s)) - 1]
        then = at + timedelta(seconds=delay)
        return then if then - queued_at <= self.give_up_after else None
