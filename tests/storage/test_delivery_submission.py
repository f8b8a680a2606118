"""Mail from the site's own users, through the real store, keys and signatures."""

import asyncio
from dataclasses import replace

import pytest

from certs import smime
from certs.addresses import parse_addr_spec, single_from
from certs.mime import scan
from directory.codes import MailboxType
from mailserver.delivery import errors
from mailserver.delivery.destinations import Reach
from mailserver.delivery.errors import Refused
from mailserver.delivery.submission import SubmissionMessage, Submissions, Submitted, Via
from mailserver.message.reports import DeliveryReport, read_report
from mailserver.store.model import NewMailbox, Outgoing
from record_bridge.formats import auth_results
from tests.support.mailsite import (
    AT,
    AUTHSERV,
    CABINET,
    DOCTOR,
    OTHER_DOCTOR,
    PATIENT,
    SECRETARY,
    SETTINGS,
    mail_site,
)

REMOTE = "service@labo.mssante.test"


def message(author: str = DOCTOR, extra: bytes = b"", body: bytes = b"body\r\n") -> bytes:
    return (
        b"From: Dr <%b>\r\nTo: x@y.test\r\nSubject: s\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <1@client.test>\r\n%b\r\n%b" % (author.encode(), extra, body)
    )


PACKAGE = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
    (
        b"--b\r\n\r\ntext\r\n--b\r\nContent-Disposition: attachment; filename=IHE_XDM.zip\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nUEsDBA==\r\n--b--\r\n"
    ),
)


@pytest.fixture
async def site(tmp_path):
    async with mail_site(tmp_path) as opened:
        yield opened


async def submit(site, raw, *recipients, by=DOCTOR, **more):
    values = {"reverse_path": by, "via": Via.SUBMISSION, **more}
    return await site.submissions.submit(
        SubmissionMessage(
            raw=raw, recipients=recipients, mailbox=await site.mailbox(by), at=AT, **values
        )
    )


async def test_a_message_is_signed_by_the_structure_and_delivered_here(site):
    submitted = await submit(site, message(), SECRETARY)

    assert isinstance(submitted, Submitted)
    (entry,) = await site.inbox(SECRETARY)
    raw = await site.raw(entry)
    verdict = smime.verify(raw, site.policy())
    assert verdict.good
    assert verdict.signer_names == (DOCTOR,)
    assert "Cabinet des Lilas" in verdict.signer_dn
    assert entry.row.keywords == {"$SignatureValid"}
    results = auth_results.parse(
        [field.value for field in scan(raw).fields("authentication-results")], AUTHSERV
    )
    assert results is not None
    assert (results.submitter, results.operator_dn, results.smime) == (DOCTOR, None, "pass")


async def test_remote_recipients_wait_in_the_queue_of_the_same_transaction(site):
    await submit(site, message(), SECRETARY, REMOTE, REMOTE.upper().replace("SERVICE", "service"))

    (queued,) = await site.store.outbox.due(AT, 10, 60)
    assert (queued.forward_path, queued.domain, queued.reverse_path) == (
        *(REMOTE, "labo.mssante.test"),
        DOCTOR,
    )
    body = await site.store.outbox.body(queued.message_id)
    outline = scan(body)
    assert smime.verify(body, site.policy()).good
    assert outline.fields("return-path") == []
    assert outline.fields("authentication-results") == []
    assert len(outline.fields("received")) == 1
    assert REMOTE not in outline.text("received")


async def test_blind_copies_and_client_marks_do_not_leave(site):
    extra = (
        b"Bcc: secret@y.test\r\nX-MSS-INS: O\r\nX-MSS-NIL: forged\r\nX-MSS-MES: FIN\r\n"
        b"Return-Path: <a@b.test>\r\nAuthentication-Results: %b; auth=pass\r\n" % AUTHSERV.encode()
    )
    await submit(site, message(extra=extra), SECRETARY)

    (entry,) = await site.inbox(SECRETARY)
    raw = await site.raw(entry)
    outline = scan(raw)
    assert b"secret@y.test" not in raw
    assert [field.name for field in outline.header if field.name.startswith("X-MSS")] == [
        "X-MSS-MES"
    ]
    assert len(outline.fields("return-path")) == 1
    assert len(outline.fields("authentication-results")) == 1


