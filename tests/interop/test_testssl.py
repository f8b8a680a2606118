"""testssl.sh on the four TLS listeners: two protocols, the allowed suites, nothing to complain of.

The whole examination is ``scripts/prove_tls``. Source: RFC 8446 §9.1, RFC 9325 §4.2.
"""

import shutil
from collections.abc import Iterator

import pytest

from tests.support.login_site import prepare
from tests.support.site import DemoSite
from tests.support.testssl import LISTENERS, QUICK, SUITES, Finding, examine, protocols, suites

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("testssl") is None, reason="testssl.sh is not installed"),
]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Finding]]:
    site = DemoSite.create(tmp_path_factory.mktemp("tls") / "site")
    prepare(site)  # the mail ports ask for a certificate of the client, too
    site.start()
    try:
        yield examine(site, QUICK, timeout=150)
    finally:
        site.stop()


@pytest.mark.parametrize("listener", LISTENERS)
def test_tls_1_2_and_1_3_are_spoken_and_nothing_older(findings, listener):
    assert protocols(findings, listener) == {
        "SSLv2": False, "SSLv3": False, "TLS1": False, "TLS1_1": False,
        "TLS1_2": True, "TLS1_3": True,
    }  # fmt: skip


@pytest.mark.parametrize("listener", LISTENERS)
def test_only_the_allowed_suites_are_taken(findings, listener):
    taken = suites(findings, listener)

    assert len(taken) == 6, "three of TLS 1.3, and three of TLS 1.2 for the certificate's key"
    assert taken <= SUITES


def test_nothing_is_found_that_is_not_accepted_in_writing(findings):
    assert [finding for finding in findings if not finding.accepted] == []
