"""``pli migrate`` on a site."""

import sqlite3
from contextlib import closing
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


def test_documents_of_an_older_schema_are_found_once_the_site_is_migrated(tmp_path: Path) -> None:
    pli("init", str(tmp_path / "site"))
    with closing(sqlite3.connect(tmp_path / "site/data/record.sqlite3")) as record, record:
        columns = record.execute("PRAGMA table_info(document)").fetchall()
        row = {name: 1 for _, name, _, required, default, _ in columns if required and not default}
        row |= {"title": "Échographie", "type_code": "11502-2", "words": "", "refs": ""}
        row |= {"author_ids": "10001234567", "number": None}
        record.execute(
            f"INSERT INTO document ({', '.join(row)})"  # noqa: S608 - ours
            f" VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )

    pli("migrate", str(tmp_path / "site"))

    with closing(sqlite3.connect(tmp_path / "site/data/record.sqlite3")) as record:
        found = record.execute("SELECT words, refs, number FROM document").fetchone()
    assert "echographie" in found[0]
    assert found[1] == "100:10001234567"
    assert found[2] is not None


def test_a_running_site_is_not_migrated(tmp_path: Path) -> None:
    pli("init", str(tmp_path / "site"))

    with sole_owner(tmp_path / "site/run/mail.lock"):
        code, _output, errors = pli_result("migrate", str(tmp_path / "site"))

    assert code == 1
    assert "another pli process is using this site" in errors
