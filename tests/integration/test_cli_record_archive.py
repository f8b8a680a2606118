"""``pli record export`` and ``pli record import``: from one site to another, by command."""

import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ports import free_base
from tests.support.record_load import fill
from tests.support.site import pli, pli_result

pytestmark = pytest.mark.timeout(120)
INS = ("--ins", "285037599001728", "--oid", "1.2.250.1.213.1.4.10")


def make(root: Path) -> Path:
    """A site with one patient."""
    pli("init", str(root), "--base-port", str(free_base()))
    pli(
        "structure", "add", str(root), "cabinet", "--name", "Cabinet", "--organization",
        "75000001600015", "--domain", "cabinet.example.org", "--patient-domain",
        "patients.example.org",
    )  # fmt: skip
    pli(
        "patient", "add", str(root), *INS, "--family", "DURAND", "--given", "CAMILLE",
        "--birth-date", "1985-03-14", "--sex", "F",
    )  # fmt: skip
    return root


def test_a_record_goes_from_site_to_site(tmp_path: Path) -> None:
    here, there = make(tmp_path / "here"), make(tmp_path / "there")
    archive = tmp_path / "record.zip"

    said = pli("record", "export", str(here), *INS, "--output", str(archive))
    assert "0 documents" in said
    with zipfile.ZipFile(archive) as packed:
        assert json.loads(packed.read("manifest.json"))["patient"]["matricule"] == INS[1]
    counts = pli("record", "import", str(there), str(archive), *INS, "--json")
    assert counts["document"] == 0

    code, _, errors = pli_result("record", "export", str(here), *INS, "--output", str(archive))
    assert code == 1
    assert "name that is not taken" in errors
    archive.write_bytes(b"x")
    code, _, errors = pli_result("record", "import", str(there), str(archive), *INS)
    assert code == 1
    assert "no archive of a record" in errors


def test_what_ends_says_so_to_programs_too(tmp_path: Path) -> None:
    site = make(tmp_path / "site")
    made = pli("token", "add", str(site), "--name", "Logiciel", *INS, "--json")
    stop = ("token", "stop", str(site), str(made["id"]), *INS, "--json")
    assert pli(*stop) == {"stopped": True}
    assert pli_result(*stop)[0] == 1

    with closing(sqlite3.connect(site / "data" / "record.sqlite3")) as record, record:
        fill(record, (1, 10))
    release = ("record", "release", str(site), "1.2.250.1.213.999.5.9", "--json")
    assert pli(*release) == {"released": True}
    assert pli_result(*release)[0] == 1