async def test_the_configured_product_reference_is_written(site):
    settings = replace(SETTINGS, nil="NIL-1234")
    submissions = Submissions(site.store, site.directory, site.sign, settings)
    await submissions.submit(
        SubmissionMessage(message(), DOCTOR, (SECRETARY,), await site.mailbox(DOCTOR), AT)
    )

    (entry,) = await site.inbox(SECRETARY)
    assert scan(await site.raw(entry)).text("x-mss-nil") == "NIL-1234"


@pytest.mark.parametrize(
    "useless", [b"", b"Message-ID:\r\nDate: \r\n", b"Message-ID: nothing\r\n"]
)
async def test_a_missing_date_and_identifier_are_added(site, useless):
    raw = b"From: %b\r\n%b\r\nbody\r\n" % (DOCTOR.encode(), useless)
    submitted = await submit(site, raw, SECRETARY)

    (entry,) = await site.inbox(SECRETARY)
    outline = scan(await site.raw(entry))
    assert outline.text("message-id") == submitted.message_id
    assert outline.text("date") == "Sun, 22 Nov 2026 10:00:00 +0000"
    assert len(outline.fields("message-id")) == len(outline.fields("date")) == 1


async def test_what_a_client_signed_passes_unchanged_and_is_judged(site):
    signed = smime.sign(message(), site.keystore.seal_for(DOCTOR, "Cabinet"))
    await submit(site, signed, SECRETARY)
    await submit(site, signed.replace(b"body", b"evil").replace(b"<1@", b"<2@"), SECRETARY)

    good, bad = await site.inbox(SECRETARY)
    # All but From, which bears the directory's name.
    assert (await site.raw(good)).endswith(signed.partition(b"\r\n")[2])
    assert good.row.keywords == {"$SignatureValid"}
    assert bad.row.keywords == {"$SignatureInvalid"}


async def test_eight_bit_text_is_signed_in_seven_bits(site):
    raw = message(
        extra=b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n",
        body="été\r\n".encode(),
    )
    await submit(site, raw, SECRETARY)

    (entry,) = await site.inbox(SECRETARY)
    stored = await site.raw(entry)
    assert stored.isascii()
    assert smime.verify(stored, site.policy()).good


async def test_the_same_message_from_the_same_account_is_absorbed(site):
    first = await submit(site, message(), SECRETARY, REMOTE)
    again = await submit(site, message(), REMOTE, SECRETARY)
    other = await submit(site, message(), OTHER_DOCTOR)

    assert (again.new, again.receipt_id) == (False, first.receipt_id)
    assert other.new
    assert len(await site.inbox(SECRETARY)) == 1
    assert len(await site.store.outbox.due(AT, 10, 60)) == 1


async def test_the_same_message_at_the_same_time_is_stored_once(site):
    taken = await asyncio.gather(*(submit(site, message(), SECRETARY) for _ in range(8)))

    assert len(await site.inbox(SECRETARY)) == 1
    assert sum(item.new for item in taken) == 1
    assert len({item.receipt_id for item in taken}) == 1


async def test_the_webmail_keeps_a_copy_in_sent(site):
    await submit(site, message(), SECRETARY, via="webmail")
    await submit(site, message(extra=b"X: y\r\n").replace(b"<1@", b"<2@"), SECRETARY)

    (entry,) = await site.inbox(DOCTOR, "Sent")
    assert entry.row.flags.name == "SEEN"
    assert entry.index.subject == "s"


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        pytest.param(message(SECRETARY), errors.NOT_YOUR_ADDRESS, id="other-from"),
        pytest.param(
            message(extra=b"Sender: bob@cabinet.mssante.test\r\n"),
            errors.NOT_YOUR_ADDRESS,
            id="other-sender",
        ),
        pytest.param(
            message(extra=b"Resent-From: bob@cabinet.mssante.test\r\n"),
            errors.NOT_YOUR_ADDRESS,
            id="resent-from",
        ),
        pytest.param(message(extra=b"Sender: x\r\n"), errors.NOT_YOUR_ADDRESS, id="bad-sender"),
        pytest.param(message(f"{DOCTOR}>, <bob@x.test"), errors.ONE_OF_YOURS, id="two-addresses"),
        pytest.param(
            message(extra=b"From: %b\r\n" % DOCTOR.encode()), errors.ONE_OF_YOURS, id="two-from"
        ),
        pytest.param(
            message(extra=b"from : %b\r\n" % DOCTOR.encode()),
            errors.ONE_OF_YOURS,
            id="spaced-from",
        ),
        pytest.param(
            message().replace(b"Dr <", b"bob@x.test<"), errors.ONE_OF_YOURS, id="address-as-name"
        ),
        pytest.param(
            message().replace(b"Dr <%b>" % DOCTOR.encode(), b"g: %b;" % DOCTOR.encode()),
            errors.ONE_OF_YOURS,
            id="group",
        ),
        pytest.param(b"Subject: x\r\n\r\nbody", errors.ONE_OF_YOURS, id="no-from"),
        pytest.param(
            message(extra=b"Message-ID: <2@x.test>\r\n"), errors.MALFORMED, id="two-identifiers"
        ),
        pytest.param(message(body=b"a\nb"), errors.MALFORMED, id="bare-lf"),
        pytest.param(message(body=b"a\r\r\nb"), errors.MALFORMED, id="bare-cr"),
    ],
)
async def test_nobody_writes_as_someone_else(site, raw, reply):
    assert await submit(site, raw, SECRETARY) == Refused(reply)
    assert await site.inbox(SECRETARY) == []


