"""People are told outside the trust space that something is new: pages, worker, relay over TLS.

The relay is a small SMTP server of the tests; everything else is the site's own.

Source: RULES §7, RULES §14, RFC 3207 §4.
"""

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.issue import PracticePki
from mailserver.health import State, check_notify
from mailserver.notify.texts import ASKS, TRIES
from mailserver.notify.worker import ASKED_AGAIN
from mailserver.settings import NotifySettings, NotifyTls, Ports, Settings, Site
from mailserver.store.model import Flag, FlagChange, FlagMode
from tests.support.capture_peer import OFFER, CapturePeer, Odd, Taken
from tests.support.cda import PDF, CdaSpec
from tests.support.mailsite import AT, DOCTOR, PATIENT
from tests.support.mailstore import watch_reads
from tests.support.notifying import (
    HEAD,
    OUTSIDE,
    Asking,
    Relaying,
    code_in,
    mailbox_id,
    notifier,
    post,
    receive,
    settle_in,
    subscribe,
)
from tests.support.webmail import webmail


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


# --- registering -----------------------------------------------------------------------------


async def test_an_address_is_used_once_its_code_was_typed(site, relaying):
    worker = notifier(site, relaying)
    async with site.signed_in() as client:
        assert await post(client, "/prevenir", address=OUTSIDE) == "envoye"
        await worker.look()
        await receive(site)
        site.clock.pass_(hours=2)
        await worker.look()
        assert len(relaying.peer.taken) == 1, "the code, and nothing before it is typed"
        assert relaying.peer.taken[0].recipients == (f"RCPT TO:<{OUTSIDE}>",)
    async with site.signed_in() as client:
        assert await post(client, "/prevenir/confirmer", code="AAAAA AAAAA") == "code"
        code = code_in(relaying.texts()[0])
        assert await post(client, "/prevenir/confirmer", code=code.lower()) == "confirme"
        assert await post(client, "/prevenir/confirmer", code=code) == "code", "it serves once"
        assert "confirmée" in (await client.get("/prevenir")).text
    await worker.look()
    assert len(relaying.peer.taken) == 1, "what was there before is no news"


@pytest.mark.parametrize(("hours", "said"), [(23.9, "confirme"), (24, "code"), (100, "code")])
async def test_a_code_is_good_for_a_day(site, relaying, hours, said):
    async with site.signed_in() as client:
        await post(client, "/prevenir", address=OUTSIDE)
    await notifier(site, relaying).look()
    site.clock.pass_(hours=hours, seconds=-30)  # signing in takes half a minute of this clock
    async with site.signed_in() as client:
        assert await post(client, "/prevenir/confirmer", code=code_in(relaying.texts()[0])) == said
    await site.mail.store.notify.forget(site.clock())
    kept = await site.mail.store.notify.find(await mailbox_id(site))
    assert (kept is None) == (hours > 24)


@pytest.mark.parametrize(("wrong", "said"), [(TRIES - 1, "confirme"), (TRIES, "code")])
async def test_a_code_is_not_guessed(site, relaying, wrong, said):
    async with site.signed_in() as client:
        await post(client, "/prevenir", address=OUTSIDE)
        await notifier(site, relaying).look()
        for _ in range(wrong):
            assert await post(client, "/prevenir/confirmer", code="AAAAA AAAAA") == "code"
        assert await post(client, "/prevenir/confirmer", code=code_in(relaying.texts()[0])) == said


async def test_only_the_last_code_of_the_last_address_is_good(site, relaying):
    worker = notifier(site, relaying)
    async with site.signed_in() as client:
        for address in ("un@ailleurs.example", "deux@ailleurs.example"):
            await post(client, "/prevenir", address=address)
            await worker.look()
        first, second = map(code_in, relaying.texts())
        assert await post(client, "/prevenir/confirmer", code=first) == "code"
        assert await post(client, "/prevenir/confirmer", code=second) == "confirme"
    kept = await site.mail.store.notify.find(await mailbox_id(site))
    assert kept is not None
    assert kept.address == "deux@ailleurs.example"


