"""Which servers take the mail of a domain, asked of a real DNS server on loopback.

Source: RFC 5321 §5.1, RFC 7505 §3, RFC 2782 §Usage.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from mailserver.outbound import resolver
from mailserver.outbound.errors import LookupFailedError, NoMailError
from mailserver.outbound.resolver import MAX_ADDRESSES, MAX_SERVERS, DnsResolver, NameServer
from mailserver.outbound.route import Route
from tests.support.name_server import Zone, name_server

Records = Mapping[tuple[str, str], tuple[str, ...]]
ADDRESSES: Records = {
    ("mx1.loin.test", "A"): ("192.0.2.1",),
    ("mx2.loin.test", "A"): ("192.0.2.2",),
    ("mx2.loin.test", "AAAA"): ("2001:db8::2",),
    ("loin.test", "A"): ("192.0.2.9",),
}


@asynccontextmanager
async def asking(zone: Zone, own_name: str = "") -> AsyncIterator[DnsResolver]:
    async with name_server(zone) as port:
        yield DnsResolver((NameServer("127.0.0.1", port),), own_name)


async def test_mx_are_tried_by_preference_with_every_address() -> None:
    zone = Zone({**ADDRESSES, ("loin.test", "MX"): ("20 mx1.loin.test.", "10 MX2.loin.test.")})
    async with asking(zone) as dns:
        found = await dns.servers("loin.test")

    assert found == (
        Route("mx2.loin.test", 25, "2001:db8::2"),
        Route("mx2.loin.test", 25, "192.0.2.2"),
        Route("mx1.loin.test", 25, "192.0.2.1"),
    )
    assert ("_smtp._tcp.loin.test", "SRV") not in zone.asked


async def test_equal_preferences_take_turns() -> None:
    zone = Zone({**ADDRESSES, ("loin.test", "MX"): ("10 mx1.loin.test.", "10 mx2.loin.test.")})
    async with asking(zone) as dns:
        first = {(await dns.servers("loin.test"))[0].host for _ in range(40)}

    assert first == {"mx1.loin.test", "mx2.loin.test"}


async def test_without_mx_the_srv_records_say_host_and_port() -> None:
    zone = Zone(
        {
            **ADDRESSES,
            ("_smtp._tcp.loin.test", "SRV"): (
                "20 0 2500 mx1.loin.test.",
                "10 5 2600 mx2.loin.test.",
            ),
        }
    )
    async with asking(zone) as dns:
        found = await dns.servers("loin.test")

    assert [(each.host, each.port) for each in found] == [
        ("mx2.loin.test", 2600),
        ("mx2.loin.test", 2600),
        ("mx1.loin.test", 2500),
    ]


async def test_srv_weights_are_odds() -> None:
    zone = Zone(
        {
            **ADDRESSES,
            ("_smtp._tcp.loin.test", "SRV"): ("1 9 25 mx1.loin.test.", "1 1 25 mx2.loin.test."),
        }
    )
    async with asking(zone) as dns:
        first = [(await dns.servers("loin.test"))[0].host for _ in range(100)]

    assert 70 < first.count("mx1.loin.test") < 100


async def test_without_either_the_domain_is_its_own_server() -> None:
    async with asking(Zone(ADDRESSES)) as dns:
        assert await dns.servers("loin.test") == (Route("loin.test", 25, "192.0.2.9"),)


async def test_a_null_mx_says_that_the_domain_takes_no_mail() -> None:
    async with asking(Zone({**ADDRESSES, ("loin.test", "MX"): ("0 .",)})) as dns:
        with pytest.raises(NoMailError) as caught:
            await dns.servers("loin.test")

    assert caught.value.reply.startswith("556 5.1.10 ")


async def test_a_null_mx_beside_others_is_passed_over() -> None:
    zone = Zone({**ADDRESSES, ("loin.test", "MX"): ("0 .", "10 mx1.loin.test.")})
    async with asking(zone) as dns:
        assert [each.host for each in await dns.servers("loin.test")] == ["mx1.loin.test"]


@pytest.mark.parametrize(
    "zone",
    [
        pytest.param(Zone(ADDRESSES, failing=frozenset({"loin.test"})), id="mx fails"),
        pytest.param(Zone(ADDRESSES, failing=frozenset({"_smtp._tcp.loin.test"})), id="srv fails"),
        pytest.param(Zone(ADDRESSES, silent=frozenset({"loin.test"})), id="no answer"),
        pytest.param(Zone({}), id="the name does not exist"),
        pytest.param(
            Zone({("loin.test", "MX"): ("10 gone.loin.test.",)}), id="the host does not exist"
        ),
        pytest.param(
            Zone(
                {**ADDRESSES, ("loin.test", "MX"): ("10 mx1.loin.test.",)},
                failing=frozenset({"mx1.loin.test"}),
            ),
            id="the address fails",
        ),
    ],
)
async def test_no_answer_is_never_a_no(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "LOOKUP_S", 0.5)
    async with asking(zone) as dns:
        with pytest.raises(LookupFailedError):
            await dns.servers("loin.test")


async def test_one_server_without_address_does_not_hide_the_others() -> None:
    zone = Zone(
        {**ADDRESSES, ("loin.test", "MX"): ("10 gone.loin.test.", "20 mx1.loin.test.")},
        failing=frozenset({"gone.loin.test"}),
    )
    async with asking(zone) as dns:
        assert [each.host for each in await dns.servers("loin.test")] == ["mx1.loin.test"]


@pytest.mark.parametrize(("failing", "left"), [("AAAA", "192.0.2.2"), ("A", "2001:db8::2")])
async def test_a_failure_for_one_kind_of_address_leaves_the_other(failing: str, left: str) -> None:
    zone = Zone(
        {**ADDRESSES, ("loin.test", "MX"): ("10 mx2.loin.test.",)},
        failing=frozenset({f"mx2.loin.test {failing}"}),
    )
    async with asking(zone) as dns:
        assert await dns.servers("loin.test") == (Route("mx2.loin.test", 25, left),)


async def test_an_answer_too_long_for_udp_is_read_over_tcp() -> None:
    hosts = [f"mx{number}.loin.test" for number in range(MAX_SERVERS + 1)]
    records: dict[tuple[str, str], tuple[str, ...]] = {
        (host, "A"): tuple(f"192.0.2.{last}" for last in range(1, MAX_ADDRESSES + 3))
        for host in hosts
    }
    records["loin.test", "MX"] = tuple(f"{n} {host}." for n, host in enumerate(hosts))
    async with asking(Zone(records, truncated=True)) as dns:
        found = await dns.servers("loin.test")

    assert len({each.host for each in found}) == MAX_SERVERS
    assert len(found) == MAX_SERVERS * MAX_ADDRESSES


@pytest.mark.parametrize(("preference", "hosts"), [(5, None), (15, ["mx1.loin.test"]), (10, None)])
async def test_mail_is_never_sent_to_servers_after_ourselves(
    preference: int, hosts: list[str] | None
) -> None:
    zone = Zone(
        {
            **ADDRESSES,
            ("loin.test", "MX"): ("10 mx1.loin.test.", f"{preference} Mail.Pli.test."),
        }
    )
    async with asking(zone, "mail.pli.test") as dns:
        if hosts is None:
            with pytest.raises(NoMailError) as caught:
                await dns.servers("loin.test")
            assert caught.value.reply.startswith("554 5.4.6 ")
        else:
            assert [each.host for each in await dns.servers("loin.test")] == hosts
