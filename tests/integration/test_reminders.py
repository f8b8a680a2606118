"""Patients who asked for it are reminded of their agenda: worker, memory, relay over TLS.

Source: RULES §7, RULES §8, RULES §14, MSS-FACTS §7.2.
"""

from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import select

from directory.audit_event import AuditEvent
from mailserver.errors import CommandError
from mailserver.notify.worker import ASKED_AGAIN, Notifier, NotifierSettings
from mailserver.reminder_commands import ReminderCommands
from mailserver.store.notify import Choice
from mailserver.store.schema import NOTIFY_REMINDED, TRAIL
from mailserver.webmail.notify_pages import reminded_lines
from record_bridge.reminders import Line
from tests.integration.test_admission_packs import pack_of
from tests.support.capture_peer import OK, Odd
from tests.support.cda import OID_TEST, PDF, CdaSpec
from tests.support.mailsite import AT, CABINET, PATIENT
from tests.support.mailstore import watch_reads
from tests.support.notifying import (
    HEAD,
    OUTSIDE,
    Asking,
    Relaying,
    mailbox_id,
    notifier,
    post,
    receive,
    settle_in,
    subscribe,
    views,
)
from tests.support.webmail import OTHER_PATIENT, Webmail, token_of, webmail

KNOWN = {"ins": PATIENT.partition("@")[0], "oid": OID_TEST, "patient_id": None}
REMINDER = "Votre agenda de santé a un rappel. Connectez-vous pour le lire."
TODAY, TOMORROW, LATER = "2026-11-22", "2026-11-23", "2026-11-24"
"""AT is eleven in the morning of TODAY in France."""
WORDS = "ZZCANARY parlez-en à votre médecin"


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


@pytest.fixture
async def worker(site, relaying):
    """The worker of a site whose patient asked to be reminded."""
    worker = await subscribe(site, relaying)
    await choose(site)
    return worker


async def choose(site: Webmail, address: str = PATIENT, *, reminds: bool = True) -> bool:
    mailbox = await site.mail.mailbox(address)
    event = AuditEvent("notify_reminders", AT, "cli:test", "cabinet", f"mailbox:{mailbox.id}")
    return await site.mail.store.notify.choose(Choice(mailbox.id, reminds, event))


async def plan(site: Webmail, day: str = TOMORROW, name: str = "9", **columns: Any) -> int:
    """Put a line into the patient's agenda, of a document that is no news; give its key."""
    visibility = columns.pop("visibility", "visible")
    spec = CdaSpec(unique_id=f"1.2.250.{name}", pdf=PDF)
    document = await site.file(spec, visibility=visibility)
    await site.mail.store.notify._database.write(_known, (await mailbox_id(site), document))
    return await site.add_agenda(
        document, **{"day": day, "title": "ZZCANARY", "reminder": WORDS} | columns
    )


def _known(connection: Any, value: tuple[int, int]) -> None:
    connection.execute("INSERT INTO notify_known (mailbox_id, document_id) VALUES (?, ?)", value)


def own(relaying: Relaying) -> list[str]:
    """The first lines of what was sent."""
    return [text.partition("\n\n")[0].replace("\r\n", "\n") for text in read(relaying)]


def read(relaying: Relaying) -> list[str]:
    return [text.replace("\r\n", "\n") for text in relaying.texts()]


# --- what is told ----------------------------------------------------------------------------


async def test_the_eve_is_told_once_and_nothing_of_it(site, relaying, worker):
    await plan(site)
    await worker.look()
    for _ in range(3 * 24):
        await worker.look()
        site.clock.pass_(hours=1)

    (text,) = read(relaying)
    assert text.startswith(f"{REMINDER}\n\nhttps://pli.example/\n\nPour ne plus recevoir")
    (taken,) = relaying.peer.taken
    outside = taken.octets.replace(OUTSIDE.encode(), b"")
    for told in (b"CANARY", b"Lilas", b"cabinet", b"chu.test", TOMORROW.encode(), b"23"):
        assert told not in outside.split(b"Date:")[0] + text.encode()