async def test_nobody_has_more_than_five_codes_sent_in_a_day(site):
    async with site.signed_in() as client:
        for _ in range(ASKS):
            assert await post(client, "/prevenir", address=OUTSIDE) == "envoye"
            await post(client, "/prevenir/arreter")
        assert await post(client, "/prevenir", address=OUTSIDE) == "trop"
    site.clock.pass_(days=1)
    async with site.signed_in() as client:
        assert await post(client, "/prevenir", address=OUTSIDE) == "envoye"


@pytest.mark.parametrize("address", [PATIENT, DOCTOR, "a@sous.cabinet.mssante.test", "a", ""])
async def test_no_address_of_the_trust_space_is_taken(site, address):
    async with site.signed_in() as client:
        assert await post(client, "/prevenir", address=address) == "adresse"

    assert await site.mail.store.notify.find(await mailbox_id(site)) is None


async def test_a_withdrawn_address_is_erased_and_told_nothing(site, relaying):
    worker = await subscribe(site, relaying)
    async with site.signed_in() as client:
        assert OUTSIDE in (await client.get("/prevenir")).text
        assert await post(client, "/prevenir/arreter") == "arrete"
        assert OUTSIDE not in (await client.get("/prevenir")).text
    await receive(site)
    await worker.look()

    assert relaying.peer.taken == []
    trail = await site.mail.store.notify._database.all(_events())
    assert [row[0] for row in trail] == ["notify_asked", "notify_confirmed", "notify_withdrawn"]
    assert OUTSIDE not in repr(trail)
    assert await site.mail.store.notify.find(await mailbox_id(site)) is None


def _events() -> Any:
    from sqlalchemy import select

    from mailserver.store.schema import TRAIL

    event = TRAIL.event.c
    return (
        select(event.kind, event.facts, event.subject, event.actor)
        .where(event.kind.like("notify_%"))
        .order_by(event.event_id)
    )


# --- telling ---------------------------------------------------------------------------------


async def test_a_new_message_is_told_once_with_nothing_of_it(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site)
    await worker.look()
    await worker.look()

    (text,) = relaying.texts()
    assert text.startswith(
        "Vous avez un nouveau message dans votre messagerie de santé. Connectez-vous pour le lire."
    )
    (taken,) = relaying.peer.taken
    assert taken.mail.startswith("MAIL FROM:<prevenir@operateur.example>")
    for told in (b"CANARY", b"Martin", b"Lilas", b"cabinet", b"chu.test", PATIENT.encode()):
        outside = taken.octets.replace(OUTSIDE.encode(), b"")
        assert told not in outside
        assert told.decode() not in text


async def test_what_comes_within_the_hour_is_summed_up_after_it(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site, 1)
    await worker.look()
    for number in (2, 3):
        await receive(site, number)
    await site.file(CdaSpec(pdf=PDF, title="ZZCANARY"))
    site.clock.pass_(hours=1, seconds=-1)
    await worker.look()
    assert len(relaying.peer.taken) == 1, "one second before the hour is over"
    site.clock.pass_(seconds=1)
    await worker.look()

    assert relaying.texts()[1].startswith(
        "Vous avez de nouveaux messages dans votre messagerie de santé et un nouveau document"
        " dans votre dossier de santé."
    )
    assert len(relaying.peer.taken) == 2


async def test_a_message_that_was_read_meanwhile_is_no_news(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site)
    async with site.signed_in() as client:
        mailbox = await mailbox_id(site)
        inbox = await site.mail.store.folders.get(mailbox, "INBOX")
        assert (await client.get(f"/messagerie/{mailbox}/{inbox.id}/1")).status_code == 200
    await worker.look()

    assert relaying.peer.taken == []


async def test_a_professional_is_told_of_messages(site, relaying):
    worker = await subscribe(site, relaying, "doctor")
    await receive(site, address=DOCTOR)
    await worker.look()

    assert len(relaying.texts()) == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"visibility": "awaiting_release"},
        {"visibility": "invisible_patient"},
        {"visibility": "awaiting_release invisible_patient"},
        {"status": "withdrawn"},
    ],
    ids=str,
)
async def test_a_hidden_document_causes_nothing_and_says_nothing(site, relaying, columns):
    """Non-interference: with it and without it, not one octet leaves."""
    worker = await subscribe(site, relaying)
    connections = relaying.peer.connections
    await site.file(CdaSpec(unique_id="1.2.250.9", pdf=PDF, title="ZZCANARY"), **columns)
    await worker.look()
    assert relaying.peer.connections == connections

    await site.file(CdaSpec(unique_id="1.2.250.10", pdf=PDF))
    await worker.look()
    assert relaying.texts()[0].startswith("Vous avez un nouveau document dans"), "one, not two"


