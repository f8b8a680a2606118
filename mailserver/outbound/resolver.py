"""Ask DNS which servers take the mail of a domain.

Invariants: a look-up without an answer is never a "no": it raises, and the mail waits; only a
domain that says itself that it takes no mail (a null MX) is a "no". A name that does not exist is
no "no" either: the trust list vouches for the domain, so it is DNS that is wrong.

Source: RFC 5321 §5.1, RFC 7505 §3, RFC 2782 §Usage.
"""

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from mailserver.outbound.errors import LookupFailedError, NoMailError
from mailserver.outbound.route import SMTP_PORT, Route

LOOKUP_S = 20.0
MAX_SERVERS = 10
MAX_ADDRESSES = 8
SRV_SERVICE = "_smtp._tcp"


class Resolver(Protocol):
    """Finds the servers of a domain."""

    async def servers(self, domain: str) -> tuple[Route, ...]:
        """Give the servers to try, in order, at least one.

        Raises:
            LookupFailedError: no answer; try later.
            NoMailError: the domain says that it takes no mail.
        """


@dataclass(frozen=True, slots=True)
class NameServer:
    """A DNS server to ask, by address."""

    host: str
    port: int = 53


class DnsResolver:
    """MX, then SRV, then the domain itself; and the addresses of what was found.

    Args:
        name_servers: whom to ask; the machine's own configuration when empty.
        own_name: our host name: servers after ourselves would send the mail back
            (RFC 5321 §5.1).
    """

    def __init__(self, name_servers: tuple[NameServer, ...] = (), own_name: str = "") -> None:
        self._name_servers = name_servers
        self._own = own_name.lower()
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def servers(self, domain: str) -> tuple[Route, ...]:
        """See ``Resolver``."""
        named = await self._mx(domain) or await self._srv(domain) or [(0, domain, SMTP_PORT)]
        ours = min((rank for rank, host, _ in named if host == self._own), default=None)
        if ours is not None:
            named = [each for each in named if each[0] < ours]
            if not named:
                raise NoMailError("554 5.4.6 This server is named as the server of the domain")
        routes: list[Route] = []
        failed = False
        for _, host, port in named[:MAX_SERVERS]:
            try:
                routes += [Route(host, port, address) for address in await self._addresses(host)]
            except LookupFailedError:
                failed = True
        if routes or not failed:
            return tuple(routes) or (Route(domain, SMTP_PORT),)
        raise LookupFailedError

    async def _mx(self, domain: str) -> list[tuple[int, str, int]]:
        records = await self._ask(domain, "MX")
        if [each.exchange for each in records] == [dns.name.root]:
            raise NoMailError("556 5.1.10 The recipient's domain takes no mail")
        found = [
            (each.preference, _host(each.exchange), SMTP_PORT)
            for each in records
            if each.exchange != dns.name.root
        ]
        # Equal preferences in any order. Source: RFC 5321 §5.1.
        random.shuffle(found)
        return sorted(found, key=lambda each: each[0])

    async def _srv(self, domain: str) -> list[tuple[int, str, int]]:
        records = await self._ask(f"{SRV_SERVICE}.{domain}", "SRV")
        found = [each for each in records if each.target != dns.name.root]
        # Weights as odds within a priority. Source: RFC 2782 §Usage.
        keyed = [
            (each.priority, -(random.random() ** (1 / (each.weight or 0.01))), each)  # noqa: S311
            for each in found
        ]
        keyed.sort(key=lambda each: each[:2])
        return [(priority, _host(each.target), each.port) for priority, _, each in keyed]

    async def _addresses(self, host: str) -> list[str]:
        found = []
        for kind in ("AAAA", "A"):
            # Name servers that answer nothing for one kind are about; the other will do.
            with suppress(LookupFailedError):
                found += [each.address for each in await self._ask(host, kind)]
        if not found:
            raise LookupFailedError
        return found[:MAX_ADDRESSES]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        """Give the records; none when there is none of this kind. Any: dnspython's rdata."""
        try:
            answer = await self._asker().resolve(name, kind, lifetime=LOOKUP_S, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return []
        except (dns.exception.DNSException, OSError):
            raise LookupFailedError from None
        return list(answer)

    def _asker(self) -> dns.asyncresolver.Resolver:
        """Made at the first question: a site whose routes are all written needs no DNS."""
        if self._resolver is None:
            resolver = dns.asyncresolver.Resolver(configure=not self._name_servers)
            if self._name_servers:
                resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(each.host, each.port)
                    for each in self._name_servers
                ]
            self._resolver = resolver
        return self._resolver


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
