"""A whole record as one archive: out, in again, out again the same; and what is refused.

Source: RULES §2, RULES §5, RULES §7.
"""

import base64
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from record_bridge import accounting
from record_bridge.archive_commands import ArchiveCommands
from record_bridge.calendar_commands import CalendarCommands
from record_bridge.errors import RecordStateError
from record_bridge.exporting import Wanted, export_record
from record_bridge.identity_commands import IdentityCommands
from record_bridge.life_commands import LifeCommands
from record_bridge.pack_commands import PackCommands
from record_bridge.prevention_record import PreventionCommands
from record_bridge.retention_commands import RetentionCommands
from record_bridge.rights_record import rights_of
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.storage.test_record_offers import file as offered
from tests.support.cda import OID_DEMO, PatientSpec, acts, follow_up
from tests.support.record import (
    PATIENT,
    DirectOpener,
    Record,
    mails,
    message,
    open_test_record,
    report,
)
from tests.unit.record_bridge.test_life import PDF

WHO = {"structure": "cabinet", "ins": PatientSpec().ins, "oid": PatientSpec().oid, "actor": "test"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    (tmp_path / "here").mkdir()
    async with open_test_record(tmp_path / "here") as opened:
        yield opened


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Record]:
    (tmp_path / "there").mkdir()
    async with open_test_record(tmp_path / "there") as opened:
        yield opened


async def furnish(record: Record) -> int:
    """A record with everything: two versions, a hidden document, and what patients add."""
    patient = int((await record.register())["id"])
    await record.one(message(1, report(1, acts=acts(follow_up("20270101")))))
    await record.one(message(2, report(2, replaces="1.2.250.1.213.999.1")))
    await record.one(message(3, report(3)))
    clock = lambda: record.now  # noqa: E731
    mine = {"patient_id": patient, "actor": "account:1"}
    life, calendar = LifeCommands(record.database, clock), CalendarCommands(record.database, clock)
    content = base64.b64encode(PDF).decode()
    await life.deposit_add(mine | {"title": "Radio", "name": "a.pdf", "content": content})
    await packs(record, mine, content)
    await life.profile_add(mine | {"kind": "allergy", "text": "Pollen"})
    wish = mine | {"kind": "advance_directives", "day": "2026-01-01"}
    await life.directive_write(wish | {"text": "Une"})
    await life.directive_write(wish | {"text": "Deux"})
    await life.opposition_set(mine | {"scope": "opening", "opposed": True})
    await calendar.own_entry_add(mine | {"title": "Dentiste", "day": "2026-12-10"})
    await calendar.calendar_key_make(mine | {"kind": "feed"})
    line = {"rule_id": "exam_1", "ordinal": 1}
    prevention = PreventionCommands(record.database, clock)
    from record_bridge.prevention_record import national_calendar

    line["rule_id"] = national_calendar().rules[0].id
    await prevention.prevention_declare(mine | line | {"day": "2020-01-01"})
    return patient


async def packs(record: Record, mine: dict[str, Any], content: str) -> None:
    """A pack that was sent, with a form given back; one in the making, and one that is closed."""
    packs = PackCommands(record.commands)
    theirs = {"structure": "cabinet", "actor": "cli:test"}
    file = {"name": "a.pdf", "content": content}
    for title in ("Envoyé", "Brouillon", "Clos"):
        made = await packs.pack_create(WHO | {"title": title, "due": "2027-01-05"})
        named = theirs | made
        item = await packs.pack_add(named | {"kind": "form", "title": f"Pour {title}"} | file)
        if title != "Brouillon":
            await packs.pack_send(named)
        if title == "Clos":
            await packs.pack_close(named)
        if title == "Envoyé":
            await packs.pack_form_return(mine | item | file)


def commands(record: Record) -> ArchiveCommands:
    return ArchiveCommands(record.commands, record.path, DirectOpener().number)


def read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


async def out(record: Record, path: Path) -> dict[str, Any]:
    await commands(record).record_export(WHO | {"path": str(path)})
    return read(path)


