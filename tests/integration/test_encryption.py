"""Mail that leaves encrypted, over the seal, where the recipient's certificate is known (C14, RULES §12)."""

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certs.cms_envelope import Cipherment
from certs.issue import Branch, KeyKind, new_key
from certs.keystore import KeyStore
from certs.recipients import Unusable
from mailserver.certificates import CertificateJudge
from mailserver.delivery.errors import CERTIFICATE_UNUSABLE, Refused
from mailserver.delivery.prepare import Workers
from mailserver.delivery.submission import SubmissionMessage, Submissions, Submitted, Via
from mailserver.encryption_commands import EncryptionCommands
from mailserver.errors import CommandError
from mailserver.seal_desk import SealDesk
from tests.support.capture_peer import CapturePeer, Taken, capture
from tests.support.mail_site import BOB, DR, A, B, MailSite, World, message
from tests.support.mailstore import interpose
from tests.support.openssl import cms
from tests.support.outbound import peer_tls, worker
from tests.support.recipient_keys import recipient_certificate
from tests.support.submitting import stored

ONE, TWO, THREE = f"un@{A}", f"deux@{A}", f"trois@{B}"


def issue(site: MailSite, address: str, **changes: object) -> Path:
    """Issue a certificate to encrypt for; give its PEM, its key beside it."""
    options = {"kind": KeyKind.RSA_2048, "branch": Branch.PERSONAL, "encipher": True, "life": 30}
    options |= changes
    key = new_key(options["kind"])
    authority = site.world.pki.authorities[options["branch"]]
    certificate = recipient_certificate(
        (authority.certificate, authority.key),
        address,
        key,
        site.now(),
        encipher=options["encipher"],
        life_days=options["life"],
    )
    path = site.root / f"{certificate.serial_number:x}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def parts(
    site: MailSite, *, unsigned: frozenset[str] = frozenset()
) -> tuple[EncryptionCommands, Submissions]:
    keystore = KeyStore(site.world.root / "pki")
    judge = CertificateJudge(keystore, site.now)
    given = site.services.submissions
    workers = Workers(_verify, judge_certificate=judge.judge)
    desk = SealDesk(site.store, site.directory, keystore, site.now)
    submissions = Submissions(
        site.store,
        site.directory,
        desk.sign,
        replace(given._settings, unsigned_domains=unsigned),
        workers=workers,
    )
    return EncryptionCommands(site.store, judge, site.now), submissions


async def _verify(_raw: bytes, _at: object) -> object:
    raise AssertionError("nothing here was signed by a client")


async def send(site: MailSite, submissions: Submissions, *to: str) -> Submitted | Refused:
    return await submissions.submit(
        SubmissionMessage(
            message(DR, to[0], "confidentiel"), DR, to, site.mailboxes[DR], site.now()
        )
    )


async def taken(site: MailSite) -> dict[str, Taken]:
    peer = CapturePeer()
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()
    return {each.recipients[0].split("<")[1].split("@")[0]: each for each in peer.taken}


