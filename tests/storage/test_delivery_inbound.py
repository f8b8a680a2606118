"""Mail from operators, through the real store: who gets what, and what stands before it."""

import io
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from certs import smime
from certs.errors import SandboxCrashError
from certs.mime import scan
from mailserver.delivery import errors
from mailserver.delivery.errors import Refused
from mailserver.delivery.inbound import Inbound, InboundMessage
from mailserver.delivery.prepare import Workers
from mailserver.message.compose import base64_lines
from mailserver.store.model import Delivered
from record_bridge.formats import auth_results
from tests.support.mailsite import (
    AT,
    AUTHSERV,
    CABINET,
    CLINIC,
    DN,
    DOCTOR,
    OTHER_DOCTOR,
    PATIENT,
    PEER,
    SECRETARY,
    SETTINGS,
    UNFILED,
    mail_site,
)

PLAIN = b"From: lab@chu.test\r\nSubject: x\r\nMessage-ID: <1@chu.test>\r\n\r\nbody\r\n"
PACKAGE = (
    b"From: lab@chu.test\r\nSubject: XDM/1.0/DDM+x\r\nMessage-ID: <2@chu.test>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n"
    b'--b\r\nContent-Type: application/zip; name="IHE_XDM.zip"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nUEsDBA==\r\n--b--\r\n"
)


@pytest.fixture
async def site(tmp_path):
    async with mail_site(tmp_path) as opened:
        yield opened


async def test_each_recipient_gets_one_entry_with_its_own_prefix(site):
    delivered = await site.receive(PLAIN, DOCTOR, SECRETARY)

    assert isinstance(delivered, Delivered)
    for address in (DOCTOR, SECRETARY):
        (entry,) = await site.inbox(address)
        raw = await site.raw(entry)
        outline = scan(raw)
        assert raw.endswith(PLAIN)
        assert raw == entry.prefix + PLAIN
        assert outline.text("return-path") == "<lab@chu.test>"
        assert [field.value.strip() for field in outline.fields("delivered-to")] == [
            address.encode()
        ]
        assert f"id {delivered.receipt_id};" in outline.text("received")
        assert " for " not in outline.text("received")
        assert len(entry.prefix) < 4096
    assert await site.inbox(CABINET.application_address) == []


async def test_the_operator_stands_in_the_one_authentication_results(site):
    await site.receive(PLAIN, DOCTOR)

    (entry,) = await site.inbox(DOCTOR)
    outline = scan(await site.raw(entry))
    results = auth_results.parse(
        [field.value for field in outline.fields("authentication-results")], AUTHSERV
    )
    assert results is not None
    assert (results.operator_dn, results.mailfrom, results.submitter, results.smime) == (
        *(DN, "lab@chu.test"),
        *(None, "none"),
    )


async def test_what_strangers_may_not_write_is_cut_and_the_rest_untouched(site):
    forged = (
        b"Return-Path: <boss@cabinet.mssante.test>\r\n"
        b"Authentication-Results: other.test; x=pass\r\n"
        b"authentication-results :\r\n\tmail.CABINET.test;\r\n x-mssante=pass\r\n"
        b"X-MSS-INS: O\r\n"
        b"Delivered-To: x@y.test\r\n"
    )
    await site.receive(forged + PLAIN, DOCTOR)

    (entry,) = await site.inbox(DOCTOR)
    raw = await site.raw(entry)
    kept = b"Authentication-Results: other.test; x=pass\r\nX-MSS-INS: O\r\n"
    assert raw == entry.prefix + kept + PLAIN
    receipt = await site.store.filings.receipt(
        scan(raw).text("received").split(" id ")[1].split(";")[0]
    )
    assert receipt is not None
    assert receipt.sha256 == sha256(forged + PLAIN).digest()
    assert entry.index.header_octets == len(kept) + PLAIN.index(b"body")


async def test_a_package_adds_one_entry_per_structure_naming_its_filing_recipients(site):
    await site.receive(PACKAGE, DOCTOR, SECRETARY, UNFILED, OTHER_DOCTOR)

    (ours,) = await site.inbox(CABINET.application_address)
    (theirs,) = await site.inbox(CLINIC.application_address)

    def named(entry):
        return [
            field.value.decode().strip() for field in scan(entry.prefix).fields("delivered-to")
        ]

    assert named(ours) == [DOCTOR, SECRETARY]
    assert named(theirs) == [OTHER_DOCTOR]
    assert ours.row.blob_id == theirs.row.blob_id
    assert len(await site.inbox(UNFILED)) == 1


