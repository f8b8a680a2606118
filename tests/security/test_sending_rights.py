"""Nobody writes under another's name, and nobody relays: the two matrices, against listeners.

Source: threats S12 and S16; RFC 6409 §6.1, RFC 5322 §3.6.2.
"""

import pytest

from mailserver.delivery.errors import Refused
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from tests.support.mail_site import (
    BOB,
    DR,
    OURS,
    Line,
    MailSite,
    operator_line,
)
from tests.support.sending_forms import (
    BEFORE_MAIL,
    DENIED,
    FORMS,
    HEADER,
    HONEST_RECIPIENTS,
    NOT_LISTED,
    RELAYS,
)
from tests.support.submitting import client, send, stored

DESK = f"secretariat@{OURS}"


def filled(text: str) -> str:
    return text.format(own=DR, bob=BOB, domain=OURS, upper=OURS.upper())


def whole(header: str, number: int) -> bytes:
    return (
        f"{filled(header)}\r\nTo: <{DESK}>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{number}@client.test>\r\n\r\ntext\r\n"
    ).encode()


@pytest.mark.parametrize("listener", ["587", "465"])
async def test_thirty_forms_of_anothers_address_have_no_success(
    site: MailSite, listener: str
) -> None:
    line = await client(site, listener)

    told = {
        form.name: await send(line, filled(form.path), whole(form.header, number), DESK)
        for number, form in enumerate(FORMS)
    }

    assert len(FORMS) == 30
    assert told == {form.name: form.reply for form in FORMS}
    assert stored(site) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("listener", ["587", "465"])
async def test_the_honest_neighbour_of_each_form_is_taken(site: MailSite, listener: str) -> None:
    line = await client(site, listener)

    told = {
        form.name: (await send(line, filled(form.honest_path), whole(form.honest, number), DESK))[
            :9
        ]
        for number, form in enumerate(FORMS)
    }

    assert told == {form.name: "250 2.0.0" for form in FORMS}
    assert len(await site.inbox(DESK)) == len(FORMS)
    for number in range(len(FORMS)):
        (author,) = [
            row for row in (await site.raw(DESK, number)).split(b"\r\n") if row[:5] == b"From:"
        ]
        assert author == f"From: {DR}".encode()


def as_page(site: MailSite, form: str, number: int) -> SubmissionMessage:
    return SubmissionMessage(
        whole(form, number), DR, (DESK,), site.mailboxes[DR], site.now(), Via.WEBMAIL
    )


async def test_the_forms_have_no_success_by_way_of_the_webmail(site: MailSite) -> None:
    """A page builds its message itself; the authority it passes is the same."""
    submit = site.services.submissions.submit
    told: dict[str, str] = {}
    for number, form in enumerate(HEADER):
        outcome = await submit(as_page(site, form.header, number))
        assert isinstance(outcome, Refused)
        reply = outcome.reply
        told[form.name] = f"{reply.code} {reply.enhanced} {reply.text}"
    assert stored(site) == (0, 0, 0, 0, 0)

    assert told == {form.name: form.reply for form in HEADER}
    for number, form in enumerate(HEADER):
        assert isinstance(await submit(as_page(site, form.honest, number)), Submitted)


async def _relayed(site: MailSite, who: str) -> dict[str, str]:
    """Try each form on a connection of its own: strangers are soon hung up on."""
    told: dict[str, str] = {}
    for name, (path, _) in RELAYS.items():
        line, sender = await _said_by(site, who)
        await line.say(f"MAIL FROM:<{sender}>")
        told[name] = (await line.say(f"RCPT TO:{filled(path)}")).strip()
        line.close()
    return told


def expected(who: str) -> dict[str, str]:
    """Say what each form is told, by who says it."""
    told = {name: reply for name, (_, reply) in RELAYS.items()}
    if who in {"a stranger", "nobody"}:
        return dict.fromkeys(told, BEFORE_MAIL)
    if who == "a client":
        return {name: NOT_LISTED if reply == DENIED else reply for name, reply in told.items()}
    return told


WHO = ("a stranger", "operator A", "operator A, null sender", "operator B", "a client", "nobody")


async def _said_by(site: MailSite, who: str) -> tuple[Line, str]:
    match who:
        case "a stranger":
            return await operator_line(site, None), "x@evil.test"
        case "operator A":
            return await operator_line(site, site.world.a), "service@chu-a.mssante.test"
        case "operator A, null sender":
            return await operator_line(site, site.world.a), ""
        case "operator B":
            return await operator_line(site, site.world.b), "service@lab-b.mssante.test"
        case "a client":
            return await client(site, "465"), DR
        case _:
            line = await Line.open(site.submissions, site.world.client_tls(None))
            await line.say("EHLO client.test")
            return line, DR


@pytest.mark.parametrize("who", WHO)
async def test_twenty_three_forms_of_relaying_have_no_success(site: MailSite, who: str) -> None:
    told = await _relayed(site, who)

    assert len(told) == 23
    assert told == expected(who)
    assert stored(site) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("who", ["operator A", "operator A, null sender", "a client"])
@pytest.mark.parametrize("path", HONEST_RECIPIENTS)
async def test_honest_recipients_are_taken(site: MailSite, who: str, path: str) -> None:
    line, sender = await _said_by(site, who)
    await line.say(f"MAIL FROM:<{sender}>")

    assert (await line.say(f"RCPT TO:{filled(path)}")).startswith("250")
