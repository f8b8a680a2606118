"""``pli migrate`` on a site."""

from pathlib import Path

from mailserver.control import sole_owner
from tests.support.site import pli, pli_result


def test_a_site_of_this_version_is_left_as_it_is(tmp_path: Path) -> None:
    pli("init", str(tmp_path / "site"))
    before = (tmp_path / "site/data/mail.sqlite3").stat().st_size

    code, output, errors = pli_result("migrate", str(tmp_path / "site"))

    assert (code, errors) == (0, "")
    assert "this version's schema" in output
    assert before == (tmp_path / "site/data/mail.sqlite3").stat().st_size


def test_a_running_site_is_not_migrated(tmp_path: Path) -> None:
    pli("init", str(tmp_path / "site"))

    with sole_owner(tmp_path / "site/run/mail.lock"):
        code, _output, errors = pli_result("migrate", str(tmp_path / "site"))

    assert code == 1
    assert "another pli process is using this site" in errors