async def test_a_released_document_is_news_when_it_is_released(site, relaying):
    worker = await subscribe(site, relaying)
    document = await site.file(CdaSpec(pdf=PDF), visibility="awaiting_release")
    await worker.look()
    assert relaying.peer.taken == []
    await site.record.write(_release, document)
    await worker.look()

    assert len(relaying.texts()) == 1


def _release(connection: Any, document: int) -> None:
    connection.execute("UPDATE document SET visibility = 'visible' WHERE id = ?", (document,))


async def test_what_is_hidden_while_the_relay_is_away_is_not_told(site, relaying):
    worker = await subscribe(site, relaying)
    document = await site.file(CdaSpec(pdf=PDF))
    await notifier(site, relaying, port=1).look()
    await site.record.write(_hide, document)
    site.clock.pass_(hours=1)
    await worker.look()

    assert relaying.peer.taken == []


def _hide(connection: Any, document: int) -> None:
    connection.execute(
        "UPDATE document SET visibility = 'invisible_patient' WHERE id = ?", (document,)
    )


async def test_a_held_message_is_no_news(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site)
    await site.mail.store.notify._database.write(_hold, await mailbox_id(site))
    await worker.look()

    assert relaying.peer.taken == []


def _hold(connection: Any, mailbox: int) -> None:
    connection.execute(
        "UPDATE entry SET uid = NULL WHERE folder_id IN"
        " (SELECT id FROM folder WHERE mailbox_id = ?)",
        (mailbox,),
    )


# --- what a round costs ----------------------------------------------------------------------


async def test_a_round_asks_only_about_those_where_something_changed(site, relaying):
    await subscribe(site, relaying)
    patient, others = await mailbox_id(site), await settle_in(site, 12)
    asking = Asking(site, relaying)
    assert await asking.look() == [patient, *others], "nothing is known of them yet"
    assert await asking.look() == []

    await receive(site)
    assert await asking.look() == [patient]
    document = await site.file(CdaSpec(pdf=PDF), visibility="awaiting_release")
    assert await asking.look() == [patient]
    await site.record.write(_release, document)
    assert await asking.look() == [patient]
    assert [text.partition(" dans ")[0] for text in relaying.texts()] == [
        "Vous avez un nouveau message", "Vous avez un nouveau document",
    ]  # fmt: skip
    assert await asking.look() == []
    site.clock.now += ASKED_AGAIN - timedelta(seconds=1)
    assert await asking.look() == []
    site.clock.pass_(seconds=1)
    assert await asking.look() == [patient, *others], "a mark does not know of time"


@pytest.mark.parametrize("change", ["flag", "moved", "merged"])
async def test_each_way_to_news_changes_a_mark(site, relaying, change):
    await subscribe(site, relaying)
    await receive(site)
    document = await site.file(CdaSpec(pdf=PDF), login="other")
    inbox = await site.mail.store.folders.get(await mailbox_id(site), "INBOX")
    asking = Asking(site, relaying)
    assert await asking.look() != []
    assert await asking.look() == []

    if change == "flag":
        flags = FlagChange(inbox.id, (1,), FlagMode.ADD, Flag.SEEN, frozenset())
        await site.mail.store.messages.store_flags(flags)
    elif change == "moved":
        await site.record.write(_give, (document, site.patients["patient"]))
    else:
        await site.record.write(_point, (site.patients["patient"], site.patients["other"]))

    assert await asking.look() == [await mailbox_id(site)]


def _give(connection: Any, value: tuple[int, int]) -> None:
    connection.execute("UPDATE document SET patient_id = ?2 WHERE id = ?1", value)


def _point(connection: Any, value: tuple[int, int]) -> None:
    connection.execute("UPDATE patient SET merged_into = ?2 WHERE id = ?1", value)


