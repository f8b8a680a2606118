"""For every test of the run: no log line of ours may show a person."""

from collections.abc import Iterator

import pytest

from tests.support import phi


def pytest_unconfigure(config: pytest.Config) -> None:
    """Below pytest's own last line: each skipped test with its reason, then how many."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        reporter.write_line(f"{report.nodeid}: {reason}")
    reporter.write_line(f"skipped: {len(skipped)}")


@pytest.fixture(scope="session", autouse=True)
def watched_logs() -> None:
    """Our loggers write as a server would, and each line is looked at."""
    phi.watch_logs()


@pytest.fixture(autouse=True)
def no_person_in_the_logs(watched_logs: None) -> Iterator[None]:
    """Fail the test during which a log line showed a canary, an INS or an address."""
    yield
    assert phi.take_leaks() == []