async def test_who_did_not_ask_is_told_nothing(site, relaying):
    worker = await subscribe(site, relaying)
    await plan(site)
    await worker.look()
    assert relaying.peer.taken == []

    await choose(site)
    await worker.look()
    assert own(relaying) == [REMINDER], "asked for: it does not wait for a change of the record"
    await choose(site, reminds=False)
    site.clock.pass_(days=1)
    await plan(site, LATER, "10")
    await worker.look()
    assert len(relaying.peer.taken) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"visibility": "awaiting_release"},
        {"visibility": "invisible_patient"},
        {"status": "confirmed"},
        {"status": "dismissed"},
        {"status": "history", "reminder": ""},
        {"status": "to_schedule", "day": None},
        {"kind": "prescription", "reminder": ""},
        {"day": "2026-11-21"},
        {"day": TODAY, "start_at": 1_000_000 * int((AT - timedelta(hours=1)).timestamp())},
        {"day": LATER},
    ],
    ids=[
        "not released", "hidden from its patient", "done", "declined", "history", "to schedule",
        "as needed", "past", "its hour is over", "not yet",
    ],
)  # fmt: skip
async def test_what_is_not_to_be_told_causes_nothing(site, relaying, worker, columns):
    """Non-interference: with it and without it, not one octet leaves."""
    connections = relaying.peer.connections
    await plan(site, **columns)
    await worker.look()

    assert relaying.peer.connections == connections
    await plan(site, TODAY, "10")
    await worker.look()
    assert own(relaying) == [REMINDER], "and keeps nothing else from being told"


async def _own(site: Webmail) -> None:
    await site.tell("own_entry_add", title="ZZCANARY dentiste", day=TOMORROW)


async def _prescription(site: Webmail) -> None:
    await plan(site, kind="prescription")


async def _prevention(site: Webmail) -> None:
    await site.tell("patient_change", **KNOWN, birth_date="19761123")


async def _pack(site: Webmail) -> None:
    await pack_of(site, due=TOMORROW)


@pytest.mark.parametrize("put", [_own, _prescription, _prevention, _pack])
async def test_every_kind_of_line_is_reminded(site, relaying, worker, put):
    await put(site)
    await worker.look()

    assert own(relaying) == [REMINDER]


async def _own_undone(site: Webmail) -> None:
    made = await site.tell("own_entry_add", title="ZZCANARY", day=TOMORROW)
    await site.tell("own_entry_delete", name=made["name"])


async def _pack_undone(site: Webmail) -> None:
    pack, *_ = await pack_of(site, due=TOMORROW)
    await site.tell("pack_close", id=pack)


async def _pack_in_the_making(site: Webmail) -> None:
    await pack_of(site, due=TOMORROW, send=False)


async def _prevention_done(site: Webmail) -> None:
    await _prevention(site)
    for rule in ("sein", "colorectal"):
        await site.tell("prevention_declare", rule_id=rule, ordinal=1, day=TODAY)


async def _withdrawn(site: Webmail) -> None:
    await plan(site)
    await site.tell("record_withdraw", **KNOWN, document="1.2.250.9", reason="x")


async def _closed(site: Webmail) -> None:
    await plan(site)
    await site.tell("record_close", reason="x")


async def _mailbox_closed(site: Webmail) -> None:
    await plan(site)
    await site.mail.store.accounts.close_mailbox(await mailbox_id(site), AT)


@pytest.mark.parametrize(
    "undo",
    [
        _own_undone, _pack_undone, _pack_in_the_making, _prevention_done, _withdrawn, _closed,
        _mailbox_closed,
    ],
)  # fmt: skip
async def test_what_is_done_or_gone_is_not_reminded(site, relaying, worker, undo):
    await undo(site)
    await worker.look()

    assert relaying.peer.taken == []


async def test_a_structure_without_the_prevention_calendar_reminds_of_none(site):
    await _prevention(site)
    patient, store = await mailbox_id(site), site.mail.store
    shown = await reminded_lines(store, site.queries, frozenset(), patient, AT)
    off = await reminded_lines(store, site.queries, frozenset({"cabinet"}), patient, AT)

    assert any(line.day.isoformat() == TOMORROW for line in shown)
    assert list(off) == []


# --- when ------------------------------------------------------------------------------------


async def test_nobody_is_reminded_before_eight_in_france(site, relaying, worker):
    site.clock.now = datetime(2026, 11, 22, 6, 59, 59, tzinfo=UTC)
    await plan(site)
    await worker.look()
    assert relaying.peer.taken == []
    site.clock.pass_(seconds=1)
    await worker.look()

    assert own(relaying) == [REMINDER], "the answer said when to ask again"


async def test_a_day_has_one_reminder_and_what_came_after_it_has_the_next_day(
    site, relaying, worker
):
    for name in ("9", "10", "11"):
        await plan(site, name=name)
    await worker.look()
    await plan(site, name="12")
    site.clock.pass_(hours=12)
    await worker.look()
    assert own(relaying) == [REMINDER], "four lines, one mail"

    site.clock.now = datetime(2026, 11, 23, 7, tzinfo=UTC)
    await worker.look()
    site.clock.pass_(hours=10)
    await worker.look()
    assert own(relaying) == [REMINDER] * 2


async def test_what_is_done_meanwhile_is_not_told(site, relaying, worker):
    entry = await plan(site)
    await notifier(site, relaying, port=1).look()
    await site.tell("agenda_decide", entry_id=entry, decision="confirmed")
    site.clock.pass_(hours=1)
    await worker.look()

    assert relaying.peer.taken == []
    assert await site.mail.store.notify.waiting() == 1, "its failure is over with the next mail"