@pytest.mark.parametrize("many", [3, 40])
async def test_a_round_without_news_takes_three_statements_whatever_the_number(
    site, relaying, many
):
    await settle_in(site, many)
    asking = Asking(site, relaying)
    await asking.look()
    mail, record = watch_reads(site.mail.store), watch_reads(site.queries)

    assert await asking.look() == []

    assert (len(mail), len(record)) == (2, 1)


async def test_a_round_asks_about_so_many_and_the_next_goes_on(site, relaying, monkeypatch):
    monkeypatch.setattr("mailserver.notify.worker.AT_A_TIME", 3)
    everyone = await settle_in(site, 7)
    asking = Asking(site, relaying)

    rounds = [await asking.look() for _ in range(4)]

    assert rounds == [everyone[:3], everyone[3:6], everyone[6:], []]


async def test_one_that_could_not_be_told_is_asked_about_again(site, relaying):
    await subscribe(site, relaying)
    await receive(site)
    patient = await mailbox_id(site)
    relaying.peer.dot = lambda _: Odd.DROP
    asking = Asking(site, relaying)
    assert await asking.look() == [patient]
    site.clock.pass_(hours=1)
    assert await asking.look() == [patient]


# --- the relay fails -------------------------------------------------------------------------


async def test_an_absent_relay_is_tried_later_and_mail_still_comes(site, certificates):
    relaying = Relaying(certificates)
    async with relaying.listening():
        worker = await subscribe(site, relaying)
    await receive(site)
    away = notifier(site, relaying)
    await away.look()

    assert await site.mail.store.notify.waiting() == 1
    await receive(site, 2)
    assert len(await site.mail.inbox(PATIENT)) == 2
    site.clock.pass_(seconds=59)
    async with relaying.listening():
        await worker.look()
        assert relaying.peer.taken == []
        site.clock.pass_(seconds=1)
        await notifier(site, relaying).look()
        assert relaying.texts()[0].startswith("Vous avez de nouveaux messages")
    assert await site.mail.store.notify.waiting() == 0


async def test_what_cannot_be_sent_for_a_day_is_given_up(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site)
    away = notifier(site, relaying, port=1)
    for _ in range(26):
        await away.look()
        site.clock.pass_(hours=1)
    await worker.look()

    assert relaying.peer.taken == []
    kept = await site.mail.store.notify.find(await mailbox_id(site))
    assert kept is not None
    assert kept.failed_at == AT + timedelta(hours=24, seconds=30)
    async with site.signed_in() as client:
        assert "pas pu être envoyé" in (await client.get("/prevenir")).text
    await receive(site, 2)
    await worker.look()
    assert relaying.texts()[0].startswith("Vous avez un nouveau message"), "it is used again"


@pytest.mark.parametrize(
    ("reply", "waiting"),
    [("550 5.1.1 ZZCANARY", 0), ("450 4.2.1 ZZCANARY", 1), ("421 4.3.2 ZZCANARY", 1)],
)
async def test_a_refused_recipient_is_given_up_and_a_busy_one_is_not(
    site, relaying, reply, waiting
):
    worker = await subscribe(site, relaying)
    await receive(site)
    relaying.peer.rcpt = lambda _: reply
    await worker.look()

    assert await site.mail.store.notify.waiting() == waiting
    kept = await site.mail.store.notify.find(await mailbox_id(site))
    assert kept is not None
    assert (kept.failed_at is not None) == (waiting == 0)


async def test_one_refusal_keeps_nobody_else_from_being_told(site, relaying):
    for login in ("patient", "other"):
        worker = await subscribe(site, relaying, login)
    await receive(site)
    await receive(site, 2, "172067599102348@patient.mssante.test")
    answers = iter(["450 4.2.1 later"])
    relaying.peer.rcpt = lambda _: next(answers, "250 ok")
    await worker.look()

    assert len(relaying.peer.taken) == 1
    assert await site.mail.store.notify.waiting() == 1


async def test_a_crash_after_the_relay_took_it_tells_again_rather_than_never(site, relaying):
    worker = await subscribe(site, relaying)
    await receive(site)
    relaying.peer.dot = lambda _: Odd.TAKE_AND_DROP
    await worker.look()
    relaying.peer.dot = _takes
    site.clock.pass_(minutes=1)
    await notifier(site, relaying).look()

    assert len(relaying.peer.taken) == 2