async def test_a_record_comes_back_as_it_was(record, elsewhere, tmp_path) -> None:
    await furnish(record)
    first = await out(record, tmp_path / "1.zip")
    await elsewhere.register()
    counts = await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "1.zip")})
    second = await out(elsewhere, tmp_path / "2.zip")

    assert counts["document"] == 3
    assert counts["deposit"] == 2
    assert counts["own_entry"] == counts["prevention_declared"] == 1
    assert counts["admission_pack"] == counts["pack_item"] == 3
    assert counts["directive"] == 2
    here = json.loads(first["tables/document.json"])
    there = json.loads(second["tables/document.json"])
    assert all(row.pop("imported_at") is None for row in here)
    assert all(row.pop("imported_at") is not None for row in there)
    assert all("imported" in row.pop("marks").split() for row in there)
    assert all("imported" not in row.pop("marks").split() for row in here)
    assert here == there
    events, again = json.loads(first["events.json"]), json.loads(second["events.json"])
    assert again[: len(events)] == events
    changing = {"manifest.json", "events.json", "tables/document.json"}
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in second.items() if k not in changing
    }
    # the chain of versions holds: the second replaces the first
    assert [row["superseded_by"] for row in there] == [1, None, None]


async def decided(record: Record) -> None:
    """A record of what people decided: filed from quarantine, moved, by hand, taken back."""
    patient = int((await record.register())["id"])
    other = replace(PATIENT, ins="279039999000275", family="ZZAUTRE")
    await record.register(other)
    traits = (replace(PATIENT, birth_date="19790329"),)
    await record.one(message(1, report(1, patients=traits)))
    await record.decide(1, "filed", ins=PATIENT.ins, oid=PATIENT.oid)
    await record.one(message(2, report(2, patients=(other,))))
    about = {"structure": "cabinet", "actor": "cli:vigilance", "reason": "mauvais patient"}
    moved = about | {"document": "1.2.250.1.213.999.2", "ins": PATIENT.ins, "oid": PATIENT.oid}
    await WithdrawalCommands(record.commands).record_refile(moved)
    await offered(record)
    await record.one(message(4, report(4)))
    withdrawn = about | {"document": "1.2.250.1.213.999.4"}
    await WithdrawalCommands(record.commands).record_withdraw(withdrawn)
    mine = {"patient_id": patient, "actor": "account:1"}
    life = LifeCommands(record.database, lambda: record.now).table()
    line = await life["profile_add"](mine | {"kind": "allergy", "text": "Pollen"})
    await life["profile_remove"](mine | line)
    measure = {"kind": "measurement", "measure": "weight", "value": "72,5"}
    await life["profile_add"](mine | measure)
    wish = {"kind": "trusted_person", "day": "2026-01-02", "person": "Anne", "contact": "06"}
    written = await life["directive_write"](mine | wish)
    await life["directive_withdraw"](mine | {"id": written["id"]})
    content = base64.b64encode(PDF).decode()
    kept = await life["deposit_add"](mine | {"title": "R", "name": "a.pdf", "content": content})
    await life["deposit_withdraw"](mine | kept)
    for scope, opposed in (("deposit", True), ("deposit", False), ("samu", True)):
        await life["opposition_set"](mine | {"scope": scope, "opposed": opposed})
    await RetentionCommands(record.commands).retention_suspend(WHO | {"reason": "recours"})


