"""Personal calendars over real files: the feed, CalDAV, who may read, what leaves, what is kept.

Source: RFC 4791 §5, RFC 4791 §7, RFC 6578 §3, RFC 6764 §5, RFC 7617 §2, RULES §8, RULES §14.
"""

import base64
import re
from urllib.parse import urlsplit

import pytest
from lxml import etree

from mailserver.webmail.caldav import METHODS
from record_bridge.calendar_storing import KEY_LIFETIME, MAX_KEYS, MAX_OWN_ENTRIES
from tests.support.cda import CdaSpec
from tests.support.webmail import token_of, webmail

DAV, CAL = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
OBJECT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Test//FR\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n"
    "DTSTAMP:20261101T000000Z\r\nDTSTART:20261210T090000Z\r\nSUMMARY:{title}\r\n{more}"
    "END:VEVENT\r\nEND:VCALENDAR\r\n"
)


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def make_key(site, kind="device", detail="plain", login="patient"):
    """Make a key on the page; give what it shows once: an address, or login and password."""
    async with site.signed_in(login) as client:
        page = await client.get("/agenda/calendriers")
        answer = await client.post(
            "/agenda/calendriers/nouveau",
            data={"csrf": token_of(page.text), "kind": kind, "detail": detail, "name": "Tel"},
        )
    assert answer.status_code == 200
    shown = re.findall(r'<code class="secret">([^<]+)</code>', answer.text)
    return urlsplit(shown[0]).path if kind == "feed" else tuple(shown[1:])


class Dav:
    """A calendar program."""

    def __init__(self, client, key):
        self.client = client
        self.login = key[0]
        basic = base64.b64encode(":".join(key).encode()).decode()
        self.headers = {"Authorization": f"Basic {basic}"}

    def path(self, calendar, name=""):
        return f"/caldav/{self.login}/agendas/{calendar}/{name}"

    async def __call__(self, method, path, body="", **headers):
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.client.request(
            method, path, content=body.encode(), headers=self.headers | named
        )

    async def put(self, name, uid="u", title="Kiné", more="", **headers):
        body = OBJECT.format(uid=uid, title=title, more=more)
        path = self.path("personnel", name)
        return await self("PUT", path, body, Content_Type="text/calendar", **headers)

    async def sync(self, calendar, token="", limit=""):
        bound = f"<D:limit><D:nresults>{limit}</D:nresults></D:limit>" if limit else ""
        answer = await self(
            "REPORT",
            self.path(calendar),
            f'<D:sync-collection xmlns:D="DAV:"><D:sync-token>{token}</D:sync-token>'
            f"<D:sync-level>1</D:sync-level>{bound}<D:prop><D:getetag/></D:prop></D:sync-collection>",
        )
        if answer.status_code != 207:
            return answer.status_code, answer.text
        root = etree.fromstring(answer.content)
        told = {
            each.findtext(f"{DAV}href").rpartition("/")[2]: each.findtext(f"{DAV}status") or "200"
            for each in root.findall(f"{DAV}response")
        }
        return told, root.findtext(f"{DAV}sync-token")


QUERY = (
    '<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop>'
    "<D:getetag/><C:calendar-data/></D:prop><C:filter><C:comp-filter name='VCALENDAR'>"
    "<C:comp-filter name='VEVENT'>{}</C:comp-filter></C:comp-filter></C:filter>"
    "</C:calendar-query>"
)


@pytest.fixture
async def dav(site):
    key = await make_key(site)
    async with site.client() as client:
        yield Dav(client, key)


async def furnish(site, login="patient") -> int:
    document = await site.file(CdaSpec(unique_id=f"1.2.{login}"), login=login)
    await site.add_agenda(document, login=login, title="ZZCANARY coloscopie", place="ZZLIEU")
    return document


# --- the feed --------------------------------------------------------------------------------


async def test_a_feed_says_when_and_nothing_else_unless_its_patient_chose_more(site):
    await furnish(site)
    plain = await make_key(site, "feed")
    async with site.client() as client:
        answer = await client.get(plain)
        assert answer.headers["content-type"].startswith("text/calendar")
        assert "SUMMARY:Rendez-vous santé" in answer.text
        assert "DTSTART;VALUE=DATE:20261224" in answer.text
        assert "ZZ" not in answer.text

        titles = await make_key(site, "feed", "titles")
        assert "coloscopie" in (await client.get(titles)).text
        assert (await client.get(plain)).status_code == 404  # a new address stops the old one


