"""What a newcomer does wrong with ``pli``, and the sentence that says what to do."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.ports import free_base
from tests.support.site import PLI, pli, pli_result

ALICE = "alice@cabinet.example.org"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of one's own, as the README makes it."""
    root = tmp_path_factory.mktemp("own") / "site"
    pli("init", str(root), "--base-port", str(free_base()))
    pli(
        "structure", "add", str(root), "cabinet", "--name", "Cabinet",
        "--organization", "75000001600015", "--domain", "cabinet.example.org",
        "--patient-domain", "patients.example.org",
    )  # fmt: skip
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    copy = tmp_path / "site"
    shutil.copytree(made, copy)
    return copy


def refused(*arguments: str, code: int = 1) -> str:
    """Run a command that must end with one line of error and no traceback."""
    found, _output, errors = pli_result(*arguments)
    assert found == code, errors
    assert errors.startswith("error: ")
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1
    return errors


def test_a_spreadsheet_of_a_french_office_is_imported(site, tmp_path):
    file = tmp_path / "boites.csv"
    file.write_text(
        "address;type;structure;rpps;name;filing\n"
        f"{ALICE};PER;cabinet;10100000019;Alice Martin;oui\n"
        "accueil@cabinet.example.org;ORG;cabinet;;Accueil;peut-être\n",
        encoding="utf-8-sig",
    )

    code, output, _errors = pli_result("account", "import", str(site), str(file), "--json")

    assert code == 1
    assert [(row["line"], row["outcome"]) for row in json.loads(output)] == [
        (2, "added"),
        (3, "bad_filing"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"address,type,structure\na@b.example,ORG,caf\xe9\n", "UTF-8"),
        (b"", "header line"),
        (b"adress,type\nx,PER\n", "header line"),
        (b"address,type,structure\n", "no line"),
    ],
)
def test_a_file_that_is_no_list_of_mailboxes_is_told_why(site, tmp_path, content, told):
    file = tmp_path / "boites.csv"
    file.write_bytes(content)

    assert told in refused("account", "import", str(site), str(file))


def test_settings_that_are_no_toml_name_the_line(site):
    (site / "pli.toml").write_text("host = \n")

    assert "line 1" in refused("status", str(site))


def test_a_name_that_is_no_host_is_usage(tmp_path):
    assert "DNS name" in refused("init", str(tmp_path / "new"), "--host", "not a host", code=2)
    assert not (tmp_path / "new").exists()


def test_roots_kept_elsewhere_must_be_there(site, tmp_path):
    assert "roots" in refused("audit", "verify", str(site), "--roots", str(tmp_path))


def test_a_folder_in_place_of_a_database_is_an_error_of_one_line(site):
    (site / "data" / "mail.sqlite3").unlink()
    (site / "data" / "mail.sqlite3").mkdir()

    refused("account", "list", str(site))


def test_a_second_server_on_the_same_site_is_refused_with_a_sentence(site):
    with subprocess.Popen(
        [PLI, "serve", str(site)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith(b"ready ")
        try:
            told = pli_result("serve", str(site))[2]
            assert "serve.lock is held: waiting" in told
            assert "is served already" in told
            assert "mail: running; " in pli("status", str(site))
        finally:
            os.kill(first.pid, signal.SIGTERM)
            assert first.wait(timeout=60) == 0


def test_a_taken_port_sends_the_operator_to_pli_check(site):
    port = int(
        next(
            line.split("=")[1]
            for line in (site / "pli.toml").read_text().splitlines()
            if line.startswith("imaps")
        )
    )
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        code, output, errors = pli_result("serve", str(site))

    assert (code, output) == (1, "")
    assert f"'pli check {site}'" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_waiting_for_a_server_that_does_not_run_says_where_to_look(site):
    assert f"'pli status {site}'" in refused("wait", str(site), "--timeout", "0.1")


@pytest.mark.parametrize(
    ("key", "told"), [("server.key", "cannot be listened on"), ("private/root.key", "PEM files")]
)
def test_a_receiver_that_cannot_start_says_why(made, tmp_path, key, told):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        pki = made / "pki"
        errors = refused(
            "hospital", "serve", "--port", str(other.getsockname()[1]),
            "--ca", str(pki / "root.pem"), "--cert", str(pki / "server.pem"),
            "--key", str(pki / key), "--dir", str(tmp_path / "in"),
        )  # fmt: skip

    assert told in errors
