"""Unmodified calendar clients over real TLS: the caldav library, vdirsyncer and curl.

Source: RFC 4791 §7, RFC 6578 §3, RFC 6764 §5.
"""

import asyncio
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificates

from certs.issue import PracticePki
from mailserver.webmail.http import WebBind, serve_web
from record_bridge.calendar_record import KEY_LIFETIME
from tests.support.cda import CdaSpec
from tests.support.mailsite import AT
from tests.support.webmail import webmail

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def site(tmp_path):
    """A running webmail with one proposal, and a patient's calendar key."""
    pki = PracticePki.create(AT, "PRATIQUE")
    issued = pki.issue_server(AT, ["127.0.0.1"], {"CN": "localhost"})
    (tmp_path / "server.pem").write_bytes(issued.bundle)
    (tmp_path / "server.key").write_bytes(issued.key)
    async with webmail(tmp_path) as opened:
        document = await opened.file(CdaSpec(unique_id="1.2.1"))
        await opened.add_agenda(document, title="ZZCANARY suivi")
        made = await opened.app.state.services.record(
            "calendar_key_make",
            {"patient_id": opened.patients["patient"], "kind": "device", "actor": "test"},
        )
        async with serve_web(
            opened.app, WebBind("127.0.0.1", 0), tmp_path / "server.pem", tmp_path / "server.key"
        ) as port:
            yield opened, f"https://127.0.0.1:{port}", made


SCRIPT = """
import sys, datetime, caldav
url, login, secret = sys.argv[1:]
client = caldav.DAVClient(url=url, username=login, password=secret, ssl_verify_cert=False)
calendars = {c.get_display_name(): c for c in client.principal().calendars()}
own, documents = calendars["Santé (mes rendez-vous)"], calendars["Santé (documents)"]
read = documents.search(event=True, start=datetime.datetime(2026, 12, 20),
                        end=datetime.datetime(2026, 12, 30))
assert [str(e.icalendar_component["summary"]) for e in read] == ["Rendez-vous santé"], read
state = own.objects_by_sync_token(load_objects=True)
event = own.add_event(dtstart=datetime.datetime(2026, 12, 10, 9, tzinfo=datetime.timezone.utc),
                      dtend=datetime.datetime(2026, 12, 10, 10, tzinfo=datetime.timezone.utc),
                      summary="Kiné", uid="from-the-library")
found = own.event_by_uid("from-the-library")
assert str(found.icalendar_component["summary"]) == "Kiné"
changed = own.objects_by_sync_token(sync_token=state.sync_token, load_objects=True)
assert len(list(changed)) == 1
found.icalendar_component["summary"] = "Kiné du dos"
found.save()
assert "du dos" in own.event_by_uid("from-the-library").data
found.delete()
gone = own.objects_by_sync_token(sync_token=changed.sync_token)
assert len(list(gone)) == 1
try:
    documents.add_event(dtstart=datetime.datetime(2026, 12, 10), summary="x")
except caldav.lib.error.AuthorizationError:
    print("read only")
print("done")
"""


def fingerprint(bundle: Path) -> str:
    """SHA-256 of the first certificate of a file."""
    return load_pem_x509_certificates(bundle.read_bytes())[0].fingerprint(hashes.SHA256()).hex(":")


async def run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_the_caldav_library_reads_and_writes(site):
    pytest.importorskip("caldav", reason="needs the library caldav")
    _, base, made = site
    said = await run(
        sys.executable, "-W", "ignore", "-c", SCRIPT, base + "/caldav/", made["login"],
        made["secret"],
    )  # fmt: skip
    assert "read only" in said
    assert said.endswith("done\n")


@pytest.mark.skipif(shutil.which("vdirsyncer") is None, reason="needs vdirsyncer")
async def test_vdirsyncer_synchronises_both_ways(site, tmp_path):
    opened, base, made = site
    folder = tmp_path / "calendars"
    folder.mkdir()
    (tmp_path / "config").write_text(f"""
[general]
status_path = "{tmp_path}/status"
[pair agenda]
a = "here"
b = "there"
collections = ["from b"]
conflict_resolution = "b wins"
[storage here]
type = "filesystem"
path = "{folder}"
fileext = ".ics"
[storage there]
type = "caldav"
url = "{base}/caldav/"
username = "{made["login"]}"
password = "{made["secret"]}"
verify_fingerprint = "{fingerprint(tmp_path / "server.pem")}"
""")

    async def synchronise(*more):
        return await run(
            "sh",
            "-c",
            f"yes | vdirsyncer -c {tmp_path}/config discover && vdirsyncer -c {tmp_path}/config sync {' '.join(more)}",
        )

    said = await synchronise()
    (document,) = (folder / "sante").glob("*.ics")
    assert "SUMMARY:Rendez-vous santé" in document.read_text(), said
    (folder / "personnel" / "local.ics").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Test//FR\r\nBEGIN:VEVENT\r\nUID:local\r\n"
        "DTSTAMP:20261101T000000Z\r\nDTSTART:20261210T090000Z\r\nSUMMARY:Kiné\r\nEND:VEVENT\r\n"
        "END:VCALENDAR\r\n"
    )
    await synchronise()
    (entry,) = await opened.queries.life.own_entries(opened.patients["patient"])
    assert entry.title == "Kiné"
    assert entry.start_at == datetime(2026, 12, 10, 9, tzinfo=UTC)
    (folder / "personnel" / "local.ics").unlink()
    await synchronise("--force-delete")
    assert await opened.queries.life.own_entries(opened.patients["patient"]) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_reads_a_feed_until_it_ends(site, tmp_path):
    opened, base, _ = site
    made = await opened.app.state.services.record(
        "calendar_key_make",
        {"patient_id": opened.patients["patient"], "kind": "feed", "actor": "test"},
    )
    address = f"{base}/calendrier/{made['secret']}.ics"
    fetch = ("curl", "-sS", "-k", "-w", "%{http_code}", address)
    assert "Rendez-vous santé" in await run(*fetch)
    opened.clock.pass_(seconds=KEY_LIFETIME.total_seconds())
    assert (await run(*fetch)).endswith("404")