async def test_what_is_to_come_reminds_the_day_before_in_plain_words(site):
    document = await furnish(site)
    await site.add_agenda(document, ordinal=1, title="ZZCANARY rappel", day="2026-12-25",
                          reminder="ZZCANARY Votre rendez-vous approche.")  # fmt: skip
    await site.add_agenda(document, ordinal=2, title="ZZCANARY passé", day="2026-11-01",
                          status="history", reminder="ZZCANARY")  # fmt: skip
    address = await make_key(site, "feed")
    async with site.client() as client:
        said = (await client.get(address)).text

    events = said.split("BEGIN:VEVENT")[1:]
    reminded = [each for each in events if "BEGIN:VALARM" in each]
    assert len(events) == 3
    assert len(reminded) == 1
    assert "20261225" in reminded[0]
    assert "DESCRIPTION:Rendez-vous santé" in reminded[0]
    assert "ZZ" not in said


async def test_a_feed_that_did_not_change_is_not_sent_again(site):
    await furnish(site)
    address = await make_key(site, "feed")
    async with site.client() as client:
        first = await client.get(address)
        again = await client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_stopped_or_old_feed_is_not_found_like_any_other_address(site):
    address = await make_key(site, "feed")
    async with site.client() as client:
        assert (await client.get(address)).status_code == 200
        unknown = await client.get("/calendrier/" + "A" * 43 + ".ics")
        async with site.signed_in() as browser:
            page = await browser.get("/agenda/calendriers")
            stop = re.search(r"/agenda/calendriers/\d+/arreter", page.text)[0]
            answer = await browser.post(stop, data={"csrf": token_of(page.text)})
            assert answer.status_code == 303
        stopped = await client.get(address)
        assert (stopped.status_code, stopped.text) == (404, unknown.text)

        old = await make_key(site, "feed")
        site.clock.pass_(seconds=KEY_LIFETIME.total_seconds())
        assert (await client.get(old)).status_code == 404


async def test_the_secret_is_kept_nowhere_and_shown_once(site, tmp_path):
    address = await make_key(site, "feed")
    secret = address.rpartition("/")[2].removesuffix(".ics")
    async with site.client() as client:
        await client.get(address)
    async with site.signed_in() as browser:
        assert secret not in (await browser.get("/agenda/calendriers")).text
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


async def test_hidden_documents_change_no_octet_of_a_feed_and_no_state(site):
    await furnish(site)
    address = await make_key(site, "feed")
    key = await make_key(site)
    async with site.client() as client:
        program = Dav(client, key)
        before = (await client.get(address)).content
        states = [await program.sync(calendar) for calendar in ("sante", "personnel")]
        hidden = await site.file(CdaSpec(unique_id="1.2.9"), visibility="invisible_patient")
        await site.add_agenda(hidden, title="ZZCACHE", day="2026-12-25")

        assert (await client.get(address)).content == before
        assert [await program.sync(calendar) for calendar in ("sante", "personnel")] == states


async def test_every_reading_of_an_agenda_is_shown_to_its_patient(site, dav):
    await furnish(site)
    address = await make_key(site, "feed")
    async with site.client() as client:
        await client.get(address)
    await dav("REPORT", dav.path("sante"), QUERY.format(""))
    patient = site.patients["patient"]
    kinds = [access.kind for access in await site.queries.accesses(patient)]
    assert kinds.count("calendar_read") == 2


async def test_what_cannot_be_noted_is_not_shown(site, dav):
    await furnish(site)
    address = await make_key(site, "feed")
    site.bridge_down = True
    async with site.client() as client:
        assert (await client.get(address)).status_code == 503
    answer = await dav("REPORT", dav.path("sante"), QUERY.format(""))
    assert answer.status_code == 503


# --- who may read ----------------------------------------------------------------------------


