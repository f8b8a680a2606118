"""Mailboxes, device passwords, the webmail's accounts."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from directory.audit_event import AuditEvent
from directory.errors import DatabaseClosedError
from directory.model import MailboxType
from mailserver.store.database import MailStore
from mailserver.store.devices import LAST_USED_STEP, MIN_GIVEN_SECRET, SECRET_BYTES
from mailserver.store.errors import (
    AccountExistsError,
    MailboxExistsError,
    NoSuchMailboxError,
    WeakSecretError,
)
from mailserver.store.logins import FORGOTTEN_AFTER, FREE_FAILURES, LONGEST_WAIT
from mailserver.store.model import Login, NewAccount, NewDevice, NewMailbox, to_micros
from tests.support.mailstore import AT, HASH_KEY, days, interpose, open_practice

SECOND = timedelta(seconds=1)
EVENT = AuditEvent("told", AT, "cli:test", facts={"why": "test"})


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def test_a_mailbox_is_found_by_its_address_in_any_case(practice):
    accounts = practice.store.accounts
    assert await accounts.mailbox("DR@Cab.Test") == practice.doctor
    assert await accounts.mailbox("dr@cab.test") == practice.doctor
    assert await accounts.mailbox("dr@cab.tes") is None
    assert await accounts.mailbox_by_id(practice.doctor.id) == practice.doctor
    assert await accounts.mailbox_by_id(999) is None


async def test_a_closed_mailbox_says_so_to_whoever_asked_before_and_opens_again(practice):
    accounts = practice.store.accounts
    assert not (await accounts.mailbox("dr@cab.test")).closed

    for at in (AT, AT + SECOND):
        await accounts.close_mailbox(practice.doctor.id, at)
        assert (await accounts.mailbox("dr@cab.test")).closed
        assert (await accounts.mailbox_by_id(practice.doctor.id)).closed
    with closing(sqlite3.connect(practice.path)) as connection:
        kept = connection.execute("SELECT closed_at FROM mailbox WHERE closed_at IS NOT NULL")
        assert kept.fetchall() == [(to_micros(AT),)]

    for _ in range(2):
        await accounts.reopen_mailbox(practice.doctor.id)
        assert await accounts.mailbox("dr@cab.test") == practice.doctor
    for refused in (accounts.close_mailbox(999, AT), accounts.reopen_mailbox(999)):
        with pytest.raises(NoSuchMailboxError):
            await refused


async def test_mailboxes_are_listed_by_structure(practice):
    assert await practice.store.accounts.mailboxes("autre") == [practice.elsewhere]
    assert len(await practice.store.accounts.mailboxes()) == 5


@pytest.mark.parametrize("address", ["dr@cab.test", "DR@CAB.TEST"])
async def test_an_address_is_given_once(practice, address):
    new = NewMailbox(address, MailboxType.PER, "autre", "Dr", None, filing=False, at=AT)
    before = practice.rows()
    with pytest.raises(MailboxExistsError):
        await practice.store.accounts.add_mailbox(new)
    assert practice.rows() == before


async def test_the_choice_to_file_is_seen_at_once(practice):
    await practice.store.accounts.mailbox("dr@cab.test")
    await practice.store.accounts.set_filing(practice.doctor.id, filing=False)

    found = await practice.store.accounts.mailbox("dr@cab.test")
    assert found is not None
    assert found.filing is False
    with pytest.raises(NoSuchMailboxError):
        await practice.store.accounts.set_filing(999, filing=True)


async def test_a_store_opened_for_reading_sees_what_the_server_changed(practice):
    opened = await MailStore.open(practice.path, hash_key=HASH_KEY, read_only=True)
    async with opened as reader:
        first = await reader.accounts.mailbox("dr@cab.test")
        await practice.store.accounts.set_filing(practice.doctor.id, filing=False)
        second = await reader.accounts.mailbox("dr@cab.test")

        assert first is not None
        assert second is not None
        assert (first.filing, second.filing) == (True, False)
        with pytest.raises(DatabaseClosedError):
            await reader.accounts.set_filing(practice.doctor.id, filing=True)


async def test_a_made_secret_has_a_hundred_bits_and_is_kept_nowhere(practice):
    accounts = practice.store.accounts
    made = [
        (await accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None))).secret or ""
        for _ in range(20)
    ]

    assert SECRET_BYTES * 8 >= 100
    assert len(set(made)) == 20
    assert all(len(secret.replace("-", "")) == 24 for secret in made)
    kept = repr(practice.rows())
    assert not any(secret in kept or secret.replace("-", "") in kept for secret in made)


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.upper,
        lambda secret: secret.replace("-", ""),
        lambda secret: secret.replace("-", " "),
    ],
)
async def test_a_made_secret_opens_its_mailbox_as_people_type_it(practice, spell):
    accounts = practice.store.accounts
    device = await accounts.add_device(NewDevice(practice.doctor.id, "Téléphone", AT, None))

    assert await accounts.check_device("DR@cab.test", spell(device.secret), AT) == Login(
        practice.doctor
    )
    assert await accounts.check_device("dr2@cab.test", spell(device.secret), AT) is None
    assert await accounts.check_device("rien@cab.test", spell(device.secret), AT) is None


@pytest.mark.parametrize("wrong", ["", "x", "a" * 24, "\ud800", "é" * 300])
async def test_a_wrong_secret_opens_nothing(practice, wrong):
    await practice.store.accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None))
    assert await practice.store.accounts.check_device("dr@cab.test", wrong, AT) is None


@pytest.mark.parametrize(
    ("length", "strong"),
    [(MIN_GIVEN_SECRET, True), (MIN_GIVEN_SECRET - 1, False), (0, False), (200, True)],
)
async def test_a_given_secret_is_long_enough_and_kept_as_it_is(practice, length, strong):
    secret = ("aB-cD eF9" * 40)[:length]
    accounts = practice.store.accounts
    if not strong:
        with pytest.raises(WeakSecretError):
            await accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None), secret)
        return
    await accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None), secret)
    assert await accounts.check_device("dr@cab.test", secret, AT) == Login(practice.doctor)
    assert await accounts.check_device("dr@cab.test", secret.upper(), AT) is None


async def test_a_device_password_ends(practice):
    accounts = practice.store.accounts
    device = await accounts.add_device(NewDevice(practice.doctor.id, "x", AT, AT + days(1)))

    just_before = AT + days(1) - timedelta(microseconds=1)
    assert await accounts.check_device("dr@cab.test", device.secret or "", just_before)
    assert await accounts.check_device("dr@cab.test", device.secret or "", AT + days(1)) is None


async def test_a_revoked_device_password_opens_nothing_and_is_not_listed(practice):
    accounts = practice.store.accounts
    first = await accounts.add_device(NewDevice(practice.doctor.id, "un", AT, None))
    second = await accounts.add_device(NewDevice(practice.doctor.id, "deux", AT, None))

    assert await accounts.revoke_device(first.id, EVENT) is True
    assert await accounts.revoke_device(first.id, EVENT) is False
    assert await accounts.revoke_device(999, EVENT) is False
    assert await accounts.check_device("dr@cab.test", first.secret or "", AT) is None
    assert await accounts.check_device("dr@cab.test", second.secret or "", AT) == Login(
        practice.doctor
    )
    assert [device.name for device in await accounts.devices(practice.doctor.id)] == ["deux"]


async def test_a_device_password_needs_a_mailbox(practice):
    with pytest.raises(NoSuchMailboxError):
        await practice.store.accounts.add_device(NewDevice(999, "x", AT, None))


async def test_many_logins_write_their_last_use_once_an_hour(practice):
    accounts = practice.store.accounts
    device = await accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None))
    counter = interpose(practice.store)
    for at in (AT, AT + SECOND, AT + LAST_USED_STEP - SECOND, AT + LAST_USED_STEP):
        await accounts.check_device("dr@cab.test", device.secret or "", at)

    assert len(counter.statements) == 2
    (listed,) = await accounts.devices(practice.doctor.id)
    assert (listed.last_used_at, listed.secret) == (AT + LAST_USED_STEP, None)


async def test_another_hash_key_opens_nothing(practice):
    device = await practice.store.accounts.add_device(NewDevice(practice.doctor.id, "x", AT, None))
    opened = await MailStore.open(practice.path, hash_key=b"another key" * 3, read_only=True)
    async with opened as other:
        assert await other.accounts.check_device("dr@cab.test", device.secret or "", AT) is None


@pytest.mark.parametrize("octets", [0, 31])
async def test_a_short_hash_key_is_refused(practice, octets):
    with pytest.raises(ValueError, match="hash key"):
        await MailStore.open(practice.path, hash_key=b"k" * octets)


async def account(practice, login="dupont", mailboxes=()):
    return await practice.store.accounts.add_account(
        NewAccount(login, "$argon2", "SECRET", tuple(mailboxes), AT)
    )


async def test_an_account_is_read_back_with_its_mailboxes(practice):
    mailboxes = (practice.doctor.id, practice.patient.id)
    account_id = await practice.store.accounts.add_account(
        NewAccount("Dupont", "$argon2", None, tuple(mailboxes), AT, patient_ref="7")
    )
    found = await practice.store.accounts.account("DUPONT")

    assert found is not None
    assert found == await practice.store.accounts.account_by_id(account_id)
    assert (found.login, found.mailbox_ids, found.patient_ref) == ("dupont", mailboxes, "7")
    assert found.totp_secret is None
    assert await practice.store.accounts.account("durand") is None


async def test_what_is_done_to_a_mailbox_and_its_event_are_one_transaction(practice, monkeypatch):
    accounts, doctor = practice.store.accounts, practice.doctor.id
    await accounts.close_mailbox(doctor, AT)
    before = practice.rows()

    def acts():
        new = NewAccount("dupont", "$argon2", None, (doctor,), AT, event=EVENT)
        return (
            accounts.add_device(NewDevice(doctor, "x", AT, None, event=EVENT)),
            accounts.add_account(new),
            accounts.reopen_mailbox(doctor, EVENT),
        )

    with monkeypatch.context() as patched:
        patched.setattr("directory.trail.append", interrupted)
        for act in acts():
            with pytest.raises(OSError, match="interrupted"):
                await act
    assert practice.rows() == before

    for act in acts():
        await act
    (device,) = await accounts.devices(doctor)
    with closing(sqlite3.connect(practice.path)) as connection:
        found = connection.execute("SELECT kind, facts FROM trail_event").fetchall()
    assert [(kind, json.loads(facts)) for kind, facts in found] == [
        ("told", {"why": "test", "device": device.id}),
        ("told", {"why": "test"}),
        ("told", {"why": "test"}),
    ]


def interrupted(*_arguments):
    raise OSError("interrupted")


async def test_a_login_is_given_once_and_its_mailboxes_exist(practice):
    await account(practice)
    with pytest.raises(AccountExistsError):
        await account(practice, "DUPONT")
    before = practice.rows()
    with pytest.raises(NoSuchMailboxError):
        await account(practice, "durand", (999,))
    assert practice.rows() == before


async def test_a_session_lives_until_its_end_or_until_it_is_closed(practice):
    accounts = practice.store.accounts
    account_id = await account(practice, mailboxes=(practice.doctor.id,))
    await accounts.open_session(account_id, b"a" * 32, AT, AT + days(1))
    await accounts.open_session(account_id, b"b" * 32, AT, AT + days(1))

    found = await accounts.session(b"a" * 32, AT + days(1) - SECOND)
    assert found is not None
    assert found.mailbox_ids == (practice.doctor.id,)
    assert await accounts.session(b"a" * 32, AT + days(1)) is None
    assert await accounts.session(b"c" * 32, AT) is None
    await accounts.close_session(b"a" * 32)
    assert await accounts.session(b"a" * 32, AT) is None
    assert await accounts.session(b"b" * 32, AT) is not None


async def test_a_new_password_closes_every_session(practice):
    accounts = practice.store.accounts
    account_id = await account(practice)
    await accounts.open_session(account_id, b"a" * 32, AT, AT + days(1))
    await accounts.set_password(account_id, "$argon2id$", None)

    assert await accounts.session(b"a" * 32, AT) is None
    found = await accounts.account("dupont")
    assert found is not None
    assert (found.password_hash, found.totp_secret) == ("$argon2id$", None)


async def test_sessions_that_are_over_are_forgotten(practice):
    account_id = await account(practice)
    await practice.store.accounts.open_session(account_id, b"a" * 32, AT, AT + days(1))
    await practice.store.accounts.open_session(account_id, b"b" * 32, AT + days(2), AT + days(3))
    assert practice.count("web_session") == 1


@pytest.mark.parametrize(("counter", "fresh"), [(99, False), (100, False), (101, True)])
async def test_a_one_time_code_counts_once(practice, counter, fresh):
    account_id = await account(practice)
    other = await account(practice, "durand")

    assert await practice.store.accounts.use_totp(account_id, 100) is True
    assert await practice.store.accounts.use_totp(account_id, counter) is fresh
    assert await practice.store.accounts.use_totp(other, counter) is True


async def test_failures_make_a_login_wait_longer_and_longer(practice):
    accounts = practice.store.accounts
    for _ in range(FREE_FAILURES - 1):
        await accounts.note_failure("dupont", AT)
    assert await accounts.login_allowed("Dupont", AT) is True

    for wait in (30, 60, 120, 240, 480, 900, 900):
        await accounts.note_failure("DUPONT", AT)
        assert await accounts.login_allowed("dupont", AT + wait * SECOND - SECOND) is False
        assert await accounts.login_allowed("dupont", AT + wait * SECOND) is True
        assert await accounts.login_allowed("durand", AT) is True
    assert timedelta(seconds=900) == LONGEST_WAIT


async def test_failures_are_forgotten_after_a_good_login_or_an_hour(practice):
    accounts = practice.store.accounts
    for _ in range(FREE_FAILURES):
        await accounts.note_failure("dupont", AT)
        await accounts.note_failure("durand", AT)
    await accounts.forget_failures("dupont")
    assert await accounts.login_allowed("dupont", AT) is True

    await accounts.note_failure("durand", AT + FORGOTTEN_AFTER)
    assert await accounts.login_allowed("durand", AT + FORGOTTEN_AFTER) is True
    assert b"durand" not in repr(practice.rows()["login_failure"]).encode()