async def test_a_display_name_that_looks_like_an_address_is_only_a_name(site):
    raw = message().replace(b"Dr <", b'"bob@x.test" <')

    assert isinstance(await submit(site, raw, SECRETARY), Submitted)


async def test_an_own_sender_field_is_allowed_in_any_case(site):
    raw = message(DOCTOR.upper(), extra=b"Sender: %b\r\n" % DOCTOR.encode())

    assert isinstance(await submit(site, raw, SECRETARY), Submitted)


@pytest.mark.parametrize(
    ("reverse_path", "taken"),
    [
        (DOCTOR, True),
        (DOCTOR.upper(), True),
        ("", True),
        ("<>", True),
        (SECRETARY, False),
        ("x", False),
        (f"@r.test:{DOCTOR}", False),
    ],
)
async def test_the_reverse_path_is_ones_own_or_null(site, reverse_path, taken):
    outcome = await submit(site, message(), SECRETARY, reverse_path=reverse_path)

    assert isinstance(outcome, Submitted) is taken
    assert taken or outcome == Refused(errors.NOT_YOUR_ADDRESS)


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@cabinet.mssante.test", errors.NO_SUCH_MAILBOX),
        ("x@evil.test", errors.NOT_LISTED),
        ("x@y@labo.mssante.test", errors.BAD_RECIPIENT),
        ('"a@b"@labo.mssante.test', errors.BAD_RECIPIENT),
        ("x@labo.mssante.test.", errors.BAD_RECIPIENT),
    ],
)
async def test_one_bad_recipient_refuses_the_whole_submission(site, recipient, reply):
    assert await submit(site, message(), SECRETARY, recipient) == Refused(reply)
    assert await site.inbox(SECRETARY) == []
    assert await site.store.outbox.due(AT, 10, 60) == []


async def test_no_recipient_is_no_submission(site):
    assert await submit(site, message()) == Refused(errors.BAD_RECIPIENT)


async def test_a_patient_writes_here_and_nowhere_else(site):
    here = await submit(site, message(PATIENT), DOCTOR, by=PATIENT)
    there = await submit(site, message(PATIENT), DOCTOR, REMOTE, by=PATIENT)

    assert isinstance(here, Submitted)
    assert there == Refused(errors.PATIENTS_STAY)
    assert len(await site.inbox(DOCTOR)) == 1
    assert PATIENT.split("@", maxsplit=1)[0] not in here.message_id


async def test_a_patient_writes_to_a_declared_patients_domain(site):
    settings = replace(SETTINGS, patient_domains=frozenset({"labo.mssante.test"}))
    submissions = Submissions(site.store, site.directory, site.sign, settings)
    outcome = await submissions.submit(
        SubmissionMessage(message(PATIENT), PATIENT, (REMOTE,), await site.mailbox(PATIENT), AT)
    )

    assert isinstance(outcome, Submitted)