async def test_without_a_good_password_nothing_is_told(site, dav):
    async with site.client() as client:
        for headers in (
            {},
            {"Authorization": "Basic !!"},
            {"Authorization": "Basic " + base64.b64encode(b"x").decode()},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic " + base64.b64encode(f"{dav.login}:wrong".encode()).decode()},
        ):
            answer = await client.request("PROPFIND", "/caldav/", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert answer.content == b""


async def test_a_feed_address_is_no_password_and_a_password_no_address(site, dav):
    address = await make_key(site, "feed")
    secret = address.rpartition("/")[2].removesuffix(".ics")
    async with site.client() as client:
        program = Dav(client, (dav.login, secret))
        assert (await program("PROPFIND", "/caldav/", Depth="0")).status_code == 401
        password = base64.b64decode(dav.headers["Authorization"][6:]).decode().partition(":")[2]
        assert (await client.get(f"/calendrier/{password}.ics")).status_code == 404


async def test_another_patient_s_addresses_are_not_found(site, dav):
    await furnish(site)
    other = await make_key(site, login="other")
    async with site.client() as client:
        program = Dav(client, other)
        for path in (dav.path("sante"), dav.path("personnel", "a.ics"), f"/caldav/{dav.login}/"):
            assert (await program("PROPFIND", path, Depth="0")).status_code == 404
        assert await program.sync("sante") == ({}, (await program.sync("sante"))[1])


async def test_keys_are_bounded(site):
    command = next(
        c.cell_contents
        for c in site.app.state.services.record.__closure__
        if isinstance(c.cell_contents, dict)
    )["calendar_key_make"]
    arguments = {"patient_id": site.patients["patient"], "kind": "device", "actor": "test"}
    for _ in range(MAX_KEYS):
        await command(arguments)
    with pytest.raises(Exception, match="too_many"):
        await command(arguments)


# --- CalDAV ----------------------------------------------------------------------------------


async def test_a_program_finds_the_calendars_from_the_host_alone(site, dav):
    answer = await dav.client.request("PROPFIND", "/.well-known/caldav")
    assert (answer.status_code, answer.headers["location"]) == (301, "/caldav/")
    options = await dav.client.options("/caldav/")
    assert "calendar-access" in options.headers["dav"]
    assert set(options.headers["allow"].split(", ")) == set(METHODS)

    body = '<D:propfind xmlns:D="DAV:"><D:prop><D:current-user-principal/></D:prop></D:propfind>'
    root = etree.fromstring((await dav("PROPFIND", "/caldav/", body, Depth="0")).content)
    principal = root.findtext(f".//{DAV}current-user-principal/{DAV}href")
    body = (
        '<D:propfind xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop>'
        "<C:calendar-home-set/></D:prop></D:propfind>"
    )
    root = etree.fromstring((await dav("PROPFIND", principal, body, Depth="0")).content)
    home = root.findtext(f".//{CAL}calendar-home-set/{DAV}href")
    root = etree.fromstring((await dav("PROPFIND", home, Depth="1")).content)
    calendars = [
        each.findtext(f"{DAV}href")
        for each in root.findall(f"{DAV}response")
        if each.find(f".//{CAL}calendar") is not None
    ]
    assert calendars == [dav.path("sante"), dav.path("personnel")]


@pytest.mark.parametrize(
    ("span", "found"),
    [
        ("", True),
        ('<C:time-range start="20261224T000000Z" end="20261225T000000Z"/>', True),
        ('<C:time-range start="20261224T230000Z"/>', False),
        ('<C:time-range start="20261224T225959Z"/>', True),
        ('<C:time-range end="20261223T230000Z"/>', False),
        ('<C:time-range end="20261223T230001Z"/>', True),
    ],
)
async def test_a_query_gives_what_meets_the_time(site, dav, span, found):
    await furnish(site)
    answer = await dav("REPORT", dav.path("sante"), QUERY.format(span))
    assert answer.status_code == 207
    assert ("BEGIN:VEVENT" in answer.text) is found
    assert "ZZ" not in answer.text


async def test_multiget_gives_what_is_there_and_404_for_the_rest(site, dav):
    assert (await dav.put("a.ics")).status_code == 201
    body = (
        '<C:calendar-multiget xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop>'
        f"<C:calendar-data/></D:prop><D:href>{dav.path('personnel', 'a.ics')}</D:href>"
        "<D:href>/caldav/x/agendas/personnel/a.ics</D:href><D:href>/etc/passwd</D:href>"
        "</C:calendar-multiget>"
    )
    answer = await dav("REPORT", dav.path("personnel"), body)
    assert answer.text.count("BEGIN:VEVENT") == 1
    assert answer.text.count("404 Not Found") == 2


async def test_what_documents_say_is_read_only(site, dav):
    document = await furnish(site)
    told, _ = await dav.sync("sante")
    (name,) = told
    path = dav.path("sante", name)
    body = OBJECT.format(uid="x", title="x", more="")
    for method in ("PUT", "DELETE"):
        answer = await dav(method, path, body, Content_Type="text/calendar")
        assert answer.status_code == 403
        assert "need-privileges" in answer.text
    assert (await dav("GET", path)).status_code == 200
    assert document


async def test_one_s_own_appointments_are_written_with_their_tags(site, dav):
    made = await dav.put("a.ics", If_None_Match="*")
    tag = made.headers["etag"]
    path = dav.path("personnel", "a.ics")
    got = await dav("GET", path)
    assert (made.status_code, got.headers["etag"]) == (201, tag)
    assert got.text == OBJECT.format(uid="u", title="Kiné", more="")
    assert (await dav("GET", path, If_None_Match=tag)).status_code == 304
    assert (await dav.put("a.ics", If_None_Match="*")).status_code == 412
    assert (await dav.put("a.ics", title="B", If_Match='"no"')).status_code == 412
    changed = await dav.put("a.ics", title="B", If_Match=tag)
    assert changed.status_code == 204
    assert changed.headers["etag"] != tag
    assert (await dav("DELETE", path, If_Match=tag)).status_code == 412
    assert (await dav("DELETE", path, If_Match=changed.headers["etag"])).status_code == 204
    assert (await dav("DELETE", path)).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "precondition"),
    [
        pytest.param("not a calendar", 403, "valid-calendar-object-resource", id="nonsense"),
        pytest.param(OBJECT.format(uid="r", title="x", more="RRULE:FREQ=DAILY\r\n"), 403,
                     "max-instances", id="repeats"),
        pytest.param(OBJECT.format(uid="m", title="x", more="").replace("BEGIN:VEVENT", "METHOD:PUBLISH\r\nBEGIN:VEVENT"), 403,
                     "valid-calendar-object-resource", id="a method"),
        pytest.param(OBJECT.format(uid="c", title="\x01", more=""), 403,
                     "valid-calendar-object-resource", id="control"),
        pytest.param(OBJECT.format(uid="taken", title="x", more=""), 409, "no-uid-conflict", id="uid"),
        pytest.param("BEGIN:VCALENDAR" + "x" * 65536, 403, "max-resource-size", id="large"),
    ],
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_by_name(site, dav, body, status, precondition):
    await dav.put("first.ics", uid="taken")
    path = dav.path("personnel", "b.ics")
    answer = await dav("PUT", path, body, Content_Type="text/calendar")
    assert answer.status_code == status
    assert precondition in answer.text
    assert (await dav("GET", path)).status_code == 404


