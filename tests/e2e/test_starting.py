"""A server that starts while another is still ending, or after a crash that left things behind."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mailserver.control import sole_owner
from tests.support.site import DemoSite, pli_result

pytestmark = pytest.mark.timeout(180)


def test_a_server_waits_for_one_that_is_still_ending(tmp_path: Path) -> None:
    """Its supervisor was killed; its children finish what is in flight, and hold their locks."""
    site = DemoSite.create(tmp_path / "site")
    free = threading.Event()

    def hold() -> None:
        with sole_owner(site.root / "run" / "mail.lock"):
            free.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    threading.Timer(8.0, free.set).start()
    began = time.monotonic()
    site.start()
    holder.join()

    assert free.is_set()
    assert time.monotonic() - began >= 8.0
    assert site.stop() == 0


def test_a_server_starts_at_once_after_its_supervisor_alone_was_killed(tmp_path: Path) -> None:
    site = DemoSite.create(tmp_path / "site")
    site.start()
    os.kill(site.pid, signal.SIGKILL)
    site._reap()
    site.start()

    code, _output, _errors = pli_result("wait", str(site.root), "--idle", "--timeout", "30")
    assert code == 0
    assert site.stop() == 0
