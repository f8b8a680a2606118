"""Unmodified calendar clients over real TLS: the caldav library, vdirsyncer, Thunderbird, curl.

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

from certs.issue import Branch, PracticePki
from mailserver.webmail.http import WebBind, serve_web
from record_bridge.calendar_storing import KEY_LIFETIME
from tests.support.cda import CdaSpec
from tests.support.mailsite import AT
from tests.support.thunderbird import thunderbird
from tests.support.webmail import webmail

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def site(tmp_path):
    """A running webmail with one proposal, and a patient's calendar key."""
    pki = PracticePki.create(AT, "PRATIQUE")
    issued = pki.issue_server(AT, ["127.0.0.1"], {"CN": "localhost"})
    (tmp_path / "root.pem").write_bytes(pki.authorities[Branch.ROOT].pem)
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


THUNDERBIRD = """
    const [ca, address, login, secret] = args;
    Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB)
        .addCertFromBase64(ca, "CT,C,C");
    const base = new URL(address);
    const LoginInfo = Components.Constructor(
        "@mozilla.org/login-manager/loginInfo;1", Ci.nsILoginInfo, "init");
    await Services.logins.addLoginAsync(
        new LoginInfo(base.origin, null, "Pli agenda", login, secret, "", ""));
    const { cal } = ChromeUtils.importESModule("resource:///modules/calendar/calUtils.sys.mjs");
    const { CalEvent } = ChromeUtils.importESModule("resource:///modules/CalEvent.sys.mjs");
    const { ITEM_FILTER_ALL_ITEMS } = Ci.calICalendar;
    const open = name => {
        const calendar = cal.manager.createCalendar(
            "caldav", Services.io.newURI(`${address}/caldav/${login}/agendas/${name}/`));
        calendar.id = cal.getUUID();
        calendar.name = name;
        calendar.setProperty("username", login);
        cal.manager.registerCalendar(calendar);
        return cal.manager.getCalendarById(calendar.id);
    };
    const items = calendar => calendar.getItemsAsArray(ITEM_FILTER_ALL_ITEMS, 0, null, null);
    // It refreshes by itself when it is opened; two requests that are both asked for the login
    // within a minute make it forget the password, so nothing is hurried here.
    const synchronised = (calendar, condition, what) => until(async () => {
        const found = await items(calendar);
        return condition(found) ? found : null;
    }, what);
    const documents = open("sante");
    const read = await synchronised(documents, found => found.length === 1, "the document's entry");
    const own = open("personnel");
    await synchronised(own, found => found.length === 1, "the entry noted elsewhere");
    const event = new CalEvent([
        "BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", "UID:from-thunderbird",
        "DTSTAMP:20261101T000000Z", "DTSTART:20261210T090000Z", "DTEND:20261210T100000Z",
        "SUMMARY:Kiné", "END:VEVENT", "END:VCALENDAR", ""].join("\\r\\n"));
    const added = await own.addItem(event);
    const changed = added.clone();
    changed.title = "Kiné du dos";
    await own.modifyItem(changed, added);
    own.refresh();
    const kept = await synchronised(
        own, found => found.some(each => each.title === "Kiné du dos"), "the change");
    const old = kept.find(each => each.id !== "from-thunderbird");
    await own.deleteItem(old);
    own.refresh();
    await synchronised(own, found => found.length === 1, "the deletion");
    return { read: read.map(each => each.title), readOnly: [documents.readOnly, own.readOnly] };
"""


@pytest.mark.timeout(240)
@pytest.mark.skipif(shutil.which("thunderbird") is None, reason="needs Thunderbird")
async def test_thunderbird_reads_notes_changes_and_deletes(site, tmp_path):
    opened, base, made = site
    mine = {"patient_id": opened.patients["patient"], "actor": "test"}
    await opened.app.state.services.record(
        "own_entry_add", mine | {"title": "Dentiste", "place": "", "day": "2026-12-26"}
    )
    ca = "".join((tmp_path / "root.pem").read_text().splitlines()[1:-1])

    def use() -> dict[str, object]:
        with thunderbird(tmp_path / "profile") as client:
            return client.run(THUNDERBIRD, ca, base, made["login"], made["secret"])

    said = await asyncio.to_thread(use)

    assert said == {"read": ["Rendez-vous santé"], "readOnly": [True, False]}
    (entry,) = await opened.queries.life.own_entries(opened.patients["patient"])
    assert (entry.uid, entry.title) == ("from-thunderbird", "Kiné du dos")
    assert entry.start_at == datetime(2026, 12, 10, 9, tzinfo=UTC)


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