async def test_news_and_a_reminder_are_one_mail(site, relaying, worker):
    await plan(site)
    await receive(site)
    await worker.look()

    (told,) = own(relaying)
    assert told == (
        "Vous avez un nouveau message dans votre messagerie de santé. Connectez-vous pour le lire."
        f"\n{REMINDER}"
    )


async def test_news_told_a_moment_ago_do_not_keep_a_reminder_back_nor_it_them(
    site, relaying, worker
):
    await receive(site)
    await worker.look()
    await plan(site)
    await receive(site, 2)
    await worker.look()
    assert own(relaying)[1:] == [REMINDER], "the second message waits for its hour"

    site.clock.pass_(hours=1)
    await worker.look()
    assert own(relaying)[2:] == [own(relaying)[0]]


# --- what is remembered ----------------------------------------------------------------------


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(site, relaying, worker):
    await plan(site)
    await worker.look()
    await notifier(site, relaying).look()
    assert own(relaying) == [REMINDER]

    await plan(site, LATER, "10")
    site.clock.pass_(days=1)
    await notifier(site, relaying).look()
    assert own(relaying) == [REMINDER] * 2


async def test_a_reminder_that_is_sent_once_more_is_the_same_message(site, relaying, worker):
    await plan(site)
    relaying.peer.dot = lambda _: Odd.TAKE_AND_DROP
    await worker.look()
    relaying.peer.dot = lambda _: OK
    site.clock.pass_(minutes=1)
    await notifier(site, relaying).look()
    await plan(site, LATER, "10")
    site.clock.pass_(days=1)
    await notifier(site, relaying).look()

    first, again, other = (taken.message_id for taken in relaying.peer.taken)
    assert first == again != other


async def test_a_refused_address_is_not_written_to_again_of_the_same(site, relaying, worker):
    await plan(site)
    relaying.peer.rcpt = lambda _: "550 5.1.1 ZZCANARY"
    await worker.look()
    relaying.peer.rcpt = lambda _: OK
    site.clock.pass_(hours=7)
    await worker.look()

    assert relaying.peer.taken == []
    kept = await site.mail.store.notify.find(await mailbox_id(site))
    assert kept is not None
    assert kept.failed_at == AT + timedelta(seconds=30)


async def test_what_is_remembered_leaves_with_its_day_and_with_the_address(site, relaying, worker):
    store = site.mail.store.notify
    for day, name in ((TODAY, "9"), (TOMORROW, "10")):
        await plan(site, day, name)
    await worker.look()
    assert await _days(site) == [TODAY, TOMORROW]
    await store.forget(site.clock() + timedelta(days=1))
    assert await _days(site) == [TODAY, TOMORROW]
    await store.forget(site.clock() + timedelta(days=2))
    assert await _days(site) == [TOMORROW]

    event = AuditEvent("notify_withdrawn", AT, "cli:test")
    assert await store.withdraw(await mailbox_id(site), event)
    assert await _days(site) == []
    again = await subscribe(site, relaying)
    await plan(site, TOMORROW, "11")
    await again.look()
    assert relaying.peer.taken == [], "who comes back has not asked for reminders"


async def _days(site: Webmail) -> list[str]:
    rows = await site.mail.store.notify._database.all(
        select(NOTIFY_REMINDED.c.day).order_by(NOTIFY_REMINDED.c.day)
    )
    return [row[0] for row in rows]


async def test_reminders_need_a_confirmed_address(site):
    assert not await choose(site)


async def test_nobody_is_reminded_of_another_s_agenda(site, relaying, worker):
    """Like news: a representative is told of their own mailbox only (RULES §14)."""
    parent = str(site.patients["patient"])
    other = {"ins": OTHER_PATIENT.partition("@")[0], "oid": OID_TEST, "patient_id": None}
    await site.tell("patient_change", "other", **other, birth_date="20140512")
    await site.tell("right_give", "other", kind="representative", holder=parent)
    await site.tell("own_entry_add", "other", title="ZZCANARY", day=TOMORROW)
    await worker.look()

    assert relaying.peer.taken == []


# --- choosing --------------------------------------------------------------------------------


