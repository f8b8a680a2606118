"""``pli device`` and ``pli check`` on what mail clients log in by: what is taken, what is told.

Source: RULES §12, RFC 4422 §3.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.login_site import LoginSite, issue, prepare
from tests.support.site import DemoSite, pli, pli_result

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LoginSite:
    return prepare(DemoSite.create(tmp_path_factory.mktemp("devices") / "site"))


@pytest.fixture
def bare(made: LoginSite, tmp_path: Path) -> Path:
    """The site without an authority and without a provider."""
    root = tmp_path / "site"
    shutil.copytree(made.site.root, root)
    (root / "pki" / "mail-clients.pem").unlink()
    settings = (root / "pli.toml").read_text()
    (root / "pli.toml").write_text(settings.partition("[tokens]")[0])
    return root


def found(root: Path) -> dict[str, dict[str, Any]]:
    _code, output, _errors = pli_result("check", str(root), "--json")
    return {row["check"]: row for row in json.loads(output)}


def add(root: Path, address: str, *options: str) -> str:
    code, output, errors = pli_result("device", "add", str(root), address, "x", *options)
    assert (code, output) == (1, "")
    return errors


def test_devices_of_three_kinds_are_listed_and_show_no_secret(made: LoginSite) -> None:
    rows = json.loads(pli_result("device", "list", str(made.site.root), made.address, "--json")[1])

    kinds = {row["name"]: (row["by"], row["scram"]) for row in rows}
    assert kinds["poste"] == ("certificate", False)
    assert kinds["portail"] == ("subject", False)
    assert ("password", True) in kinds.values()
    assert made.password not in json.dumps(rows)


@pytest.mark.parametrize(("life", "kept"), [(10, 10), (900, 365)])
def test_a_mapping_ends_with_its_certificate_or_after_a_year(
    made: LoginSite, tmp_path: Path, life: int, kept: int
) -> None:
    file = tmp_path / "c.pem"
    file.write_bytes(issue(made.site.root, made.address, timedelta(days=life)).bundle)

    added = pli(
        "device", "add", str(made.site.root), made.address, "x", "--certificate", str(file),
        "--json",
    )  # fmt: skip

    end = datetime.fromisoformat(added["expires_at"])
    assert abs(end - datetime.now(UTC) - timedelta(days=kept)) < timedelta(hours=1)
    assert added["password"] is None


def test_a_certificate_that_could_never_be_shown_is_refused(
    made: LoginSite, bare: Path, tmp_path: Path
) -> None:
    root = made.site.root
    file = tmp_path / "c.pem"
    for content, told in (
        ("no certificate", "PEM"),
        ((root / "pki" / "server.pem").read_text(), "issued"),
        ((root / "pki" / "personal-ca.pem").read_text(), "issued"),
    ):
        file.write_text(content)
        assert told in add(root, made.address, "--certificate", str(file))
    file.write_bytes(issue(root, made.address).bundle)
    assert "pki/mail-clients.pem" in add(bare, made.address, "--certificate", str(file))


def test_a_subject_needs_a_provider(made: LoginSite, bare: Path) -> None:
    assert "[tokens]" in add(bare, made.address, "--subject", "x")
    assert "255" in add(made.site.root, made.address, "--subject", "x" * 256)


def test_one_device_shows_one_thing(made: LoginSite) -> None:
    code, _output, errors = pli_result(
        "device", "add", str(made.site.root), made.address, "x", "--subject", "x",
        "--certificate", str(made.certificate),
    )  # fmt: skip

    assert code == 2
    assert "one of" in errors


def test_check_says_what_clients_may_log_in_by(made: LoginSite, bare: Path) -> None:
    full, off = found(made.site.root), found(bare)

    assert full["identity provider"]["text"].startswith("signs with ES256")
    assert full["mail clients' authority"]["text"].startswith("valid until")
    assert off["identity provider"]["text"].startswith("none")
    assert off["mail clients' authority"]["text"].startswith("none")


def test_check_counts_the_passwords_that_know_no_scram(bare: Path) -> None:
    with closing(sqlite3.connect(bare / "data" / "mail.sqlite3")) as mail, mail:
        mail.execute("UPDATE device_password SET stored_key = NULL WHERE id = 1")

    row = found(bare)["device passwords"]
    assert row["state"] == "ok"
    assert "make new ones" in row["text"]


def test_check_finds_an_authority_without_a_list_and_a_provider_without_a_key(
    made: LoginSite, tmp_path: Path
) -> None:
    root = tmp_path / "site"
    shutil.copytree(made.site.root, root)
    (root / "pki" / "personal-ca.crl").unlink()
    (root / "trust" / "token-issuer.pem").write_text("no key")

    rows = found(root)
    assert rows["mail clients' authority"]["state"] == "PROBLEM"
    assert rows["identity provider"]["state"] == "PROBLEM"
