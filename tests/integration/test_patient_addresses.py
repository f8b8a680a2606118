"""A patient's address exists while the identity is qualified and beyond doubt (RULES §11)."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.test_smtp_submission import client, send
from tests.integration.test_webmail_sent import deliver
from tests.support.mail_site import (
    DR,
    PATIENT,
    A,
    MailSite,
    message,
    operator_line,
)
from tests.support.mailsite import AT
from tests.support.mailsite import PATIENT as PERSON
from tests.support.ports import free_base
from tests.support.site import pli, pli_result
from tests.support.webmail import token_of, webmail

INS = ("--ins", "285037599001728", "--oid", "1.2.250.1.213.1.4.10")
ADDRESS = "285037599001728@patients.example.org"
TRAITS = (
    "--family", "DURAND", "--given", "CAMILLE", "--birth-date", "1985-03-14", "--sex", "F",
)  # fmt: skip
NOT_QUALIFIED = ("provisoire", "recuperee", "validee")


@pytest.fixture
def practice(tmp_path: Path) -> str:
    """A site with one structure and nobody registered."""
    root = str(tmp_path / "site")
    pli("init", root, "--base-port", str(free_base()))
    pli(
        "structure", "add", root, "cabinet", "--name", "Cabinet", "--organization",
        "75000001600015", "--domain", "cabinet.example.org", "--patient-domain",
        "patients.example.org",
    )  # fmt: skip
    return root


def change(root: str, *what: str) -> str:
    """Change the identity; give what is said of its address."""
    return pli("patient", "change", root, *INS, "--reason", "vu", *what, "--json")["address"]


@pytest.mark.timeout(180)
def test_a_mailbox_opens_when_the_identity_is_qualified_and_closes_when_it_is_not(
    practice: str,
) -> None:
    added = pli("patient", "add", practice, *INS, *TRAITS, "--status", NOT_QUALIFIED[0], "--json")
    assert added["address"] is None
    for status in NOT_QUALIFIED[1:]:
        assert change(practice, "--status", status) is None

    made = pli(
        "patient", "change", practice, *INS, "--reason", "pièce vue", "--status", "qualifiee",
        "--login", "camille", "--json",
    )  # fmt: skip
    assert made["address"] == ADDRESS
    assert made["webmail_login"] == "camille"
    assert made["filed"] == 0

    assert change(practice, "--doubtful") is None
    assert change(practice, "--certain", "--fictitious") is None
    assert change(practice, "--real", "--status", "validee") is None
    assert change(practice, "--status", "qualifiee") == ADDRESS


@pytest.mark.timeout(180)
def test_who_is_not_qualified_has_no_login_and_is_not_registered_twice(practice: str) -> None:
    add = ("patient", "add", practice, *INS, *TRAITS)
    code, _, errors = pli_result(*add, "--status", "validee", "--login", "camille")
    assert code == 1
    assert "only a qualified identity" in errors
    assert pli("patient", "list", practice, "--json") == []

    said = pli(*add, "--status", "validee")
    assert "No mailbox: the identity is not qualified" in said
    for again in (add, (*add, "--status", "validee")):
        code, _, errors = pli_result(*again)
        assert code == 1
        assert "registered" in errors


async def close(site: MailSite) -> None:
    await site.store.accounts.close_mailbox(site.mailboxes[PATIENT].id, datetime.now(UTC))


async def test_a_closed_address_is_as_one_that_never_was_at_every_port(site: MailSite) -> None:
    theirs, ours = await operator_line(site, site.world.a), await client(site)
    sender = f"service@{A}"
    assert (await send(theirs, message(sender, PATIENT), PATIENT, sender=sender)).startswith("250")
    await close(site)

    for line, writer in ((theirs, sender), (ours, DR)):
        assert (await line.say(f"MAIL FROM:<{writer}>")).startswith("250")
        closed = await line.say(f"RCPT TO:<{PATIENT}>")
        nobody = await line.say(f"RCPT TO:<0{PATIENT}>")
        assert closed == nobody
        assert closed.startswith("550 5.1.1")
        await line.say("RSET")
    assert len(await site.inbox(PATIENT)) == 1

    await site.store.accounts.reopen_mailbox(site.mailboxes[PATIENT].id)
    assert (await send(ours, message(DR, PATIENT), PATIENT)).startswith("250")
    assert len(await site.inbox(PATIENT)) == 2


async def test_a_patient_logged_in_before_writes_no_more_from_a_closed_address(
    site: MailSite,
) -> None:
    line = await client(site, PATIENT)
    assert (await send(line, message(PATIENT, DR), DR, sender=PATIENT)).startswith("250")
    await close(site)

    assert (await line.say(f"MAIL FROM:<{PATIENT}>")).startswith("553 5.7.1")
    again = message(PATIENT, DR, "encore")
    assert (await send(line, again, DR, sender="")).startswith("553 5.7.1")
    assert len(await site.inbox(DR)) == 1


async def test_a_message_in_progress_is_judged_anew(site: MailSite) -> None:
    line = await client(site)
    await line.say(f"MAIL FROM:<{DR}>")
    assert (await line.say(f"RCPT TO:<{PATIENT}>")).startswith("250")
    await close(site)

    assert (await line.say("DATA")).startswith("354")
    line.write(message(DR, PATIENT) + b".\r\n")
    assert (await line.reply()).startswith("550 5.1.1")
    assert await site.inbox(PATIENT) == []


async def test_the_webmail_reads_a_closed_mailbox_and_says_why_it_cannot_write(tmp_path):
    async with webmail(tmp_path) as site, site.signed_in() as reader:
        path = await deliver(site)
        page = (await reader.get(path)).text
        nonce = page.split('name="nonce" value="', 1)[1].split('"', 1)[0]
        form = {"csrf": token_of(page), "nonce": nonce, "text": "Merci"}
        mailbox = await site.mail.mailbox(PERSON)
        await site.mail.store.accounts.close_mailbox(mailbox.id, AT)

        answered = await reader.post(f"{path}/repondre", data=form)
        assert answered.status_code == 422
        assert "votre identité doit être vérifiée" in answered.text
        page = (await reader.get(path)).text
        assert "votre identité doit être vérifiée" in page
        assert "Bonjour" in page
        assert "/repondre" not in page

        await site.mail.store.accounts.reopen_mailbox(mailbox.id)
        assert (await reader.post(f"{path}/repondre", data=form)).status_code == 303