async def test_what_people_decided_comes_back_as_it_was(record, elsewhere, tmp_path) -> None:
    await decided(record)
    first = await out(record, tmp_path / "1.zip")
    await elsewhere.register()
    await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "1.zip")})
    second = await out(elsewhere, tmp_path / "2.zip")

    here, there = (json.loads(found["tables/document.json"]) for found in (first, second))
    assert [row["filed_by"] is not None for row in here] == [False, False, True, False]
    assert [row["status"] for row in here] == ["current", "current", "current", "withdrawn"]
    marks = [set(row.pop("marks").split()) for row in here]
    assert [sorted(row & {"filed_by_person", "filed_by_hand"}) for row in marks] == [
        ["filed_by_person"], ["filed_by_person"], ["filed_by_hand"], []
    ]  # fmt: skip
    assert [set(row.pop("marks").split()) for row in there] == [m | {"imported"} for m in marks]
    assert [(r.pop("imported_at") is None, "moved" in r) for r in here] == [(True, False)] * 4
    assert all(row.pop("imported_at") is not None for row in there)
    assert here == there
    changing = {"manifest.json", "events.json", "tables/document.json"}
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in second.items() if k not in changing
    }
    names = ("profile_item", "directive", "deposit", "opposition", "retention_hold")
    tables = {name: json.loads(second[f"tables/{name}.json"]) for name in names}
    assert [row["removed_at"] is None for row in tables["profile_item"]] == [False, True]
    assert [row["withdrawn_at"] is None for row in tables["directive"]] == [False]
    assert [row["withdrawn_at"] is None for row in tables["deposit"]] == [False]
    assert [(row["scope"], row["until_at"] is None) for row in tables["opposition"]] == [
        ("deposit", False), ("samu", True)
    ]  # fmt: skip
    assert len(tables["retention_hold"]) == 1


async def test_an_archive_holds_no_secret_of_a_calendar_and_is_its_owner_s(
    record, tmp_path
) -> None:
    await furnish(record)
    found = await out(record, tmp_path / "1.zip")

    assert "tables/calendar_key.json" not in found
    assert stat.S_IMODE((tmp_path / "1.zip").stat().st_mode) == 0o600
    assert set(json.loads(found["manifest.json"])["files"]) == found.keys() - {"manifest.json"}
    with pytest.raises(RecordStateError, match="no_such_file"):
        await out(record, tmp_path / "1.zip")  # never over another file


async def test_what_came_in_an_archive_is_not_counted_as_received_here(
    record, elsewhere, tmp_path
) -> None:
    await furnish(record)
    await out(record, tmp_path / "1.zip")
    await elsewhere.register()
    await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "1.zip")})

    async def none(_raw: bytes) -> None:
        return None

    audited = await accounting.verify(elsewhere.database, mails, none)
    assert audited.problems == []
    assert audited.filed == 0


async def test_the_patient_s_own_archive_holds_what_they_see(record, tmp_path) -> None:
    patient = await furnish(record)

    def own(documents) -> dict[str, bytes]:
        file = io.BytesIO()
        export_record(record.path, Wanted(patient, record.now, documents), file)
        with zipfile.ZipFile(file) as packed:
            return {name: packed.read(name) for name in packed.namelist()}

    seen = own(frozenset({3}))
    rows = json.loads(seen["tables/document.json"])
    assert [row["unique_id"] for row in rows] == ["1.2.250.1.213.999.3"]
    assert json.loads(seen["tables/agenda_entry.json"]) == []
    assert not any(name.startswith("packages/") for name in seen)
    assert not {"sender", "receipt", "position", "package_id", "filed_at"} & rows[0].keys()
    packs = json.loads(seen["tables/admission_pack.json"])
    assert [(row["title"], row["closed_at"]) for row in packs] == [("Envoyé", None)]
    (item,) = json.loads(seen["tables/pack_item.json"])
    assert (item["title"], item["pack_id"]) == ("Pour Envoyé", 0)
    assert [name for name in seen if name.startswith("pack_items/")] == ["pack_items/0.pdf"]
    nothing = b"".join(own(frozenset()).values())
    for hidden in (b"213.999.1", b"213.999.2", b"213.999.3"):
        assert hidden not in nothing


async def test_the_patient_s_own_archive_can_be_taken_elsewhere(
    record, elsewhere, tmp_path
) -> None:
    patient = await furnish(record)
    with (tmp_path / "own.zip").open("w+b") as file:
        export_record(record.path, Wanted(patient, record.now, frozenset({1, 2})), file)
    await elsewhere.register()
    counts = await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "own.zip")})
    assert counts["document"] == 2
    listed = await elsewhere.commands.record_list(WHO)
    assert [row["unique_id"] for row in listed] == ["1.2.250.1.213.999.1", "1.2.250.1.213.999.2"]