@pytest.mark.parametrize(
    ("recipients", "taken"),
    [
        (("1@labo.mssante.test", "2@labo.mssante.test"), False),
        (("1@labo.mssante.test", "1@LABO.mssante.test"), True),
        (("1@labo.mssante.test", SECRETARY), True),
        ((PATIENT, "1@labo.mssante.test"), False),
    ],
)
async def test_one_message_goes_to_one_patient_of_a_declared_domain(site, recipients, taken):
    """Fifty recipients of a domain share one transaction, patients never do (RULES §5, §11)."""
    settings = replace(SETTINGS, patient_domains=frozenset({"labo.mssante.test"}))
    submissions = Submissions(site.store, site.directory, site.sign, settings)
    outcome = await submissions.submit(
        SubmissionMessage(message(), DOCTOR, recipients, await site.mailbox(DOCTOR), AT)
    )

    assert isinstance(outcome, Submitted) if taken else outcome == Refused(errors.ONE_PATIENT)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("299019900000133@patient.mssante.fr", True),
        ("299019900000133@PATIENT.mssante.fr", True),
        ("dr@medecin.mssante.fr", False),
        (REMOTE, False),
        (PATIENT, True),
        (DOCTOR, False),
    ],
)
async def test_the_addresses_of_mon_espace_sante_are_patients_whatever_is_declared(
    site, address, expected
):
    reach = Reach(site.store, site.directory, frozenset())

    assert reach.is_patients(parse_addr_spec(address)) is expected


async def test_mail_to_a_postmaster_without_a_mailbox_reaches_a_person(site):
    await submit(site, message(), "Postmaster@cabinet.mssante.test")

    assert len(await site.inbox(SECRETARY)) == 1


async def test_a_package_submitted_here_reaches_the_bridge_and_holds_the_patient(site):
    await submit(site, message(extra=PACKAGE[0], body=PACKAGE[1]), SECRETARY, PATIENT)

    (entry,) = await site.inbox(CABINET.application_address)
    outline = scan(await site.raw(entry))
    assert f'smtp.auth="{DOCTOR}"' in outline.text("authentication-results")
    assert await site.inbox(PATIENT) == []
    assert entry.index.has_package


async def test_another_application_of_the_structure_speaks_for_nobody_else(site):
    """Only the bridge's mailbox signs as the doctor whose mail it answers (threats S16)."""
    other = "lps@cabinet.mssante.test"
    await site.store.accounts.add_mailbox(
        NewMailbox(other, MailboxType.APP, CABINET.id, "LPS", None, filing=False, at=AT)
    )

    refused = await submit(site, message(DOCTOR), REMOTE, by=other, reverse_path="")
    own = await submit(site, message(other), REMOTE, by=other)

    assert refused == Refused(errors.NOT_YOUR_ADDRESS)
    assert isinstance(own, Submitted)


async def test_an_application_answers_for_the_mailbox_that_was_addressed(site):
    application = CABINET.application_address
    own = await submit(site, message(DOCTOR), REMOTE, by=application, reverse_path="")
    other = await submit(site, message(OTHER_DOCTOR), REMOTE, by=application, reverse_path="")

    assert isinstance(own, Submitted)
    assert other == Refused(errors.NOT_YOUR_ADDRESS)
    (queued,) = await site.store.outbox.due(AT, 10, 60)
    body = await site.store.outbox.body(queued.message_id)
    assert queued.reverse_path == ""
    assert queued.mailbox_id is None
    assert single_from(scan(body)).text == DOCTOR
    assert smime.verify(body, site.policy()).good


async def test_a_professional_never_answers_for_another(site):
    outcome = await submit(site, message(SECRETARY), REMOTE, reverse_path="")

    assert outcome == Refused(errors.NOT_YOUR_ADDRESS)


async def queue_one(site, **more) -> Outgoing:
    await submit(site, message(), REMOTE, **more)
    (queued,) = await site.store.outbox.due(AT, 10, 60)
    return queued


async def test_a_failed_transmission_is_told_once_to_its_sender(site):
    queued = await queue_one(site)
    for _ in range(2):
        await site.bounces.deliver(queued, "550 5.1.1 No such mailbox", AT, remote_mta="mx.test")

    (entry,) = await site.inbox(DOCTOR)
    raw = await site.raw(entry)
    outline = scan(raw)
    report = read_report(raw, outline)
    assert isinstance(report, DeliveryReport)
    assert report.original_message_id == "<1@client.test>"
    assert report.recipients[0].final_recipient == REMOTE
    assert report.recipients[0].status == "5.1.1"
    assert outline.text("return-path") == "<>"
    assert outline.fields("authentication-results") == []
    assert b"body" not in raw.split(b"text/rfc822-headers")[1]


async def test_nothing_is_ever_told_to_the_null_sender(site):
    queued = await queue_one(site, reverse_path="")
    await site.bounces.deliver(queued, "550 no", AT)

    assert await site.inbox(DOCTOR) == []


async def test_a_refused_submission_is_in_the_trail_without_names(site):
    await submit(site, message(SECRETARY), REMOTE)

    stored = await site.store.audit.unsealed()
    assert stored == 1
