"""The journal a patient downloads, checked by the script, without the server.

Source: RFC 9162 §2.1.3, RULES §13.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from directory import trail
from directory.trail import Sealing, SignedRoot
from tests.support.cda import CdaSpec
from tests.support.webmail import TRAIL_KEY, Webmail, webmail

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_accesses"


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as made:
        yield made


async def seal(site: Webmail) -> list[SignedRoot]:
    roots = []
    while root := await site.record.write(trail.seal, Sealing(site.clock(), TRAIL_KEY.sign)):
        roots.append(root)
    return roots


async def downloaded(site: Webmail) -> dict[str, Any]:
    async with site.signed_in() as client:
        answer = await client.get("/dossier/acces/preuves")
    assert answer.headers["content-disposition"] == 'attachment; filename="acces.json"'
    found: dict[str, Any] = answer.json()
    return found


def checked(folder: Path, journal: dict[str, Any], *options: str) -> tuple[int, str]:
    (folder / "acces.json").write_text(json.dumps(journal))
    done = subprocess.run(
        [sys.executable, SCRIPT, folder / "acces.json", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, done.stdout


async def opened(site: Webmail, *documents: int) -> list[SignedRoot]:
    """Open documents one after the other, the trail sealed after each."""
    roots = []
    async with site.signed_in() as client:
        for document in documents:
            assert (await client.get(f"/dossier/document/{document}")).status_code == 200
            roots += await seal(site)
    return roots


async def test_every_access_is_proved_and_numbered_without_a_gap(site, tmp_path):
    documents = [await site.file(CdaSpec(unique_id=f"1.2.{n}")) for n in range(3)]
    async with site.signed_in("other") as client:  # what others do lies between in the trail
        await client.get("/dossier")
    roots = await opened(site, *documents, documents[0])
    journal = await downloaded(site)
    kept = tmp_path / "kept.jsonl"
    kept.write_text("".join(root.encode() + "\n" for root in roots))

    code, said = checked(tmp_path, journal, "--roots", str(kept))

    assert code == 0, said
    count = len(journal["accesses"])
    assert count >= 4
    assert [each["number"] for each in journal["accesses"]] == list(range(1, count + 1))
    assert f"{count} accesses, 0 bad, {count} compared" in said
    kinds = [each["event"][0] for each in journal["accesses"]]
    assert kinds.count("document_read") == 4
    assert all(each["event"][4] == f"patient:{site.patients['patient']}"
               for each in journal["accesses"])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda j: j["accesses"][0]["event"].__setitem__(2, "account:99"), "not the one"),
        (lambda j: j["accesses"][0].__setitem__("salt", "00" * 16), "not the one"),
        (lambda j: j["accesses"][0].__setitem__("sequence", 1), "not the one"),
        (lambda j: j["accesses"][1]["path"].pop(), "not the one"),
        (lambda j: j["accesses"].pop(0), "a number is missing"),
        (lambda j: j["accesses"][0]["root"].__setitem__("at", 1), "not signed"),
        (lambda j: j.__setitem__("trail_key", "00" * 32), "not signed"),
    ],
)
async def test_whatever_is_changed_in_the_file_is_found(site, tmp_path, change, said):
    documents = [await site.file(CdaSpec(unique_id=f"1.2.{n}")) for n in range(2)]
    await opened(site, *documents, *documents)
    journal = await downloaded(site)
    assert checked(tmp_path, journal)[0] == 0

    change(journal)

    code, told = checked(tmp_path, journal)
    assert code == 1
    assert said in told


async def test_a_trail_written_anew_disagrees_with_kept_roots_and_with_another_key(site, tmp_path):
    document = await site.file(CdaSpec())
    roots = await opened(site, document)
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps(json.loads(roots[0].encode()) | {"root": "11" * 32}) + "\n")
    journal = await downloaded(site)
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()

    assert "another root of this size was published" in checked(
        tmp_path, journal, "--roots", str(kept)
    )[1]  # fmt: skip
    assert "not signed by the key" in checked(tmp_path, journal, "--key", other)[1]


async def test_of_an_access_to_a_hidden_document_only_the_hash_is_told(site, tmp_path):
    hidden = await site.file(CdaSpec(), visibility="invisible_patient")
    await site.commands_table["note_access"](
        {"patient_id": site.patients["patient"], "page": "document", "actor": "account:99",
         "document_id": hidden}
    )  # fmt: skip
    await seal(site)
    journal = await downloaded(site)

    (access,) = journal["accesses"]
    assert "event" not in access
    assert checked(tmp_path, journal)[0] == 0
    assert "document_read" not in json.dumps(journal)


async def test_what_is_not_sealed_yet_comes_with_the_next_download(site, tmp_path):
    document = await site.file(CdaSpec())
    await opened(site, document)
    before = await downloaded(site)
    async with site.signed_in() as client:
        await client.get(f"/dossier/document/{document}")
    unsealed = await downloaded(site)
    await seal(site)
    after = await downloaded(site)

    assert len(unsealed["accesses"]) == len(before["accesses"])
    assert len(after["accesses"]) == len(before["accesses"]) + 1
    assert checked(tmp_path, after)[0] == 0
