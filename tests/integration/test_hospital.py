"""The hospital's tools against the real server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from certs.mime import find_named, scan
from mailserver.hospital import (
    RefusedReportError,
    SendRequest,
    TlsFailureError,
    send_report,
)
from mailserver.outbound.errors import SendError
from tests.support.cda import CdaSpec, PatientSpec, cda
from tests.support.mail_site import (
    APP,
    BOB,
    DR,
    OURS,
    PATIENT,
    A,
    MailSite,
    message,
)

SENDER = f"service@{A}"


@pytest.fixture
def request_of(site: MailSite) -> Callable[..., SendRequest]:
    def make(*recipients: str, document: bytes | None = None, **changes: object) -> SendRequest:
        file = site.root / "report.xml"
        file.write_bytes(cda() if document is None else document)
        party = changes.pop("party", site.world.a)
        facts: dict[str, object] = {
            "host": "localhost", "port": site.smtp, "ca": site.world.ca, "cert": party.cert,
            "key": party.key, "sender": SENDER, "recipients": recipients, "files": (file,),
        }  # fmt: skip
        return SendRequest(**(facts | changes))  # type: ignore[arg-type]  # fields a test names

    return make


Make = Callable[..., SendRequest]


async def test_a_report_reaches_its_reader_and_the_bridge(
    site: MailSite, request_of: Make
) -> None:
    result = await send_report(request_of(DR))

    assert result.any_accepted
    assert result.to_json()["recipients"][0]["reply"] == f"250 2.0.0 {result.receipt}"
    assert find_named(scan(await site.raw(DR)), "IHE_XDM.zip")
    assert len(await site.inbox(APP)) == 1


async def test_a_signed_report_is_signed(site: MailSite, request_of: Make) -> None:
    issued = site.world.pki.issue_seal(site.now(), SENDER, "CHU A")
    cert, key = site.root / "seal.pem", site.root / "seal.key"
    cert.write_bytes(issued.bundle)
    key.write_bytes(issued.key)

    result = await send_report(request_of(DR, smime_cert=cert, smime_key=key))

    assert result.any_accepted
    assert b"multipart/signed" in await site.raw(DR)


async def test_some_recipients_may_be_refused(site: MailSite, request_of: Make) -> None:
    result = await send_report(request_of(DR, f"nobody@{OURS}", BOB))

    assert [each.accepted for each in result.recipients] == [True, False, True]
    assert result.recipients[1].reply.startswith("550 5.1.1")
    assert result.any_accepted


async def test_none_accepted_is_said(site: MailSite, request_of: Make) -> None:
    result = await send_report(request_of(f"nobody@{OURS}"))

    assert not result.any_accepted
    assert result.to_json() == {
        "receipt": None,
        "recipients": [
            {
                "address": f"nobody@{OURS}",
                "accepted": False,
                "reply": "550 5.1.1 No such mailbox here",
            }
        ],
    }


async def test_another_operator_is_refused_for_this_domain(
    site: MailSite, request_of: Make
) -> None:
    result = await send_report(request_of(DR, party=site.world.b))

    assert not result.any_accepted
    assert result.recipients[0].reply.startswith("550 5.7.1")


@pytest.mark.parametrize("who", ["foreign", "personal"])
async def test_a_certificate_of_another_branch_is_a_tls_failure(
    site: MailSite, request_of: Make, who: str
) -> None:
    with pytest.raises(TlsFailureError):
        await send_report(request_of(DR, party=getattr(site.world, who)))


async def test_nobody_there_is_no_tls_failure(site: MailSite, request_of: Make) -> None:
    with pytest.raises(SendError):
        await send_report(request_of(DR, port=1))


async def test_many_reports_are_many_documents(site: MailSite, request_of: Make) -> None:
    result = await send_report(request_of(DR, repeat=7, connections=3))

    assert (result.sent, result.accepted) == (7, 7)
    assert len(await site.inbox(DR)) == 7
    assert len({detail.index.message_id for detail in await site.inbox(DR)}) == 7


async def test_each_report_may_have_a_connection_of_its_own(
    site: MailSite, request_of: Make
) -> None:
    result = await send_report(request_of(DR, repeat=4, connections=2, per_connection=1))

    assert result.accepted == 4


async def test_what_the_rules_forbid_is_sent_as_it_is_only(
    site: MailSite, request_of: Make
) -> None:
    two = cda(CdaSpec(patients=(PatientSpec(), PatientSpec(ins="279039999000275"))))

    with pytest.raises(RefusedReportError):
        await send_report(request_of(DR, document=two))
    assert (await send_report(request_of(DR, document=two, as_is=True))).any_accepted


async def test_an_archive_goes_as_it_is(site: MailSite, request_of: Make) -> None:
    archive = b"PK\x03\x04 not really"

    with pytest.raises(RefusedReportError):
        await send_report(request_of(DR, document=archive))
    assert (await send_report(request_of(DR, document=archive, as_is=True))).any_accepted


async def test_raw_octets_are_sent_as_they_are(site: MailSite, request_of: Make) -> None:
    raw = site.root / "raw.eml"
    raw.write_bytes(message(SENDER, DR))
    good = await send_report(request_of(DR, raw=raw))
    raw.write_bytes(message(SENDER, DR) + b"bare\nfeed\r\n")

    with pytest.raises(RefusedReportError):
        await send_report(request_of(DR, raw=raw))
    assert good.any_accepted
    assert (await site.raw(DR)).endswith(message(SENDER, DR))


async def test_a_report_to_the_patient_too_is_held_for_the_patient(
    site: MailSite, request_of: Make
) -> None:
    result = await send_report(request_of(DR, PATIENT))

    assert [each.accepted for each in result.recipients] == [True, True]
    assert not await site.inbox(PATIENT)


@pytest.mark.parametrize(
    "changes",
    [
        {"recipients": ("not an address",)},
        {"sender": "nobody"},
        {"smime_cert": Path(__file__), "smime_key": Path(__file__)},
    ],
)
async def test_what_cannot_be_written_is_refused_here(
    request_of: Make, changes: dict[str, object]
) -> None:
    with pytest.raises(RefusedReportError):
        await send_report(request_of(DR, **changes))


@pytest.mark.parametrize("path", [f"a>\r\nRCPT TO:<x@{A}", "a b@c.test", "é@c.test", "<a@c.test>"])
async def test_no_path_opens_a_command_of_its_own(
    site: MailSite, request_of: Make, path: str
) -> None:
    raw = site.root / "raw.eml"
    raw.write_bytes(message(SENDER, DR))

    with pytest.raises(RefusedReportError):
        await send_report(request_of(path, raw=raw))
    assert not await site.inbox(DR)