def opened(folder: Path, raw: bytes, certificate: Path) -> bytes:
    """Let OpenSSL decrypt, then check the signature inside, as a mail client would."""
    (folder / "sent").write_bytes(raw)
    done = cms(
        "-decrypt", "-in", folder / "sent", "-recip", certificate,
        "-inkey", certificate.with_suffix(".key"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (folder / "inside").write_bytes(done.stdout)
    checked = cms("-verify", "-noverify", "-in", folder / "inside")
    assert checked.returncode == 0, checked.stderr.decode()
    return checked.stdout


@pytest.mark.parametrize("gcm", [False, True])
async def test_openssl_opens_what_leaves_and_finds_the_seal_inside(
    site: MailSite,
    tmp_path: Path,
    gcm: bool,  # noqa: FBT001
) -> None:
    commands, submissions = parts(site)
    certificate = issue(site, ONE)
    await commands.record({"address": ONE, "path": certificate, "gcm": gcm})
    await commands.ask({"address": DR, "wanted": True})

    assert isinstance(await send(site, submissions, BOB, ONE, TWO), Submitted)
    found = await taken(site)

    raw = found["un"].octets
    assert b"confidentiel" not in raw
    kind = b"authEnveloped-data" if gcm else b"enveloped-data"
    assert b"smime-type=" + kind in raw
    assert b"confidentiel" in opened(tmp_path, raw, certificate)
    # Who has no certificate here gets it signed, and so do this site's own mailboxes.
    assert found["un"].recipients == (f"RCPT TO:<{ONE}>",)
    assert b"multipart/signed" in found["deux"].octets
    assert b"confidentiel" in await site.raw(BOB)


async def forms(site: MailSite) -> Submissions:
    """Let the doctor's mail to un@ be encrypted; leave the seal off what goes to the clinic."""
    commands, _ = parts(site)
    await commands.record({"address": ONE, "path": issue(site, ONE)})
    await commands.ask({"address": DR, "wanted": True})
    _, submissions = parts(site, unsigned=frozenset({B}))
    return submissions


async def test_one_message_in_four_forms_is_one_receipt_with_all_recipients_under_it(
    site: MailSite,
) -> None:
    submissions = await forms(site)
    everyone = (BOB, ONE, TWO, THREE)
    sent = await send(site, submissions, *everyone)
    again = await send(site, submissions, *everyone)

    assert isinstance(sent, Submitted)
    assert isinstance(again, Submitted)
    assert (again.receipt_id, again.new) == (sent.receipt_id, False)
    tracked = await site.store.tracking.receipt(sent.receipt_id)
    assert {each.address: each.progress.state for each in tracked} == {
        BOB: "delivered",
        **dict.fromkeys((ONE, TWO, THREE), "submitted"),
    }
    queued = await site.store.outbox.due(site.now(), 10, 60)
    bodies = {each.forward_path: await site.store.outbox.body(each.message_id) for each in queued}
    assert {each.receipt_id for each in queued} == {sent.receipt_id}
    assert b"enveloped-data" in bodies[ONE]
    assert b"multipart/signed" in bodies[TWO]
    assert b"confidentiel" in bodies[THREE]
    assert b"multipart/signed" not in bodies[THREE]
    # Their ends, too, are noted under the one receipt.
    ids = {each.forward_path: each.id for each in queued}
    await site.store.outbox.done(ids[ONE], "250 ok", site.now())
    await site.store.outbox.failed(ids[THREE], "550 5.1.1 no", site.now())
    tracked = await site.store.tracking.receipt(sent.receipt_id)
    assert {each.address: each.progress.state for each in tracked} == {
        BOB: "delivered", ONE: "relayed", TWO: "submitted", THREE: "failed",
    }  # fmt: skip


async def test_a_message_in_several_forms_is_stored_whole_or_not_at_all(site: MailSite) -> None:
    submissions = await forms(site)
    everyone = (BOB, ONE, TWO, THREE)
    writer = interpose(site.store)
    await send(site, submissions, BOB)  # the cost of the rest: one recipient, one form
    alone = len(writer.statements)
    for statement in range(1, alone + 40):
        before = stored(site)
        interpose(site.store, fail_at=statement)
        try:
            sent = await send(site, submissions, *everyone)
        except sqlite3.OperationalError:
            assert stored(site) == before
            continue
        break
    else:
        pytest.fail("the submission never succeeded")

    assert statement > alone
    assert isinstance(sent, Submitted)
    assert sent.new
    # Receipts, entries, bodies, messages to send, recipients that are tracked.
    assert [after - was for after, was in zip(stored(site), before, strict=True)] == [
        *(1, 1, 3, 3, 4)
    ]


async def test_the_webmail_keeps_one_copy_that_its_sender_can_read(site: MailSite) -> None:
    """Also when all that leaves is encrypted for others."""
    submissions = await forms(site)
    for to in ((ONE,), (BOB, ONE, TWO, THREE)):
        letter = SubmissionMessage(
            message(DR, to[0], "confidentiel"), DR, to, site.mailboxes[DR], site.now(), Via.WEBMAIL
        )
        sent = await submissions.submit(letter)
        assert isinstance(sent, Submitted)
        assert sent.new
    folder = await site.store.folders.get(site.mailboxes[DR].id, "Sent")
    assert folder is not None
    rows = await site.store.messages.entries(folder.id)

    assert len(rows) == 2
    for row in rows:
        octets = await site.store.blobs.octets(row.blob_id)
        assert b"confidentiel" in await site.store.blobs.read(row.blob_id, 0, octets)


async def test_a_mailbox_that_does_not_ask_sends_signed_only(site: MailSite) -> None:
    commands, submissions = parts(site)
    await commands.record({"address": ONE, "path": issue(site, ONE)})
    await commands.ask({"address": DR, "wanted": True})
    await commands.ask({"address": DR, "wanted": False})

    await send(site, submissions, ONE)
    assert b"multipart/signed" in (await taken(site))["un"].octets


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"address": TWO}, Unusable.OTHER_ADDRESS),
        ({"address": "UN@" + A}, Unusable.OTHER_ADDRESS),
        ({"kind": KeyKind.EC_P256}, Unusable.KEY),
        ({"encipher": False}, Unusable.UNTRUSTED),
        ({"life": -1}, Unusable.EXPIRED),
    ],
)
async def test_a_certificate_that_is_not_the_recipients_is_not_recorded(
    site: MailSite, changes: dict[str, object], reason: Unusable
) -> None:
    commands, _ = parts(site)
    certificate = issue(site, str(changes.pop("address", ONE)), **changes)
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )

    assert await commands.certificates.judge(der, ONE) is reason
    with pytest.raises(CommandError):
        await commands.record({"address": ONE, "path": certificate})
    assert await commands.list({}) == []