async def test_the_page_lets_its_patient_choose_and_says_what_is_chosen(site, relaying):
    worker = await subscribe(site, relaying)
    await plan(site)
    async with site.signed_in() as client:
        assert 'href="/prevenir"' in (await client.get("/agenda")).text
        page = (await client.get("/prevenir")).text
        assert "Vous pouvez aussi recevoir un courriel la veille" in page
        assert await post(client, "/prevenir/rappels", rappels="oui") == "rappels"
        page = (await client.get("/prevenir?dit=rappels")).text
        assert 'role="status">C\'est noté' in unescape(page)
        assert "Vous recevez un courriel la veille" in page
        await worker.look()
        assert own(relaying) == [REMINDER]
        assert await post(client, "/prevenir/rappels", rappels="non") == "sans-rappel"
        assert await post(client, "/prevenir/rappels", rappels="non") == "sans-rappel"
        assert "Vous pouvez aussi" in (await client.get("/prevenir")).text
    kinds = [row[0] for row in await site.mail.store.notify._database.all(_choices())]
    assert kinds == ["reminders_asked", "reminders_stopped"], "what changes nothing is no event"


def _choices() -> Any:
    event = TRAIL.event.c
    return select(event.kind).where(event.kind.like("reminders_%")).order_by(event.event_id)


async def test_reminders_are_offered_with_a_confirmed_address_only(site, relaying):
    async with site.signed_in() as client:
        assert await post(client, "/prevenir/rappels", rappels="oui") == "rien"
        assert "Rappels de mon agenda" not in (await client.get("/prevenir")).text
        await post(client, "/prevenir", address=OUTSIDE)
        assert "Rappels de mon agenda" not in (await client.get("/prevenir")).text


async def test_a_professional_has_no_agenda_to_be_reminded_of(site, relaying):
    await subscribe(site, relaying, "doctor")
    async with site.signed_in("doctor") as client:
        page = await client.get("/prevenir")
        data = {"csrf": token_of(page.text), "rappels": "oui"}
        assert "rappel" not in page.text.lower()
        assert (await client.post("/prevenir/rappels", data=data)).status_code == 404


async def test_the_command_says_and_chooses_and_tells_no_address(site, relaying):
    commands = ReminderCommands(site.mail.store, lambda _: CABINET, site.clock)

    async def told(*, reminds: bool | None = None) -> dict[str, Any]:
        arguments = {"ins": KNOWN["ins"], "reminds": reminds, "actor": "cli:test"}
        answer = await commands.table()["agenda_reminders"](arguments)
        assert OUTSIDE not in str(answer)
        return answer

    none = {"confirmed": False, "reminders": False, "last": None}
    assert none.items() <= (await told()).items()
    with pytest.raises(CommandError, match="confirmed no address"):
        await told(reminds=True)
    worker = await subscribe(site, relaying)
    assert (await told())["confirmed"]
    assert (await told(reminds=True))["reminders"]
    await plan(site)
    await worker.look()
    assert (await told())["last"] == TODAY
    assert not (await told(reminds=False))["reminders"]
    with pytest.raises(CommandError, match="No such patient"):
        await commands.agenda_reminders({"ins": "x", "actor": "cli:test"})


# --- what a round costs ----------------------------------------------------------------------


@pytest.mark.parametrize("many", [3, 40])
async def test_a_round_without_anything_due_takes_three_statements(site, relaying, worker, many):
    await plan(site, "2026-12-24")
    for mailbox in await settle_in(site, many):
        event = AuditEvent("notify_reminders", AT, "cli:test")
        assert await site.mail.store.notify.choose(Choice(mailbox, reminds=True, event=event))
    site.clock.pass_(hours=1)
    asking = Asking(site, relaying)
    assert len(await asking.look()) == many + 1
    mail, record = watch_reads(site.mail.store), watch_reads(site.queries)

    assert await asking.look() == []

    assert (len(mail), len(record)) == (2, 1)


async def test_a_person_is_asked_about_when_something_is_due_and_not_before(site, relaying):
    await subscribe(site, relaying)
    await choose(site)
    start, eight = site.clock(), datetime(2026, 11, 23, 7, tzinfo=UTC)
    asked: list[datetime] = []
    own_views = views(site)

    async def agenda(mailbox: int, at: datetime) -> list[Line]:
        asked.append(at)
        return list(await own_views.agenda(mailbox, at))

    asking = type(own_views)(own_views.marks, own_views.shown, agenda)
    worker = Notifier(
        site.mail.store,
        NotifierSettings(relaying.relay(), HEAD, timedelta(hours=1)),
        views=asking,
        clock=site.clock,
    )
    await plan(site, LATER)
    while site.clock() < eight + timedelta(hours=1):
        await worker.look()
        site.clock.pass_(seconds=30)

    assert asked == [*(start + n * ASKED_AGAIN for n in range(4)), eight]
    assert own(relaying) == [REMINDER]


async def test_one_person_costs_a_few_statements(site, relaying, worker):
    for number in range(40):
        await plan(site, "2026-12-24", str(100 + number))
    await worker.look()
    site.clock.pass_(hours=6)
    record = watch_reads(site.queries)
    await worker.look()

    assert len(record) <= 18