def _takes(_: Taken) -> str:
    return "250 ok"


async def test_a_code_that_could_not_be_sent_is_sent_when_the_relay_is_back(site, relaying):
    async with site.signed_in() as client:
        await post(client, "/prevenir", address=OUTSIDE)
    await notifier(site, relaying, port=1).look()
    site.clock.pass_(minutes=1)
    await notifier(site, relaying).look()
    async with site.signed_in() as client:
        code = code_in(relaying.texts()[0])
        assert await post(client, "/prevenir/confirmer", code=code) == "confirme"


# --- TLS, login, pli check -------------------------------------------------------------------


async def test_nothing_is_said_to_a_relay_that_our_authority_does_not_vouch_for(
    site, relaying, tmp_path
):
    at = datetime.now(UTC)
    PracticePki.create(at, "AUTRE").write(tmp_path / "pki", at)
    worker = notifier(site, relaying, authority=tmp_path / "pki" / "root.pem")
    async with site.signed_in() as client:
        await post(client, "/prevenir", address=OUTSIDE)
    await worker.look()

    assert relaying.peer.taken == []
    assert list(relaying.peer.commands) == ["EHLO pli.example", "STARTTLS"]


async def test_a_relay_without_starttls_is_told_no_address(site, certificates):
    relaying = Relaying(certificates, CapturePeer(implicit_tls=True))
    async with relaying.listening():
        async with site.signed_in() as client:
            await post(client, "/prevenir", address=OUTSIDE)
        await notifier(site, relaying, implicit_tls=False).look()

    assert relaying.peer.taken == []


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
async def test_a_relay_takes_both_ways_of_tls_with_a_login(site, certificates, implicit):
    peer = CapturePeer(implicit_tls=implicit, offer=(*OFFER, "AUTH PLAIN"))
    relaying = Relaying(certificates, peer)
    async with relaying.listening():
        async with site.signed_in() as client:
            await post(client, "/prevenir", address=OUTSIDE)
        await notifier(site, relaying, login=("pli", "secret")).look()

    assert len(peer.taken) == 1
    assert [each[:10] for each in peer.commands if each.startswith("AUTH")] == ["AUTH PLAIN"]


def settings_for(relaying: Relaying, **other: Any) -> Settings:
    values: dict[str, Any] = {
        "host": "localhost", "port": relaying.port, "sender": HEAD.sender,
        "authority": str(relaying.folder / "root.pem"), "tls": NotifyTls.STARTTLS,
    }  # fmt: skip
    return Settings(ports=Ports.from_base(0), notify=NotifySettings(**values | other))


async def test_pli_check_says_whether_the_relay_takes_us(relaying, tmp_path):
    site = Site(tmp_path)
    site.secrets.mkdir()
    off = await check_notify(site, Settings(ports=Ports.from_base(0)))
    good = await check_notify(site, settings_for(relaying))
    away = await check_notify(site, settings_for(relaying, port=1))
    no_password = await check_notify(site, settings_for(relaying, login="pli"))
    site.notify_password.write_text("secret\n")
    no_login = await check_notify(site, settings_for(relaying, login="pli"))
    relaying.peer.offer = (*OFFER, "AUTH PLAIN")
    login = await check_notify(site, settings_for(relaying, login="pli"))

    assert [each.state for each in (off, good, away, no_password, no_login, login)] == [
        State.OK, State.OK, State.PROBLEM, State.PROBLEM, State.PROBLEM, State.OK,
    ]  # fmt: skip
    assert "off" in off.text
    assert "notify.password" in no_password.text
    assert relaying.peer.taken == []


async def test_a_site_without_a_relay_has_no_such_page(tmp_path):
    async with webmail(tmp_path) as site:
        services = site.app.state.services
        object.__setattr__(services.settings, "notifies", False)
        async with site.signed_in() as client:
            assert "/prevenir" not in (await client.get("/accueil")).text
            assert (await client.get("/prevenir")).status_code == 404


def test_the_relay_speaks_no_old_tls(certificates):
    context = Relaying(certificates).relay()._tls()

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
