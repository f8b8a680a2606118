"""The process that holds the seals' keys: it may die, and the mail process can do without."""

import os
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchange import account, inbox, letter, until
from tests.support.site import DemoSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("sealing") / "site")
    made.start()
    yield made
    assert made.stop() == 0


def seal_process(site: DemoSite) -> int:
    """Find the child by its arguments."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                b"mailserver.app" in words
                and b"seal" in words
                and str(site.root).encode() in words
            ):
                return int(folder.name)
    return 0


def test_a_submission_waits_for_a_seal_process_that_died(site: DemoSite) -> None:
    first = seal_process(site)
    sender, recipient = (each["address"] for each in site.demo["practitioners"][:2])
    os.kill(first, signal.SIGKILL)

    def sent() -> bool:
        with account(site)() as client:
            try:
                client.sendmail(sender, [recipient], letter("<seal-1@x.test>", sender, recipient))
            except smtplib.SMTPDataError as error:
                assert error.smtp_code == 451  # noqa: PT017 - another code must fail the test
                return False
            return True

    assert until(sent, 30)
    assert seal_process(site) not in {0, first}
    assert until(lambda: inbox(site, 1)["<seal-1@x.test>"] == 1, 20)