async def test_the_number_of_own_appointments_is_bounded(site, dav):
    patient = site.patients["patient"]

    def fill(connection, count):
        connection.executemany(
            "INSERT INTO own_entry (patient_id, name, uid, ics, title, day, created_at, changed_at)"
            " VALUES (?, ?, ?, x'00', 't', '2026-01-01', 0, 0)",
            [(patient, f"n{n}", f"n{n}") for n in range(count)],
        )

    await site.record.write(fill, MAX_OWN_ENTRIES - 1)
    assert (await dav.put("last.ics", uid="last")).status_code == 201
    assert (await dav.put("over.ics", uid="over")).status_code == 507
    assert (await dav.put("last.ics", uid="last", title="new")).status_code == 204


async def test_synchronising_tells_what_changed_and_what_is_gone(site, dav):
    told, token = await dav.sync("personnel")
    assert told == {}
    await dav.put("a.ics", "a")
    await dav.put("b.ics", "b")
    told, token = await dav.sync("personnel", token)
    assert told == {"a.ics": "200", "b.ics": "200"}
    await dav.put("b.ics", "b", title="new")
    await dav("DELETE", dav.path("personnel", "a.ics"))
    told, last = await dav.sync("personnel", token)
    assert told == {"a.ics": "HTTP/1.1 404 Not Found", "b.ics": "200"}
    assert await dav.sync("personnel", last) == ({}, last)


async def test_a_withdrawn_document_leaves_the_calendar(site, dav):
    document = await furnish(site)
    told, token = await dav.sync("sante")
    assert list(told.values()) == ["200"]

    def hide(connection, key):
        connection.execute(
            "UPDATE document SET visibility = 'invisible_patient' WHERE id = ?", (key,)
        )

    await site.record.write(hide, document)
    told, _ = await dav.sync("sante", token)
    assert list(told.values()) == ["HTTP/1.1 404 Not Found"]


async def test_a_bounded_synchronisation_goes_on_where_it_stopped(site, dav):
    for name in "abcde":
        await dav.put(f"{name}.ics", name)
    seen, token = {}, ""
    for _ in range(3):
        told, token = await dav.sync("personnel", token, limit="2")
        seen |= told
    assert {f"{name}.ics" for name in "abcde"} <= seen.keys()
    assert await dav.sync("personnel", token) == ({}, token)


async def test_a_state_that_is_not_known_asks_for_a_fresh_start(site, dav):
    for token in ("urn:pli:sync:" + "0" * 32, "http://elsewhere.test/1"):
        status, text = await dav.sync("personnel", token)
        assert (status, "valid-sync-token" in text) == (403, True)


