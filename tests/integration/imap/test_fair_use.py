"""An account has so many connections, and wrong logins end in a refusal for a while.

Source: RFC 5530 §3 (LIMIT), threats S10.
"""

import asyncio
import time

from mailserver.fairness import FairLimits, Fairness, Rate
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, BOB, SECRET, ImapSite, serve


async def tried(site: ImapSite, address: str, secret: str = SECRET) -> tuple[ImapPeer, bytes]:
    peer = await ImapPeer.connect(site.tls_port, site.client_tls)
    return peer, (await peer.do(f"LOGIN {address} {secret}"))[1]


async def test_an_account_has_so_many_connections_at_a_time():
    fairness = Fairness(FairLimits(account_connections=2), time.monotonic)
    async with serve(fairness=fairness) as site:
        opened = [await tried(site, ALICE) for _ in range(3)]
        other, said = await tried(site, BOB)
        assert [line[:9] for _, line in opened] == [b"OK [CAPAB", b"OK [CAPAB", b"NO [LIMIT"]
        assert said.startswith(b"OK")
        await opened[0][0].ok("LOGOUT")
        await opened[0][0].close()
        await asyncio.sleep(0.05)
        assert (await opened[2][0].do(f"LOGIN {ALICE} {SECRET}"))[1].startswith(b"OK")
        for peer in (opened[1][0], opened[2][0], other):
            await peer.close()


async def test_wrong_logins_end_in_a_refusal_even_of_the_right_secret():
    fairness = Fairness(FairLimits(account_failures=Rate(2, 600.0)), time.monotonic)
    async with serve(fairness=fairness) as site:
        said = []
        for secret in ("wrong", "wrong", "wrong", SECRET):
            peer, line = await tried(site, ALICE, secret)
            said.append(line.split(b"]")[0])
            await peer.close()
        peer, line = await tried(site, BOB)
        await peer.close()

    assert said == [b"NO [AUTHENTICATIONFAILED"] * 2 + [b"NO [LIMIT"] * 2
    assert line.startswith(b"OK")