async def test_what_was_given_for_hours_elsewhere_is_over_here(
    record, elsewhere, tmp_path
) -> None:
    patient = await furnish(record)
    for kind, holder in (("break_glass", "1"), ("consent", "2"), ("care_team", "3")):
        await record.grant(patient, kind, holder)
    await out(record, tmp_path / "1.zip")
    await elsewhere.register()
    await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "1.zip")})

    held = await rights_of(elsewhere.database, 1)
    assert {right.kind.value: right.grant.holds(elsewhere.now) for right in held} == {
        "break_glass": False, "consent": False, "care_team": True,
    }  # fmt: skip


# --- what is refused -------------------------------------------------------------------------


async def test_an_archive_fills_an_empty_record_of_the_same_person_only(
    record, elsewhere, tmp_path
) -> None:
    await furnish(record)
    path = {"path": str(tmp_path / "1.zip")}
    await out(record, tmp_path / "1.zip")
    with pytest.raises(RecordStateError, match="no_such_patient"):
        await commands(elsewhere).record_import(WHO | path)
    with pytest.raises(RecordStateError, match="record_not_empty"):
        await commands(record).record_import(WHO | path)
    await elsewhere.register(given="AUTRE")
    with pytest.raises(RecordStateError, match="archive_of_another"):
        await commands(elsewhere).record_import(WHO | path)


async def test_an_archive_fills_no_record_that_takes_no_documents(
    record, elsewhere, tmp_path
) -> None:
    await furnish(record)
    path = {"path": str(tmp_path / "1.zip")}
    await out(record, tmp_path / "1.zip")
    await elsewhere.register()
    closing, why = RetentionCommands(elsewhere.commands), {"reason": "demande"}
    await closing.record_close(WHO | why)
    with pytest.raises(RecordStateError, match="record_closed"):
        await commands(elsewhere).record_import(WHO | path)
    await closing.record_open_again(WHO | why)
    other = await elsewhere.register(replace(PATIENT, ins="279039999000275", oid=OID_DEMO))
    into = {"into_ins": other["ins"], "into_oid": other["oid"]}
    await IdentityCommands(elsewhere.commands).patient_merge(WHO | into | why)

    with pytest.raises(RecordStateError, match="not_qualified"):
        await commands(elsewhere).record_import(WHO | path)

    assert elsewhere.count("document") == 0


def about(first: dict[str, Any], **changes: Any) -> dict[str, bytes]:
    """An archive whose first document is about somebody, under a manifest that fits."""
    rows = json.loads(first["tables/document.json"])
    name = next(each for each in first if each.startswith("documents/0."))
    content = report(1, **changes)
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    rows[0] |= {"sha256": {"base64": digest}, "octets": len(content)}
    files = first | {name: content, "tables/document.json": json.dumps(rows).encode()}
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {
        each: hashlib.sha256(octets).hexdigest() for each, octets in files.items()
    }
    return files | {"manifest.json": json.dumps(manifest).encode()}


def pack(path: Path, files: dict[str, bytes]) -> dict[str, Any]:
    with zipfile.ZipFile(path, "w") as packed:
        for each, content in files.items():
            packed.writestr(each, content)
    return WHO | {"path": str(path)}


SECOND = replace(PATIENT, ins="279039999000275", oid=OID_DEMO)


@pytest.mark.parametrize(
    ("people", "reason"),
    [
        pytest.param((SECOND,), "document_of_another", id="another number"),
        pytest.param((PATIENT, SECOND), "archive_unreadable", id="two persons"),
    ],
)
async def test_an_archive_with_a_document_of_somebody_else_fills_nothing(
    record, elsewhere, tmp_path, people, reason
) -> None:
    await furnish(record)
    path = pack(tmp_path / "2.zip", about(await out(record, tmp_path / "1.zip"), patients=people))
    await elsewhere.register()

    with pytest.raises(RecordStateError, match=reason):
        await commands(elsewhere).record_import(path)

    assert elsewhere.count("document") == 0