async def test_no_correspondence_leaves_a_mailbox_without_filing(site):
    await site.receive(PACKAGE, UNFILED)

    assert await site.inbox(CABINET.application_address) == []


async def test_a_patient_sees_no_package_before_the_bridge_has_answered(site):
    await site.receive(PACKAGE, PATIENT, DOCTOR)

    assert await site.inbox(PATIENT) == []
    (entry,) = await site.inbox(CABINET.application_address)
    names = [field.value.decode().strip() for field in scan(entry.prefix).fields("delivered-to")]
    assert sorted(names) == sorted([PATIENT, DOCTOR])


async def test_a_patient_reads_mail_without_a_package_at_once(site):
    await site.receive(PLAIN, PATIENT)

    assert len(await site.inbox(PATIENT)) == 1


async def test_a_package_that_only_another_reader_would_see_is_held_too(site):
    hidden = b"Content-Type: text/plain\r\n" + PACKAGE

    await site.receive(hidden, PATIENT)
    assert await site.inbox(PATIENT) == []


async def test_mail_to_the_application_mailbox_itself_makes_one_entry(site):
    await site.receive(PACKAGE, CABINET.application_address, DOCTOR)

    (entry,) = await site.inbox(CABINET.application_address)
    names = [field.value.decode().strip() for field in scan(entry.prefix).fields("delivered-to")]
    assert names == [CABINET.application_address, DOCTOR]


async def test_a_repeated_message_is_stored_once_under_its_first_receipt(site):
    first = await site.receive(PACKAGE, DOCTOR)
    again = await site.receive(PACKAGE, DOCTOR)
    more = await site.receive(PACKAGE, DOCTOR, UNFILED)

    assert (again.new, again.receipt_id) == (False, first.receipt_id)
    assert more.receipt_id == first.receipt_id
    assert len(await site.inbox(DOCTOR)) == 1
    assert len(await site.inbox(UNFILED)) == 1
    assert len(await site.inbox(CABINET.application_address)) == 1


async def test_the_same_message_from_another_sender_is_another_message(site):
    await site.receive(PLAIN, DOCTOR)
    await site.receive(PLAIN, DOCTOR, sender="")

    (_, null) = await site.inbox(DOCTOR)
    assert scan(null.prefix).text("return-path") == "<>"


async def test_a_good_signature_is_marked_and_named(site):
    seal = site.keystore.seal_for("lab@chu.test", "CHU")
    await site.receive(smime.sign(PLAIN, seal), DOCTOR)

    (entry,) = await site.inbox(DOCTOR)
    results = scan(entry.prefix).text("authentication-results")
    assert entry.row.keywords == {"$SignatureValid"}
    assert "smime=pass" in results
    assert 'body.smime-identifier="lab@chu.test"' in results


async def test_an_altered_message_is_delivered_and_marked(site):
    seal = site.keystore.seal_for("lab@chu.test", "CHU")
    signed = smime.sign(PLAIN, seal)
    await site.receive(signed.replace(b"body\r\n", b"evil\r\n"), DOCTOR)

    (entry,) = await site.inbox(DOCTOR)
    assert entry.row.keywords == {"$SignatureInvalid"}
    assert "smime=fail" in scan(entry.prefix).text("authentication-results")


async def test_a_signed_package_reaches_the_bridge(site):
    seal = site.keystore.seal_for("lab@chu.test", "CHU")
    await site.receive(smime.sign(PACKAGE, seal), DOCTOR)

    assert len(await site.inbox(CABINET.application_address)) == 1


