"""A submitted message is about one patient only, by its documents and by whom it reaches."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.addresses import Address
from certs.mime import scan
from directory.codes import MailboxType
from directory.model import Structure
from mailserver.delivery.errors import ONE_PATIENT, Refused
from mailserver.delivery.rules import of_two_patients
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from mailserver.store.model import NewMailbox
from tests.integration.test_smtp_submission import plain, send
from tests.support.cda import CdaSpec, PatientSpec, cda
from tests.support.mail_site import (
    BOB,
    DR,
    PATIENT,
    PATIENTS,
    Line,
    MailSite,
    World,
    mail_site,
    message,
)
from tests.support.mailsite import AT, DOCTOR
from tests.support.mailsite import PATIENT as PERSON
from tests.support.webmail import OTHER_PATIENT, webmail
from tests.support.xdm import mail, package

TWIN = f"299019900000133@{PATIENTS}"
ELSEWHERE = f"{PATIENT.partition('@')[0]}@patients.clinique.test"
REFUSED = "554 5.7.1 A message is about one patient only"


@pytest.fixture
async def site(where: World, tmp_path: Path):
    async with mail_site(where, tmp_path) as opened:
        await opened.directory.add_structure(
            Structure(
                "clinique", "Clinique", "330000002", "clinique.test", "patients.clinique.test",
                "bal-app@clinique.test",
            )
        )  # fmt: skip
        for address, structure in ((TWIN, "cabinet"), (ELSEWHERE, "clinique")):
            new = NewMailbox(
                address, MailboxType.PAT, structure, "", None, True, datetime.now(UTC)
            )
            opened.mailboxes[address] = await opened.store.accounts.add_mailbox(new)
        yield opened


async def client(site: MailSite) -> Line:
    """A mail client on port 587."""
    line = await Line.open(site.submission)
    await line.say("EHLO poste.test")
    await line.starttls(site.world.client_tls(None))
    await line.say("EHLO poste.test")
    assert (await line.say(f"AUTH PLAIN {plain(DR)}")).startswith("235")
    return line


def headed(to: str, *more: str) -> bytes:
    return "\r\n".join(
        (f"From: <{DR}>", f"To: {to}", *more, "Message-ID: <u@cabinet.test>", "", "Bonjour", "")
    ).encode()


@pytest.mark.parametrize(
    ("body", "recipients", "reply"),
    [
        (headed(PATIENT), (PATIENT,), "250"),
        (headed(PATIENT), (PATIENT, BOB), "250"),
        (headed(f"{PATIENT}, {ELSEWHERE}"), (PATIENT, ELSEWHERE), "250"),
        (headed(BOB, "Subject: 299019900000133"), (PATIENT,), "250"),
        (headed("undisclosed-recipients:;"), (PATIENT,), "250"),
        (headed(f"postmaster@{PATIENTS}, {PATIENT}"), (PATIENT,), "250"),
        (headed(PATIENT), (PATIENT, TWIN), REFUSED),
        (headed("undisclosed-recipients:;"), (PATIENT, TWIN), REFUSED),
        (headed(PATIENT, f"Cc: Jumelle <{TWIN}>"), (PATIENT,), REFUSED),
        (headed(f"{BOB}, {TWIN}"), (PATIENT,), REFUSED),
        (headed(f"{PATIENT.upper()}, {TWIN}"), (BOB,), REFUSED),
        (headed(f"Famille: {PATIENT}, {TWIN};"), (PATIENT,), REFUSED),
        (headed(f"Famille:\r\n <{TWIN}>;"), (PATIENT,), REFUSED),
        (headed(f"Mme Martin (mère {PATIENT} <{TWIN}>"), (PATIENT,), REFUSED),
        (headed(f"Famille: {PATIENT};"), (PATIENT,), "250"),
    ],
)
async def test_a_message_goes_to_one_patient_and_shows_no_other(
    site: MailSite, body: bytes, recipients: tuple[str, ...], reply: str
) -> None:
    said = await send(await client(site), body, *recipients)

    assert said.startswith(reply)
    taken = 1 if reply == "250" else 0
    for address in {PATIENT, BOB} & set(recipients):
        assert len(await site.inbox(address)) == taken


def of(*patients: PatientSpec) -> bytes:
    return cda(CdaSpec(patients=patients))


ONE = PatientSpec()
OTHER = replace(ONE, ins="279035121518990")


@pytest.mark.parametrize(
    ("packages", "reply"),
    [
        ((package(of(ONE)),), "250"),
        ((package(of(ONE), of(ONE)), package(of(ONE))), "250"),
        ((b"PK no archive",), "250"),
        ((package(of(ONE), of(OTHER)),), REFUSED),
        ((package(of(ONE)), package(of(OTHER))), REFUSED),
        ((package(of(ONE, OTHER)),), REFUSED),
    ],
    ids=["one", "three of one", "unreadable", "one package", "two packages", "one document"],
)
async def test_the_documents_of_a_message_are_of_one_patient(
    site: MailSite, packages: tuple[bytes, ...], reply: str
) -> None:
    said = await send(await client(site), mail(*packages, sender=DR, to=BOB), BOB)

    assert said.startswith(reply)
    assert len(await site.inbox(BOB)) == (1 if reply == "250" else 0)
    if reply != "250":
        assert await site.store.queue.items() == []


async def test_a_connection_goes_on_after_the_refusal(site: MailSite) -> None:
    line = await client(site)
    assert (await send(line, headed(PATIENT), PATIENT, TWIN)).startswith(REFUSED)

    assert (await send(line, message(DR, PATIENT), PATIENT)).startswith("250")


async def test_the_webmails_door_refuses_the_same(tmp_path: Path) -> None:
    async with webmail(tmp_path) as site:
        doctor = await site.mail.mailbox(DOCTOR)
        raw = headed(PERSON).replace(DR.encode(), DOCTOR.encode())

        async def submit(*recipients: str) -> object:
            return await site.mail.submissions.submit(
                SubmissionMessage(raw, DOCTOR, recipients, doctor, AT, Via.WEBMAIL)
            )

        assert await submit(PERSON, OTHER_PATIENT) == Refused(ONE_PATIENT)
        sent = await site.mail.store.folders.get(doctor.id, "Sent")
        assert sent.uidnext == 1
        assert isinstance(await submit(PERSON), Submitted)
        assert await site.mail.inbox(OTHER_PATIENT) == []


def test_a_patients_domain_of_another_operator_counts() -> None:
    outline = scan(b"From: a@b.test\r\nTo: x@patients.autre.test\r\n\r\n")

    def theirs(address: Address) -> bool:
        return address.domain == "patients.autre.test"

    assert of_two_patients(["y@patients.autre.test"], outline, theirs)
    assert not of_two_patients(["x@patients.autre.test", "y@b.test"], outline, theirs)
