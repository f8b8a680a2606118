"""Whatever arrives about a recipient, in whatever order, twice or forged: one end, one verdict.

Invariant: the end is what the definitions below make of the set of what was said by whom the
message went to; it never goes back on the way, and strangers' reports change nothing.

Source: RFC 3464 §2.3, RFC 8098 §3.2.6, RULES §9.
"""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from certs.mime import scan
from directory.codes import MailboxType
from mailserver.delivery.observing import observed
from mailserver.message.progress import Event, Progress, Source, Transport, Verdict, advance
from mailserver.store.model import Mailbox
from tests.support.receipts import delivery_report, disposition_report

RECIPIENT = "service@loin.mssante.test"
SENDER = Mailbox(
    7, "dr.martin@cab.mssante.test", MailboxType.PER, "cab", "Dr Martin", None, filing=False
)
CARRIED = ("delayed", "relayed", "failed", "delivered")
"""What says more comes later; who has it has it, whoever had given up (a late 4xx, a copy)."""


@dataclass(frozen=True)
class Said:
    """One thing that reaches this server: a report of somebody, or an act of its own."""

    what: str
    by: str
    code: str = ""


def _reports(by: str) -> list[Said]:
    codes = {"failed": "5.1.1", "quarantined": "902"}
    said = [*CARRIED, "displayed", "filed", "quarantined"]
    return [Said(what, by, codes.get(what, "")) for what in said]


OWN_QUEUE = [Said("delayed", "us"), Said("relayed", "us"), Said("failed", "us", "550 5.1.1")]
BRIDGE = [Said("filed", "bridge"), Said("quarantined", "bridge")]


def arrives(progress: Progress, said: Said) -> Progress:
    """Let one thing arrive as it does: our own acts as events, the others' as mail."""
    if said.by == "us":
        event = Event(Source.CARRIAGE, Transport(said.what), code=said.code)
        return advance(progress, event)
    if said.by == "bridge":
        return advance(progress, Event(Source.BRIDGE, verdict=Verdict(said.what)))
    if said.what in CARRIED:
        raw = delivery_report(RECIPIENT, said.what, said.code or "2.0.0")
    else:
        raw = disposition_report(RECIPIENT, said.what, said.code)
    for each in observed(raw, scan(raw), [SENDER], lambda _who: said.by == "recipient"):
        assert (each.mailbox_id, each.address) == (SENDER.id, RECIPIENT)
        progress = advance(progress, each.event)
    return progress


def verdict_of(heard: list[Said]) -> str:
    """The record of this site has the last word; else the recipient, whose first word counts."""
    bridge = [each.what for each in heard if each.by == "bridge"]
    peer = [
        each.what
        for each in heard
        if each.by == "recipient" and each.what in {"filed", "quarantined"}
    ]
    return (bridge[-1:] or peer[:1] or [""])[0]


def transport_of(heard: list[Said]) -> str:
    """The furthest that was said; what was judged or seen has arrived."""
    said = {each.what for each in heard}
    if said & {"filed", "quarantined", "displayed", "delivered"}:
        return "delivered"
    return max(said & set(CARRIED), key=CARRIED.index, default="submitted")


things = st.sampled_from([*OWN_QUEUE, *BRIDGE, *_reports("recipient"), *_reports("stranger")])


@settings(max_examples=300, deadline=None)
@given(st.lists(things, max_size=8))
def test_the_end_is_what_those_said_who_may_speak(order: list[Said]) -> None:
    progress = Progress()
    for said in order:
        progress = arrives(progress, said)

    heard = [each for each in order if each.by != "stranger"]
    assert progress.transport.value == transport_of(heard)
    assert progress.verdict.value == verdict_of(heard)
    assert progress.displayed == any(each.what == "displayed" for each in heard)
    if progress.verdict is Verdict.FILED:
        assert progress.code == ""
    if progress.transport is Transport.FAILED:
        assert progress.code == next(each.code for each in heard if each.what == "failed")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_order_of_the_same_events_ends_the_same(data: st.DataObject) -> None:
    """One speaker's own words keep their order where they contradict; nothing else does."""
    verdict = data.draw(st.sampled_from(["filed", "quarantined", ""]))
    peer = [
        each for each in _reports("recipient") if each.what in {*CARRIED, "displayed", verdict}
    ]
    bridge = data.draw(
        st.sampled_from([[], [verdict], [verdict, "filed"], [verdict, "quarantined"]])
    )
    told = [Said(each, "bridge") for each in bridge if each]
    pool = [*OWN_QUEUE[:2], *peer, *_reports("stranger")]

    def play() -> Progress:
        order = data.draw(st.permutations(pool + pool[: data.draw(st.integers(0, 4))]))
        rest, places = list(told), list(order)
        at = sorted(data.draw(st.integers(0, len(places))) for _ in rest)
        for shift, (place, said) in enumerate(zip(at, rest, strict=True)):
            places.insert(place + shift, said)
        progress = Progress()
        for said in places:
            before, progress = progress, arrives(progress, said)
            order_of = ["submitted", *CARRIED].index
            assert order_of(progress.transport.value) >= order_of(before.transport.value)
            assert progress.displayed >= before.displayed
            if before.verdict is not Verdict.NONE and said.by != "bridge":
                assert progress.verdict is before.verdict
        return progress

    assert play() == play()
