"""The process with the seals' keys signs what is queued and nothing else (RULES §12)."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certs.keystore import KeyStore
from mailserver.delivery import dispatch
from mailserver.delivery.signing import NoSealError
from mailserver.delivery.submission import SubmissionMessage, Submissions, Submitted
from mailserver.errors import CommandError
from mailserver.seal_desk import FRESH_FOR, SealDesk
from mailserver.store.seal_requests import SealRequest
from tests.support.capture_peer import CapturePeer, capture
from tests.support.mail_site import BOB, DR, A, B, MailSite, message
from tests.support.outbound import peer_tls, worker

DIGEST = bytes(range(32))


def desk(site: MailSite) -> SealDesk:
    return SealDesk(site.store, site.directory, KeyStore(site.world.root / "pki"), site.now)


async def queued(site: MailSite, **changes: object) -> int:
    request = SealRequest(DIGEST, site.mailboxes[DR].id, site.now())
    return await site.store.seal_requests.add(replace(request, **changes))


async def test_what_is_queued_is_signed(site: MailSite) -> None:
    answer = await desk(site).sign({"id": await queued(site), "sha256": DIGEST.hex()})

    assert re.fullmatch("[0-9A-F]+", answer["serial"])
    assert len(answer["signature"]) > 500


@pytest.mark.parametrize(
    "arguments",
    [
        {"id": 99, "sha256": DIGEST.hex()},
        {"id": 1, "sha256": bytes(32).hex()},
        {"id": 1, "sha256": DIGEST.hex()[:-2]},
        {"id": 1, "sha256": ""},
        {"id": 1, "sha256": "zz"},
        {"id": "1", "sha256": DIGEST.hex()},
        {"id": 1},
        {"sha256": DIGEST.hex()},
        {},
    ],
)
async def test_anything_else_is_refused(site: MailSite, arguments: dict[str, object]) -> None:
    await queued(site)

    with pytest.raises(CommandError) as caught:
        await desk(site).sign(arguments)
    assert caught.value.code == "not_queued"


@pytest.mark.parametrize(
    ("age", "signed"),
    [
        (timedelta(), True),
        (FRESH_FOR - timedelta(seconds=5), True),
        (FRESH_FOR, False),
        (timedelta(days=30), False),
        (-timedelta(minutes=2), False),
    ],
)
async def test_a_request_is_good_for_ten_minutes(
    site: MailSite,
    age: timedelta,
    signed: bool,  # noqa: FBT001
) -> None:
    number = await queued(site, asked_at=site.now() - age)
    arguments = {"id": number, "sha256": DIGEST.hex()}

    if signed:
        await desk(site).sign(arguments)
    else:
        with pytest.raises(CommandError):
            await desk(site).sign(arguments)


async def test_each_signature_is_in_the_trail_with_its_message(site: MailSite) -> None:
    sent = await submitted(site, site.services.submissions, BOB)

    (event,) = [
        each.event
        for each in await site.store.audit.events(subject=f"mailbox:{site.mailboxes[DR].id}")
        if each.event.kind == "message_sealed"
    ]
    assert event.actor == "seal"
    assert set(event.facts) == {"request", "serial"}
    assert sent.new


async def submitted(site: MailSite, submissions: Submissions, *to: str) -> Submitted:
    outcome = await submissions.submit(
        SubmissionMessage(message(DR, to[0]), DR, to, site.mailboxes[DR], site.now())
    )
    assert isinstance(outcome, Submitted)
    return outcome


async def test_a_destination_may_get_its_mail_unsigned(site: MailSite) -> None:
    one, other = CapturePeer(), CapturePeer()
    settings = replace(site.services.submissions._settings, unsigned_domains=frozenset({A}))
    submissions = Submissions(site.store, site.directory, desk(site).sign, settings)

    first = await submitted(site, submissions, BOB, f"un@{A}", f"deux@{B}")
    again = await submitted(site, submissions, BOB, f"un@{A}", f"deux@{B}")
    async with (
        capture(one, peer_tls(site, site.world.a)) as a,
        capture(other, peer_tls(site, site.world.b)) as b,
    ):
        await worker(site, a, b=b).send_due()

    assert (first.new, again.new, again.receipt_id) == (True, False, first.receipt_id)
    (plain,), (sealed,) = one.taken, other.taken
    assert b"multipart/signed" not in plain.octets
    assert b"multipart/signed" in sealed.octets
    assert plain.message_id == sealed.message_id
    assert b"multipart/signed" in await site.raw(BOB)
    assert len(await site.inbox(BOB)) == 1


@pytest.mark.parametrize("fails", ["writing", "composing"])
async def test_of_a_large_submission_that_fails_nothing_stays(
    site: MailSite, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    settings = replace(site.services.submissions._settings, unsigned_domains=frozenset({A}))
    submissions = Submissions(site.store, site.directory, desk(site).sign, settings)
    to = (BOB, f"un@{A}", f"deux@{B}")
    large = message(DR, BOB) + (b"x" * 76 + b"\r\n") * 60_000

    def broken(*_arguments: object, **_named: object) -> None:
        raise OSError

    if fails == "writing":
        monkeypatch.setattr(site.store._commits, "run", broken)
    else:
        monkeypatch.setattr(dispatch, "_tracked", broken)

    with pytest.raises(OSError):
        await submissions.submit(SubmissionMessage(large, DR, to, site.mailboxes[DR], site.now()))
    with closing(sqlite3.connect(site.root / "mail.sqlite3")) as mail:
        assert mail.execute("SELECT count(*) FROM blob").fetchone() == (0,)


async def test_without_the_seal_nothing_is_stored_and_the_client_comes_back(
    site: MailSite,
) -> None:
    async def gone(_arguments: object) -> dict[str, str]:
        raise ConnectionRefusedError

    settings = site.services.submissions._settings
    submissions = Submissions(site.store, site.directory, gone, settings)

    with pytest.raises(NoSealError):
        await submitted(site, submissions, BOB)
    assert await site.inbox(BOB) == []


def test_no_other_process_asks_for_a_seals_key() -> None:
    root = Path(__file__).parents[2]
    users = {
        path.relative_to(root).as_posix()
        for package in ("certs", "directory", "record_bridge", "mailserver")
        for path in (root / package).rglob("*.py")
        if re.search(r"\bseal_for\(|\bload_practice\(|\brefresh_crls\(", path.read_text("utf-8"))
    }

    assert users <= {
        "certs/keystore.py",
        "mailserver/seal_desk.py",
        "mailserver/seal_process.py",
        "mailserver/demo.py",
        "mailserver/installation.py",
        "mailserver/practice.py",
    }