async def test_a_crash_of_the_verifying_worker_refuses_nothing(site):
    async def crash(_raw, _at):
        raise SandboxCrashError

    inbound = Inbound(site.store, site.directory, SETTINGS, Workers(crash))
    seal = site.keystore.seal_for("lab@chu.test", "CHU")
    raw = smime.sign(PLAIN, seal)
    await inbound.accept(
        InboundMessage(
            raw,
            len(raw),
            sha256(raw).digest(),
            "lab@chu.test",
            (await site.mailbox(DOCTOR),),
            PEER,
            AT,
            "evil)\r\n name",
        )
    )

    (entry,) = await site.inbox(DOCTOR)
    assert entry.row.keywords == frozenset()
    assert "smime=temperror" in scan(entry.prefix).text("authentication-results")
    assert "from unknown by" in scan(entry.prefix).text("received")


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        pytest.param(b" folded: into ours\r\n" + PLAIN, errors.MALFORMED, id="leading-space"),
        pytest.param(b"\tfolded\r\n" + PLAIN, errors.MALFORMED, id="leading-tab"),
        pytest.param(PLAIN + b"bare\n", errors.MALFORMED, id="bare-lf"),
        pytest.param(PLAIN + b"\0", errors.MALFORMED, id="nul"),
        pytest.param(b"Received: x\r\n" * 100 + PLAIN, errors.LOOP, id="loop"),
        pytest.param(b"X: y\r\n" * 1000 + PLAIN, errors.HEADER_TOO_LONG, id="many-fields"),
        pytest.param(b"X: " + b"y" * 131_072 + b"\r\n" + PLAIN, errors.HEADER_TOO_LONG, id="long"),
    ],
)
async def test_the_written_list_says_what_is_refused_and_nothing_is_stored(site, raw, reply):
    assert await site.receive(raw, DOCTOR) == Refused(reply)
    assert await site.inbox(DOCTOR) == []


async def test_ninety_nine_hops_are_no_loop(site):
    assert isinstance(await site.receive(b"Received: x\r\n" * 99 + PLAIN, DOCTOR), Delivered)


async def test_a_large_message_comes_from_a_file_and_reads_back(site):
    raw = PLAIN + b"0123456789abcdef" * 4 * 80_000 + b"\r\n"
    file = io.BytesIO(raw)
    file.seek(100)
    await site.inbound.accept(
        InboundMessage(
            file,
            len(raw),
            sha256(raw).digest(),
            "lab@chu.test",
            (await site.mailbox(DOCTOR),),
            PEER,
            AT,
            "h",
        )
    )

    (entry,) = await site.inbox(DOCTOR)
    assert len(raw) > 4 * 1024 * 1024
    assert await site.raw(entry) == entry.prefix + raw


async def test_the_trail_names_mailboxes_by_number_only(site):
    await site.receive(PACKAGE, PATIENT)

    patient = await site.mailbox(PATIENT)
    (stored,) = await site.store.audit.events(subject=f"mailbox:{patient.id}")
    assert stored.event.kind == "message_received"
    assert stored.event.facts["held"] is True
    assert PATIENT not in repr(stored)


def opaque(site, raw: bytes, address: str) -> bytes:
    """Sign a whole message with its content inside the CMS, as some clients do."""
    issued = site.pki.issue_seal(AT, address, "CHU")
    content = raw[raw.index(b"Content-Type") :] if b"Content-Type" in raw else b"\r\n" + raw
    cms = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(content)
        .add_signer(
            x509.load_pem_x509_certificate(issued.certificate),
            serialization.load_pem_private_key(issued.key, None),
            hashes.SHA256(),
        )
        .add_certificate(x509.load_pem_x509_certificate(issued.chain))
        .sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    )
    return (
        b"From: %b\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime;"
        b" smime-type=signed-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n%b"
        % (address.encode(), base64_lines(cms))
    )


async def test_a_package_inside_an_opaque_signature_is_found(site):
    await site.receive(opaque(site, PACKAGE, "lab@chu.test"), DOCTOR, PATIENT)

    (entry,) = await site.inbox(DOCTOR)
    assert entry.row.keywords == {"$SignatureValid"}
    assert entry.index.has_package
    assert len(await site.inbox(CABINET.application_address)) == 1
    assert await site.inbox(PATIENT) == []


async def test_an_opaque_message_without_a_package_stays_where_it_was_sent(site):
    broken = PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Type: application/pkcs7-mime\r\n\r\n")
    await site.receive(opaque(site, PLAIN, "lab@chu.test"), DOCTOR)
    await site.receive(broken, DOCTOR)

    assert len(await site.inbox(DOCTOR)) == 2
    assert await site.inbox(CABINET.application_address) == []