@pytest.mark.parametrize(
    ("method", "body", "headers", "status"),
    [
        pytest.param("PROPFIND", "", {"Depth": "infinity"}, 403, id="infinite depth"),
        pytest.param("PROPFIND", "", {}, 403, id="no depth"),
        pytest.param("PROPFIND", "<x", {"Depth": "0"}, 400, id="no XML"),
        pytest.param("PROPFIND", "<!DOCTYPE a><a/>", {"Depth": "0"}, 400, id="doctype"),
        pytest.param("REPORT", '<D:expand-property xmlns:D="DAV:"/>', {}, 403, id="report"),
        pytest.param("REPORT", QUERY.format('<C:prop-filter name="X"/>'), {}, 403, id="filter"),
        pytest.param("MKCALENDAR", "", {}, 405, id="mkcalendar"),
        pytest.param("GET", "", {}, 405, id="collection"),
    ],
)
async def test_what_is_not_answered_is_refused(site, dav, method, body, headers, status):
    named = {key.replace("-", "_"): value for key, value in headers.items()}
    assert (await dav(method, dav.path("personnel"), body, **named)).status_code == status


async def test_no_property_is_changed(site, dav):
    body = (
        '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:displayname>x</D:displayname>'
        "</D:prop></D:set></D:propertyupdate>"
    )
    answer = await dav("PROPPATCH", dav.path("personnel"), body)
    assert (answer.status_code, "403 Forbidden" in answer.text) == (207, True)


# --- in the browser --------------------------------------------------------------------------


async def test_an_appointment_noted_in_the_page_is_in_the_calendar_and_can_be_taken_away(
    site, dav
):
    async with site.signed_in() as client:
        page = await client.get("/agenda")
        answer = await client.post(
            "/agenda/rendez-vous",
            data={"csrf": token_of(page.text), "title": "Dentiste", "day": "2026-12-10",
                  "time": "10:30", "place": "Rue des Lilas"},
        )  # fmt: skip
        assert answer.headers["location"] == "/agenda?note=1"
        page = await client.get("/agenda")
        assert "Dentiste" in page.text
        got = await dav("REPORT", dav.path("personnel"), QUERY.format(""))
        assert "DTSTART:20261210T093000Z" in got.text
        path = re.search(r"/agenda/rendez-vous/\d+/supprimer", page.text)[0]
        await client.post(path, data={"csrf": token_of(page.text)})
        assert "Dentiste" not in (await client.get("/agenda")).text
    async with site.signed_in("other") as client:
        page = await client.get("/agenda")
        answer = await client.post(path, data={"csrf": token_of(page.text)})
        assert answer.status_code == 404


async def test_a_closed_record_s_calendar_takes_nothing_and_lets_go(site, dav):
    await dav.put("a.ics")
    await site.tell("record_close", reason="x")
    answer = await dav.put("b.ics", uid="b")
    assert (answer.status_code, "need-privileges" in answer.text) == (403, True)
    assert (await dav("GET", dav.path("personnel", "b.ics"))).status_code == 404
    assert (await dav("DELETE", dav.path("personnel", "a.ics"))).status_code == 204


async def test_the_agenda_s_page_says_that_the_record_is_closed(site):
    await site.tell("record_close", reason="x")
    said = "Votre dossier est fermé\u00a0: rien ne s&#39;y ajoute."
    async with site.signed_in() as client:
        token = token_of((await client.get("/agenda")).text)
        values = {"csrf": token, "title": "Dentiste", "day": "2026-12-10"}
        answer = await client.post("/agenda/rendez-vous", data=values)
        assert (answer.status_code, said in answer.text) == (422, True)
        answer = await client.post("/agenda/prevention/rappel-45/1", data={"csrf": token})
        assert said in (await client.get(answer.headers["location"])).text
    assert await site.queries.life.own_entries(site.patients["patient"]) == []


@pytest.mark.parametrize(
    "fields", [{"title": " "}, {"day": "demain"}, {"time": "25:00"}, {"day": "2099-01-01"}]
)
async def test_an_appointment_that_says_nothing_is_not_noted(site, fields):
    async with site.signed_in() as client:
        page = await client.get("/agenda")
        values = {"csrf": token_of(page.text), "title": "Dentiste", "day": "2026-12-10"} | fields
        answer = await client.post("/agenda/rendez-vous", data=values)
    assert answer.status_code == 422
    assert f'value="{values["title"]}"' in answer.text
    assert await site.queries.life.own_entries(site.patients["patient"]) == []