async def test_a_certificate_of_another_authority_is_not_recorded(
    site: MailSite, where: World, tmp_path: Path
) -> None:
    commands, _ = parts(site)
    stranger = replace(where, pki=type(where.pki).create(site.now(), "AILLEURS"))
    certificate = issue(replace(site, world=stranger), ONE)

    with pytest.raises(CommandError) as caught:
        await commands.record({"address": ONE, "path": certificate})
    assert "vouches" in caught.value.text


async def test_another_certificate_takes_the_place_only_with_a_reason(site: MailSite) -> None:
    commands, _ = parts(site)
    first, second = issue(site, ONE), issue(site, ONE)
    known = await commands.record({"address": ONE, "path": first})

    assert await commands.record({"address": ONE, "path": first}) == known
    for more in ({}, {"replace": True}, {"replace": True, "reason": "court"}):
        with pytest.raises(CommandError):
            await commands.record({"address": ONE, "path": second, **more})
    changed = await commands.record(
        {"address": ONE, "path": second, "replace": True, "reason": "carte renouvelée"}
    )
    assert changed["fingerprint"] != known["fingerprint"]
    assert [each["state"] for each in await commands.list({})] == ["good"]
    await commands.forget({"address": ONE})
    with pytest.raises(CommandError):
        await commands.forget({"address": ONE})


async def test_a_certificate_that_is_good_no_more_refuses_the_message(site: MailSite) -> None:
    """It never leaves in the clear instead."""
    commands, submissions = parts(site)
    await commands.record({"address": ONE, "path": issue(site, ONE, life=1)})
    await commands.ask({"address": DR, "wanted": True})
    site.shift = timedelta(days=2)

    assert await send(site, submissions, BOB, ONE) == Refused(CERTIFICATE_UNUSABLE)
    assert await site.inbox(BOB) == []
    assert await site.store.queue.items() == []


async def test_the_cipher_is_cbc_unless_gcm_is_said(site: MailSite) -> None:
    commands, _ = parts(site)
    await commands.record({"address": ONE, "path": issue(site, ONE)})

    (kept,) = await site.store.encryption.certificates()
    assert kept.cipherment is Cipherment.AES_256_CBC
