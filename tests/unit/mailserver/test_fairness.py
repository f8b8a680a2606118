"""What each peer may ask for: rates, numbers at a time, and who counts as one.

Source: threats S9, S10, S19.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.fairness import (
    FairLimits,
    Fairness,
    Meter,
    Rate,
    Slots,
    address_key,
    unlimited,
)


def test_a_rate_gives_its_whole_count_at_once_and_then_one_at_a_time():
    meter = Meter(Rate(10, 60.0))

    assert [meter.take("a", 0.0) for _ in range(11)] == [True] * 10 + [False]
    assert meter.spent("a", 5.9)
    assert not meter.spent("a", 6.0)
    assert [meter.take("a", 6.0) for _ in range(2)] == [True, False]
    assert [meter.take("a", 66.0) for _ in range(11)] == [True] * 10 + [False]


def test_one_key_does_not_take_anothers_share():
    meter = Meter(Rate(1, 60.0))

    assert meter.take("a", 0.0)
    assert not meter.take("a", 0.0)
    assert meter.take("b", 0.0)


def test_what_is_refused_costs_nothing():
    meter = Meter(Rate(2, 2.0))

    assert meter.take("a", 0.0, 2)
    assert [meter.take("a", 0.5) for _ in range(1000)] == [False] * 1000
    assert meter.take("a", 1.0)


@pytest.mark.parametrize(("amount", "given"), [(10, True), (11, False), (10**6, False)])
def test_more_than_the_whole_count_is_never_given(amount, given):
    assert Meter(Rate(10, 1.0)).take("a", 0.0, amount) is given


def test_no_limit_remembers_nobody():
    meter = Meter(Rate(0, 1.0))

    assert all(meter.take(n, 0.0) for n in range(100))
    assert not meter.spent(1, 0.0)
    assert not meter._free_at


def test_a_full_table_forgets_the_quiet_and_refuses_strangers_while_all_are_busy():
    meter = Meter(Rate(1, 10.0), max_keys=3)
    assert all(meter.take(n, 0.0) for n in range(3))

    assert not meter.take("stranger", 9.0)
    assert not meter.take("stranger", 9.9)
    assert meter.take("stranger", 10.0)
    assert len(meter._free_at) == 1


@given(st.lists(st.floats(0.0, 5.0), max_size=80), st.integers(1, 7))
def test_no_window_ever_sees_more_than_twice_the_count(gaps, count):
    meter, now, taken = Meter(Rate(count, 10.0)), 0.0, []
    for gap in gaps:
        now += gap
        if meter.take("a", now):
            taken.append(now)

    for start in taken:
        assert sum(start <= each < start + 10.0 for each in taken) <= 2 * count


@pytest.mark.parametrize(("limit", "given"), [(1, 1), (3, 3), (0, 9)])
def test_slots_are_given_up_to_the_limit_and_again_when_they_come_back(limit, given):
    slots = Slots(limit)

    assert sum(slots.take("a") for _ in range(9)) == given
    assert slots.take("b")
    slots.give("a")
    assert slots.take("a")


def test_slots_that_are_all_back_leave_no_key():
    slots = Slots(2)
    slots.take("a")
    slots.give("a")

    assert not slots._taken


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not an address", "not an address"),
    ],
)
def test_an_address_is_one_ipv4_or_one_ipv6_subscriber(host, key):
    assert address_key(host) == key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_connections_of_an_address_are_bounded_in_number_and_in_rate():
    clock = Clock()
    fairness = Fairness(FairLimits(address_connections=2, address_rate=Rate(3, 60.0)), clock)

    assert [fairness.connect("2001:db8::1") for _ in range(3)] == [True, True, False]
    fairness.disconnect("2001:db8::2")
    assert fairness.connect("2001:db8::3")
    fairness.disconnect("2001:db8::3")
    assert not fairness.connect("2001:db8::4"), "the third was the last of this minute"
    assert fairness.connect("2001:db8:0:1::4")
    clock.now = 20.0
    assert fairness.connect("2001:db8::4")


def test_operators_and_accounts_have_shares_of_their_own():
    fairness = Fairness(
        FairLimits(
            operator_messages=Rate(1, 60.0),
            operator_recipients=Rate(2, 60.0),
            account_messages=Rate(3, 60.0),
            account_recipients=Rate(4, 60.0),
        ),
        Clock(),
    )

    assert sum(fairness.operator_message("CN=a") for _ in range(9)) == 1
    assert sum(fairness.operator_recipient("CN=a") for _ in range(9)) == 2
    assert sum(fairness.account_message(7) for _ in range(9)) == 3
    assert sum(fairness.account_recipient(7) for _ in range(9)) == 4
    assert fairness.operator_message("CN=b")
    assert fairness.account_message(8)


def test_wrong_logins_are_counted_by_address_and_by_account_from_there():
    clock = Clock()
    fairness = Fairness(
        FairLimits(address_failures=Rate(4, 600.0), account_failures=Rate(2, 600.0)), clock
    )
    for _ in range(2):
        assert fairness.may_log_in("192.0.2.1", "dr@a.test")
        fairness.login_failed("192.0.2.1", "DR@a.test")

    assert not fairness.may_log_in("192.0.2.1", "dr@a.test")
    assert fairness.may_log_in("192.0.2.2", "dr@a.test"), "the owner elsewhere still gets in"
    assert fairness.may_log_in("192.0.2.1", "other@a.test")
    for _ in range(2):
        fairness.login_failed("192.0.2.1", "nobody@a.test")
    assert not fairness.may_log_in("192.0.2.1", "other@a.test")
    clock.now = 300.0
    assert fairness.may_log_in("192.0.2.1", "dr@a.test")


def test_a_right_login_forgets_the_wrong_ones():
    fairness = Fairness(FairLimits(account_failures=Rate(2, 600.0)), Clock())
    fairness.login_failed("192.0.2.1", "dr@a.test")
    fairness.logged_in("192.0.2.1", "dr@a.test")
    fairness.login_failed("192.0.2.1", "dr@a.test")

    assert fairness.may_log_in("192.0.2.1", "dr@a.test")


def test_without_limits_nothing_is_refused():
    fairness = unlimited()

    assert all(fairness.connect("192.0.2.1") for _ in range(10_000))
    assert all(fairness.operator_message("CN=a") for _ in range(10_000))
    assert fairness.may_log_in("192.0.2.1", "dr@a.test")
