"""Where a sent message stands: one state machine, one verdict.

Source: RFC 3464 §2.3.3, RULES §9.
"""

from itertools import permutations, product

import pytest

from mailserver.message.progress import Event, Progress, Source, Transport, Verdict, advance

CARRIED = {each: Event(Source.CARRIAGE, each, code="x") for each in Transport}
_EXPECTED = {
    Transport.SUBMITTED: "submitted delayed relayed delivered failed",
    Transport.DELAYED: "delayed delayed relayed delivered failed",
    Transport.RELAYED: "relayed relayed relayed delivered failed",
    Transport.DELIVERED: "delivered delivered delivered delivered delivered",
    Transport.FAILED: "failed failed failed delivered failed",
}


@pytest.mark.parametrize(
    ("before", "said", "after"),
    [
        (before, said, after)
        for before, row in _EXPECTED.items()
        for said, after in zip(Transport, map(Transport, row.split()), strict=True)
    ],
)
def test_the_carriage_only_goes_forward(
    before: Transport, said: Transport, after: Transport
) -> None:
    assert advance(Progress(before), CARRIED[said]).transport is after


def test_a_failure_has_its_code_and_an_arrival_takes_it_away() -> None:
    failed = advance(Progress(), Event(Source.CARRIAGE, Transport.FAILED, code="550 5.1.1"))
    arrived = advance(failed, Event(Source.CARRIAGE, Transport.DELIVERED))

    assert (failed.state, failed.code) == ("failed", "550 5.1.1")
    assert (arrived.state, arrived.code) == ("delivered", "")


FILED = Event(Source.RECIPIENT, verdict=Verdict.FILED)
QUARANTINED = Event(Source.RECIPIENT, verdict=Verdict.QUARANTINED, code="902")


def test_a_second_verdict_of_a_peer_changes_nothing() -> None:
    filed = advance(Progress(), FILED)
    kept = advance(filed, QUARANTINED)

    assert kept == filed == Progress(Transport.DELIVERED, Verdict.FILED)
    assert advance(advance(Progress(), QUARANTINED), FILED).verdict is Verdict.QUARANTINED


def test_a_person_s_later_decision_on_this_site_counts() -> None:
    held = advance(Progress(), Event(Source.BRIDGE, verdict=Verdict.QUARANTINED, code="902"))
    decided = advance(held, Event(Source.BRIDGE, verdict=Verdict.FILED))

    assert (held.state, held.code) == ("quarantined", "902")
    assert (decided.state, decided.code) == ("filed", "")


def test_who_saw_it_has_it_and_the_verdict_says_more_than_the_sight() -> None:
    seen = advance(Progress(Transport.FAILED), Event(Source.RECIPIENT, displayed=True))
    filed = advance(seen, FILED)

    assert (seen.transport, seen.state) == (Transport.DELIVERED, "displayed")
    assert (filed.state, filed.displayed) == ("filed", True)


@pytest.mark.parametrize("verdict", [FILED, QUARANTINED])
@pytest.mark.parametrize("failed", [False, True])
def test_the_order_in_which_reports_arrive_does_not_matter(
    verdict: Event,
    failed: bool,  # noqa: FBT001
) -> None:
    events = [
        CARRIED[Transport.DELAYED],
        CARRIED[Transport.FAILED if failed else Transport.RELAYED],
        CARRIED[Transport.DELIVERED],
        verdict,
        Event(Source.RECIPIENT, displayed=True),
    ]
    ends = set()
    for order in permutations(events):
        progress = Progress()
        for event in order:
            progress = advance(progress, event)
        ends.add(progress)

    code = "902" if verdict is QUARANTINED else ""
    assert ends == {Progress(Transport.DELIVERED, verdict.verdict or Verdict.NONE, code, True)}


def test_every_event_twice_is_as_once() -> None:
    events = [*CARRIED.values(), FILED, QUARANTINED, Event(Source.RECIPIENT, displayed=True)]
    for before, event in product(map(Progress, Transport), events):
        once = advance(before, event)
        assert advance(once, event) == once


def test_of_two_failures_the_first_is_told() -> None:
    first = advance(Progress(), Event(Source.CARRIAGE, Transport.FAILED, code="550 5.1.1"))

    assert advance(first, Event(Source.CARRIAGE, Transport.FAILED, code="5.4.1")) == first


BRIDGE_ASIDE = Event(Source.BRIDGE, verdict=Verdict.QUARANTINED)


@pytest.mark.parametrize("order", list(permutations([BRIDGE_ASIDE, QUARANTINED, QUARANTINED])))
def test_the_code_is_that_of_the_answer_whichever_comes_first(order: tuple[Event, ...]) -> None:
    progress = Progress()
    for event in order:
        progress = advance(progress, event)

    assert (progress.state, progress.code) == ("quarantined", "902")


def test_what_was_filed_and_is_taken_out_has_a_code() -> None:
    filed = advance(Progress(), Event(Source.BRIDGE, verdict=Verdict.FILED))
    out = advance(filed, BRIDGE_ASIDE)

    assert (out.state, out.code) == ("quarantined", "906")
    assert advance(out, QUARANTINED) == out


def test_carriers_judge_nothing() -> None:
    said = Event(Source.CARRIAGE, Transport.DELIVERED, verdict=Verdict.FILED)

    assert advance(Progress(), said) == Progress(Transport.DELIVERED)
