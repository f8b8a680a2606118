"""Threats X7, X8 and X11 to X14 end to end, and the list of tests for each of X1 to X14.

Source: RULES §4, RULES §6, RULES §7, RULES §8; threats X1 to X14.
"""

import ast
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from record_bridge.formats.xds_metadata import Code
from record_bridge.model import Viewer
from record_bridge.queries import RecordQueries
from tests.support.cda import CdaSpec, acts, cda, follow_up
from tests.support.record import (
    DOCTOR,
    PATIENT_ADDRESS,
    Record,
    message,
    open_test_record,
    received,
    report,
)
from tests.support.webmail import webmail
from tests.support.xdm import mail, package

ROOT = Path(__file__).parents[2]
INDEX = tomllib.loads((Path(__file__).parent / "record_threats.toml").read_text("utf-8"))
ACTIVE_PDF = b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\n%%EOF\n"


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        await opened.register()
        yield opened


# --- the index -------------------------------------------------------------------------------


def test_every_threat_of_the_bridge_has_tests() -> None:
    assert list(INDEX) == [f"X{number}" for number in range(1, 15)]
    assert all(threat["tests"] for threat in INDEX.values())


@pytest.mark.parametrize("named", sorted({t for x in INDEX.values() for t in x["tests"]}))
def test_each_named_test_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert function in names or (not function and any(n.startswith("test_") for n in names))


# --- rendering -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        "<table onmouseover='x()'><tbody><tr><td>a</td></tr></tbody></table>",
        "<linkHtml href='javascript:alert(1)'>a</linkHtml>",
        "<linkHtml href='java&#x09;script:alert(1)'>a</linkHtml>",
        "<linkHtml href='data:text/html,a'>a</linkHtml>",
        "<content styleCode='background:url(https://evil.test/)'>a</content>",
        "<paragraph>&lt;img src=x onerror=alert(1)&gt;</paragraph>",
        "<renderMultiMedia referencedObject='https://evil.test/x.svg'/>",
    ],
)
async def test_x7_a_document_shows_text_and_runs_nothing(tmp_path: Path, payload: str) -> None:
    sections = (
        f"<component><section><title>T</title><text>{payload}</text></section></component>",
    )
    async with webmail(tmp_path) as site:
        key = await site.file(CdaSpec(narrative="", sections=sections))
        async with site.signed_in() as client:
            answer = await client.get(f"/dossier/document/{key}")

    page = answer.text.lower()
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for active in ("<script", "onmouseover=", "javascript:", "data:", "evil.test", "<img src=x"):
        assert active not in page


async def test_x8_an_active_pdf_is_a_flagged_download(tmp_path: Path) -> None:
    async with webmail(tmp_path) as site:
        key = await site.file(CdaSpec(pdf=ACTIVE_PDF))
        async with site.signed_in() as client:
            page = await client.get(f"/dossier/document/{key}")
            given = await client.get(f"/dossier/document/{key}/fichier/0")

    assert "éléments actifs" in page.text
    assert given.content == ACTIVE_PDF
    assert given.headers["content-disposition"].startswith("attachment")
    assert given.headers["x-content-type-options"] == "nosniff"


# --- replacement and masking -----------------------------------------------------------------


async def test_x11_nobody_but_its_author_replaces_or_unmasks_a_document(record: Record) -> None:
    first = "1.2.250.1.213.999.1"
    masked = package(report(1), confidentiality=(Code("N"), Code("MASQUE_PS")))
    await record.one(received(mail(masked), DOCTOR, number=1))

    by_another = report(2, replaces=first)
    other = await record.one(message(2, by_another, sender="x@operateur-b.test", dn="CN=b"))
    stale = [await record.one(message(n, report(n, replaces=first))) for n in (3, 4)]

    assert other.keywords == {"$Quarantined"}
    assert record.rows("SELECT code FROM quarantine ORDER BY id") == [("901",), ("900",)]
    assert [result.keywords for result in stale] == [{"$Filed"}, {"$Quarantined"}]
    shown = record.rows("SELECT unique_id, visibility, status FROM document ORDER BY id")
    assert shown[0] == (first, "awaiting_release masked_ps", "superseded")


async def test_x12_an_invisible_result_sent_to_its_patient_is_nowhere(record: Record) -> None:
    content = cda(CdaSpec(acts=acts(follow_up("20270101"))))
    zipped = package(content, confidentiality=(Code("N"), Code("INVISIBLE_PATIENT")))

    result = await record.one(received(mail(zipped), DOCTOR, PATIENT_ADDRESS))

    queries = await RecordQueries.open(record.path, lambda: record.now)
    own = Viewer("patient", "1")
    assert result.keywords == {"$Filed", "$Held"}  # the message itself stays out of the mailbox
    assert await queries.documents(1, own, superseded=True) == []
    assert await queries.categories(1, own) == []
    assert await queries.agenda(1, own) == []
    assert await queries.accesses(1, own) == []
    await queries.close()


# --- agenda, origin --------------------------------------------------------------------------


async def test_x13_titles_of_the_agenda_are_text_and_years_are_bounded(record: Record) -> None:
    poisoned = acts(follow_up("99990101"), follow_up("20270101"))
    await record.one(message(1, report(1, acts=poisoned), to=(DOCTOR, PATIENT_ADDRESS)))

    rows = record.rows("SELECT status, day FROM agenda_entry ORDER BY ordinal")

    assert rows == [("to_schedule", None), ("proposed", "2027-01-01")]


async def test_x14_a_document_of_another_organisation_is_marked_and_a_wrong_author_waits(
    record: Record,
) -> None:
    of_another = report(1, custodian="1990000009")
    elsewhere = await record.one(message(1, of_another, dn="CN=a, OU=1990000001"))
    forged = mail(package(report(2)), message_id="<f@x.test>", sender="chef@ailleurs.test")
    wrong = await record.one(received(forged, DOCTOR, dn="CN=a", number=2))

    assert elsewhere.keywords == {"$Filed"}
    assert record.rows("SELECT marks FROM document") == [("other_sender",)]
    assert wrong.keywords == {"$Quarantined"}
    assert record.rows("SELECT code FROM quarantine WHERE receipt = 'R00000002'") == [("906",)]