async def test_a_package_in_a_forwarded_opaque_message_is_found_by_the_bridges_reader(site):
    forwarded = PLAIN.replace(
        b"\r\n\r\nbody\r\n", b"\r\nContent-Type: message/rfc822\r\n\r\n"
    ) + opaque(site, PACKAGE, "lab@chu.test")

    async def count(raw):
        assert raw == forwarded
        return 2

    inbound = Inbound(
        site.store, site.directory, SETTINGS, Workers(site.verify, count_documents=count)
    )
    await inbound.accept(
        InboundMessage(
            forwarded,
            len(forwarded),
            sha256(forwarded).digest(),
            "lab@chu.test",
            (await site.mailbox(PATIENT),),
            PEER,
            AT,
            "h",
        )
    )

    assert await site.inbox(PATIENT) == []
    assert len(await site.inbox(CABINET.application_address)) == 1


async def test_an_opaque_message_that_breaks_the_counter_counts_as_a_package(site):
    async def count(_raw):
        raise SandboxCrashError

    inbound = Inbound(
        site.store, site.directory, SETTINGS, Workers(site.verify, count_documents=count)
    )
    raw = opaque(site, PLAIN, "lab@chu.test")
    recipients = (await site.mailbox(DOCTOR), await site.mailbox(PATIENT))
    await inbound.accept(
        InboundMessage(
            raw, len(raw), sha256(raw).digest(), "lab@chu.test", recipients, PEER, AT, "h"
        )
    )

    (entry,) = await site.inbox(DOCTOR)
    assert entry.index.has_package
    assert len(await site.inbox(CABINET.application_address)) == 1
    assert await site.inbox(PATIENT) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_the_receipt_keeps_how_many_documents_came(site, fails):
    async def count(_raw):
        if fails:
            raise SandboxCrashError
        return 3

    async def verify(_raw, _at):
        raise AssertionError

    inbound = Inbound(site.store, site.directory, SETTINGS, Workers(verify, count_documents=count))
    delivered = await inbound.accept(
        InboundMessage(
            PACKAGE,
            len(PACKAGE),
            sha256(PACKAGE).digest(),
            "lab@chu.test",
            (await site.mailbox(DOCTOR),),
            PEER,
            AT,
            "h",
        )
    )

    receipt = await site.store.filings.receipt(delivered.receipt_id)
    assert receipt is not None
    assert receipt.occurrences == (1 if fails else 3)


async def test_a_signed_report_costs_one_call_of_the_worker_pool(site):
    calls = []

    async def examine(raw, at):
        calls.append("examine")
        return await site.verify(raw, at), 3

    async def verify(_raw, _at):
        calls.append("verify")
        raise AssertionError

    async def count(_raw):
        calls.append("count")
        raise AssertionError

    raw = smime.sign(PACKAGE, site.keystore.seal_for("lab@chu.test", "Chu"))
    inbound = Inbound(
        site.store,
        site.directory,
        SETTINGS,
        Workers(verify, count_documents=count, examine=examine),
    )
    delivered = await inbound.accept(await report_of(site, raw))

    receipt = await site.store.filings.receipt(delivered.receipt_id)
    assert receipt is not None
    assert (receipt.occurrences, calls) == (3, ["examine"])


async def test_a_package_that_breaks_the_counter_keeps_the_verdict_of_its_signature(site):
    calls = []

    async def examine(_raw, _at):
        calls.append("examine")
        raise SandboxCrashError

    async def verify(raw, at):
        calls.append("verify")
        return await site.verify(raw, at)

    async def count(_raw):
        calls.append("count")
        raise SandboxCrashError

    raw = smime.sign(PACKAGE, site.keystore.seal_for("lab@chu.test", "Chu"))
    inbound = Inbound(
        site.store,
        site.directory,
        SETTINGS,
        Workers(verify, count_documents=count, examine=examine),
    )
    delivered = await inbound.accept(await report_of(site, raw))

    receipt = await site.store.filings.receipt(delivered.receipt_id)
    assert receipt is not None
    assert (receipt.occurrences, calls) == (1, ["examine", "verify", "count"])
    (entry,) = await site.inbox(DOCTOR)
    assert "smime=temperror" not in entry.prefix.decode("ascii")


async def report_of(site, raw):
    return InboundMessage(
        raw,
        len(raw),
        sha256(raw).digest(),
        "lab@chu.test",
        (await site.mailbox(DOCTOR),),
        PEER,
        AT,
        "h",
    )
