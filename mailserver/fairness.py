"""How much one peer, one account or one network address may ask for, so that others get theirs.

Pure: the clock is a parameter. Invariants: what is refused costs nothing; a key that asked for
nothing for a while is not remembered; the number of remembered keys is bounded, and when all are
taken by busy ones, unknown ones are refused (an attacker with many addresses cannot free itself
by filling the table).

A limit of 0 is none.

Source: threats S9, S10, S19; RFC 5321 §4.5.4.1 (who is told 4yz tries again later).
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

_MAX_KEYS = 65536
_SWEEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` at once, and ``count`` in each ``seconds`` in the long run; 0 is no limit."""

    count: int
    seconds: float


NO_RATE = Rate(0, 1.0)


class Meter:
    """One rate for many keys: for each, the instant at which its whole share is free again.

    Source: ITU-T I.371, the generic cell rate algorithm.
    """

    def __init__(self, rate: Rate, max_keys: int = _MAX_KEYS) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._free_at: dict[Hashable, float] = {}
        self._swept_at = float("-inf")

    def take(self, key: Hashable, now: float, amount: int = 1) -> bool:
        """Take a share if it is there; False takes nothing."""
        rate = self._rate
        if not rate.count:
            return True
        free_at = max(self._free_at.get(key, now), now) + amount * rate.seconds / rate.count
        if free_at - now > rate.seconds + 1e-9 or not self._room(key, now):
            return False
        self._free_at[key] = free_at
        return True

    def spent(self, key: Hashable, now: float) -> bool:
        """Say whether not even one more is there."""
        rate = self._rate
        left = self._free_at.get(key, now) - now
        return bool(rate.count) and left + rate.seconds / rate.count > rate.seconds + 1e-9

    def forget(self, key: Hashable) -> None:
        """Give a key its whole share back."""
        self._free_at.pop(key, None)

    def _room(self, key: Hashable, now: float) -> bool:
        if key in self._free_at or len(self._free_at) < self._max_keys:
            return True
        if now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            self._free_at = {each: at for each, at in self._free_at.items() if at > now}
        return len(self._free_at) < self._max_keys


class Slots:
    """How many at a time for each key; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[Hashable] = Counter()

    def take(self, key: Hashable) -> bool:
        """Take a slot if one is free; each that was taken must be given back."""
        if self._limit and self._taken[key] >= self._limit:
            return False
        self._taken[key] += 1
        return True

    def give(self, key: Hashable) -> None:
        """Give a slot back."""
        self._taken[key] -= 1
        if self._taken[key] <= 0:
            del self._taken[key]


def address_key(host: str) -> str:
    """Give what counts as one network address: an IPv4 address, or an IPv6 /64.

    A /64 is what one subscriber gets. Source: RFC 6177 §2, RFC 4291 §2.5.5.2.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64)) + "/64"


@dataclass(frozen=True, slots=True)
class FairLimits:
    """What each may ask for.

    Attributes:
        address_connections: at a time from one address, on all listeners of this object.
        address_rate: new ones from one address.
        operator_connections: at a time from one operator's certificate name.
        operator_messages, operator_recipients: of one operator.
        account_connections: at a time of one mailbox.
        account_messages, account_recipients: of one mailbox.
        address_failures: wrong logins from one address, whatever the account.
        account_failures: wrong logins to one account from one address: from elsewhere its owner
            still gets in.
    """

    address_connections: int = 0
    address_rate: Rate = NO_RATE
    operator_connections: int = 0
    operator_messages: Rate = NO_RATE
    operator_recipients: Rate = NO_RATE
    account_connections: int = 0
    account_messages: Rate = NO_RATE
    account_recipients: Rate = NO_RATE
    address_failures: Rate = NO_RATE
    account_failures: Rate = NO_RATE


class Fairness:
    """What was asked for so far; one object for all listeners that share their limits.

    Args:
        limits: what each may ask for.
        clock: monotonic seconds.
    """

    def __init__(self, limits: FairLimits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._connections = Slots(limits.address_connections)
        self._arrivals = Meter(limits.address_rate)
        self.operators = Slots(limits.operator_connections)
        self.accounts = Slots(limits.account_connections)
        self._messages = {
            "operator": Meter(limits.operator_messages),
            "account": Meter(limits.account_messages),
        }
        self._recipients = {
            "operator": Meter(limits.operator_recipients),
            "account": Meter(limits.account_recipients),
        }
        self._address_failures = Meter(limits.address_failures)
        self._account_failures = Meter(limits.account_failures)

    def connect(self, host: str) -> bool:
        """Count a new connection; ``disconnect`` must follow when it was let in."""
        key = address_key(host)
        if not self._connections.take(key):
            return False
        if self._arrivals.take(key, self._clock()):
            return True
        self._connections.give(key)
        return False

    def disconnect(self, host: str) -> None:
        """Count a connection that ended."""
        self._connections.give(address_key(host))

    def operator_message(self, dn: str) -> bool:
        """Count a message that an operator begins."""
        return self._messages["operator"].take(dn, self._clock())

    def operator_recipient(self, dn: str) -> bool:
        """Count a recipient that an operator names."""
        return self._recipients["operator"].take(dn, self._clock())

    def account_message(self, mailbox_id: int) -> bool:
        """Count a message that a mailbox begins."""
        return self._messages["account"].take(mailbox_id, self._clock())

    def account_recipient(self, mailbox_id: int) -> bool:
        """Count a recipient that a mailbox names."""
        return self._recipients["account"].take(mailbox_id, self._clock())

    def may_log_in(self, host: str, login: str) -> bool:
        """Say whether a login may be tried at all, before its secret is looked at."""
        key, now = address_key(host), self._clock()
        return not (
            self._address_failures.spent(key, now)
            or self._account_failures.spent((key, login.lower()), now)
        )

    def login_failed(self, host: str, login: str) -> None:
        """Count a wrong login; known and unknown names count alike."""
        key, now = address_key(host), self._clock()
        self._address_failures.take(key, now)
        self._account_failures.take((key, login.lower()), now)

    def logged_in(self, host: str, login: str) -> None:
        """Forget the wrong tries of who then knew the secret."""
        self._account_failures.forget((address_key(host), login.lower()))


def unlimited() -> Fairness:
    """Give an object that counts and refuses nothing; for tests and tools."""
    return Fairness(FairLimits(), lambda: 0.0)
