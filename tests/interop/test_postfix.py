"""Debian's Postfix as the other operator, both ways, with mutual TLS.

A few hundred messages; ``scripts/prove_postfix`` does ten thousand each way and faulty peers.
"""

from collections.abc import Iterator

import pytest

from tests.support import exchange
from tests.support.exchange import Letter, Senders, tally
from tests.support.postfix import LATER, REFUSED, Postfix, missing, postfix
from tests.support.site import DemoSite, pli

COUNT = 100
pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(150),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("postfix") / "site")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def other(site: DemoSite) -> Iterator[Postfix]:
    with postfix(site) as running:
        yield running


def test_what_postfix_sends_arrives_once(site: DemoSite, other: Postfix) -> None:
    person = site.demo["practitioners"][0]["address"]
    sender = f"service@{other.domain}"
    names = [f"<in.{number}@{other.domain}>" for number in range(COUNT)]
    senders = Senders(exchange.in_clear(other.inject_port), threads=4)
    senders.send(Letter(name, sender, person) for name in names)

    assert exchange.until(lambda: other.queued() == 0, 60), other.log()[-2000:]
    assert tally(names, exchange.inbox(site)).holds
    assert "Verified TLS connection established to localhost" in other.log()


def test_what_is_sent_to_postfix_arrives_once_and_refusals_and_delays_are_told_right(
    site: DemoSite, other: Postfix
) -> None:
    other.reload([REFUSED], [LATER])
    person = site.demo["practitioners"][0]["address"]
    names = {
        local: [f"<{local}.{number}@hopital-demo.mssante.test>" for number in range(count)]
        for local, count in (("service", COUNT), (REFUSED, 10), (LATER, 10))
    }
    senders = Senders(exchange.account(site), threads=4)
    senders.send(
        Letter(name, person, f"{local}@{other.domain}")
        for local, group in names.items()
        for name in group
    )
    assert len(senders.accepted) == COUNT + 20
    assert exchange.until(lambda: len(exchange.queue(site)) == 10, 60), exchange.queue(site)
    assert exchange.until(
        lambda: {row["last_reply"] for row in exchange.queue(site)} == {"451 4.2.1"}, 60
    ), exchange.queue(site)
    other.reload([REFUSED], [])
    pli("queue", "retry", str(site.root), "--domain", other.domain)
    assert exchange.until(lambda: not exchange.queue(site), 60), exchange.queue(site)

    assert tally([*names["service"], *names[LATER]], other.received()).holds
    assert not any(name in other.received() for name in names[REFUSED])
    told = exchange.notices(site)
    assert len(told) == 10
    assert {each.recipients[0]["Status"] for each in told} == {"5.1.1"}
    assert "Trusted TLS connection established from" in other.log()