@pytest.mark.parametrize("merged", [False, True])
async def test_an_archive_is_filled_from_documents_without_a_number_or_of_a_merged_one(
    record, elsewhere, tmp_path, merged
) -> None:
    await furnish(record)
    person = SECOND if merged else replace(PATIENT, ins=None)
    first = await out(record, tmp_path / "1.zip")
    path = pack(tmp_path / "2.zip", about(first, patients=(person,)))
    await elsewhere.register()
    if merged:
        await elsewhere.register(SECOND)
        into = {"into_ins": PATIENT.ins, "into_oid": PATIENT.oid, "reason": "même personne"}
        identities = IdentityCommands(elsewhere.commands)
        await identities.patient_merge(WHO | into | {"ins": SECOND.ins, "oid": SECOND.oid})

    assert (await commands(elsewhere).record_import(path))["document"] == 3


def change(
    found: dict[str, bytes], name: str, content: bytes, *, honest: bool
) -> dict[str, bytes]:
    """An archive with one file changed; an honest liar also changes the manifest."""
    changed = found | {name: content}
    if honest:
        manifest = json.loads(found["manifest.json"])
        manifest["files"][name] = hashlib.sha256(content).hexdigest()
        changed["manifest.json"] = json.dumps(manifest).encode()
    return changed


def rows(found: dict[str, bytes], table: str, **values: Any) -> bytes:
    """A table's file with these values in its first row."""
    content = json.loads(found[f"tables/{table}.json"])
    content[0] |= values
    return json.dumps(content).encode()


HOSTILE = {
    "a file changed": lambda f: change(f, "documents/0.xml", b"<x/>", honest=False),
    "a document changed": lambda f: change(f, "documents/0.xml", b"<x/>", honest=True),
    "a file more": lambda f: f | {"../../etc/passwd": b"x"},
    "no manifest": lambda f: {k: v for k, v in f.items() if k != "manifest.json"},
    "no JSON": lambda f: change(f, "tables/document.json", b"{", honest=True),
    "deep JSON": lambda f: change(f, "tables/document.json", b"[" * 100_000, honest=True),
    "no rows": lambda f: change(f, "tables/document.json", b"[1]", honest=True),
    "a column": lambda f: change(
        f, "tables/document.json", rows(f, "document", **{"x = 1; --": 1}), honest=True
    ),
    "a type": lambda f: change(
        f, "tables/document.json", rows(f, "document", octets="1"), honest=True
    ),
    "a word": lambda f: change(
        f, "tables/document.json", rows(f, "document", visibility="visible nowhere"), honest=True
    ),
    "a mark": lambda f: change(
        f, "tables/document.json", rows(f, "document", marks="verified"), honest=True
    ),
    "a number": lambda f: change(
        f, "tables/deposit.json", rows(f, "deposit", deposited_at=2**70), honest=True
    ),
    "a link": lambda f: change(
        f, "tables/document.json", rows(f, "document", superseded_by=99), honest=True
    ),
    "a version": lambda f: (
        f | {"manifest.json": f["manifest.json"].replace(b'"version": 1', b'"version": 2')}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_changed_archive_fills_nothing(record, elsewhere, tmp_path, name) -> None:
    await furnish(record)
    found = HOSTILE[name](await out(record, tmp_path / "1.zip"))
    with zipfile.ZipFile(tmp_path / "2.zip", "w") as packed:
        for each, content in found.items():
            packed.writestr(each, content)
    await elsewhere.register()
    with pytest.raises(RecordStateError, match="archive_unreadable"):
        await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "2.zip")})
    assert await elsewhere.commands.record_list(WHO) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100])
async def test_what_is_no_archive_fills_nothing(elsewhere, tmp_path, content) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    await elsewhere.register()
    with pytest.raises(RecordStateError, match="archive_unreadable"):
        await commands(elsewhere).record_import(WHO | {"path": str(tmp_path / "x.zip")})
