"""Where mail goes, and whether it may.

Source: MSS-OP §3.2.
"""

from datetime import UTC, datetime
from itertools import product

import pytest

from directory.trust_list import Freshness, TrustList
from mailserver.outbound.route import Judgement, Route, judge_domain, static_route

TRUST = TrustList(datetime(2026, 1, 1, tzinfo=UTC), {"a.mssante.test": frozenset({"cn=a"})})


def test_the_sites_table_comes_first_and_leaves_the_rest_to_dns() -> None:
    routes = {"a.mssante.test": ("127.0.0.1", 2525)}

    assert static_route("a.mssante.test", routes) == Route("127.0.0.1", 2525)
    assert static_route("b.mssante.test", routes) is None


@pytest.mark.parametrize(
    ("domain", "freshness"), list(product(["a.mssante.test", "evil.test"], Freshness))
)
def test_mail_leaves_for_listed_domains_on_a_list_to_be_relied_upon(
    domain: str, freshness: Freshness
) -> None:
    expected = Judgement.SEND if domain == "a.mssante.test" else Judgement.GIVE_UP
    if freshness is Freshness.EXPIRED:
        expected = Judgement.WAIT

    assert expected is judge_domain(domain, TRUST, freshness)
