"""Messages of strangers are opened in worker processes; the values come back whole."""

from datetime import UTC, datetime

import pytest

from certs.anchors import TrustAnchors
from certs.sandbox import SandboxPool, Shared
from certs.smime import Trust
from record_bridge.model import Environment, Opened
from record_bridge.opening import OpenRequest, list_occurrences, open_message
from tests.support.cda import PDF, CdaSpec, cda, follow_up
from tests.support.xdm import mail, package

OPEN = "record_bridge.opening:open_message"
LIST = "record_bridge.opening:list_occurrences"
COUNT = "record_bridge.opening:count_occurrences"
AT = datetime(2026, 11, 2, tzinfo=UTC)
TRUST = Trust(TrustAnchors(()), ())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(mail(package(cda(CdaSpec(acts=(follow_up("202612240930"),))))), id="level 3"),
        pytest.param(mail(package(cda(CdaSpec(pdf=PDF * 3000)))), id="over 256 kB"),
        pytest.param(mail(b"not an archive"), id="unreadable archive"),
        pytest.param(mail(), id="no package"),
    ],
)
async def test_a_message_is_opened_in_a_worker_as_it_would_be_here(raw: bytes):
    request = OpenRequest(raw, "mail.pli.test", AT, Environment.TEST)

    async with SandboxPool(1, functions=[OPEN, LIST, COUNT]) as pool:
        found = await pool.run(OPEN, request, Shared(TRUST))
        occurrences = await pool.run(LIST, raw)
        count = await pool.run(COUNT, raw)

    assert isinstance(found, Opened)
    assert found == open_message(request, TRUST)
    assert occurrences == list_occurrences(raw)
    assert count == len(list_occurrences(raw))
