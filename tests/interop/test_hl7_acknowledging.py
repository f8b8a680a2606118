"""What a hospital's software is told of what it handed over: ZAM to python-hl7's MLLP server.

Source: CI-SIS §HL7V2 (2.1, business acknowledgements), MSS-FACTS §9.
"""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import hl7
import pytest

from certs.addresses import Address, Mailbox
from mailserver.hl7_acknowledging import Acknowledging, AckTarget
from mailserver.hl7_intake import Intake, IntakeParts, Outcome
from mailserver.hl7_mail import Door, HospitalOrder, to_order
from mailserver.store.business_acks import KEEP_FOR, MAX_TRIES
from mailserver.store.model import NO_FLAGS, FlagChange, FlagMode
from record_bridge.formats.hl7v2_zam import AckKind, BusinessAck
from tests.support.bridge_site import SPEC, BridgeSite, bridge_site, report
from tests.support.hl7 import Mdm
from tests.support.hl7_software import Software, accept, listening, refuse
from tests.support.hl7_zam import parse_zam
from tests.support.mail_site import APP, DR, OURS, PATIENTS, A, World
from tests.support.receipts import delivery_report, disposition_report

pytestmark = pytest.mark.timeout(60)

FAR = f"service@{A}"
BOTH = ("ACK_RECEPTION", "ACK_LECTURE_MSS")
LETTER = Mdm(report(1), SPEC.ins or "", recipients=[("RCT", DR), ("RCT", FAR)], wishes=BOTH)


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[BridgeSite]:
    async with bridge_site(where, tmp_path) as opened:
        yield opened


async def read(raw: bytes, door: Door, at: datetime) -> HospitalOrder:
    return to_order(raw, door, at)


@dataclass
class Structure:
    """The two ends of a structure's door, and what its software heard."""

    site: BridgeSite
    software: Software
    folder: Path | None = None

    async def hand_over(self, message: Mdm = LETTER) -> Outcome:
        mail = self.site.mail

        async def mailbox() -> Any:
            return mail.mailboxes[APP]

        door = Door(Mailbox("Cabinet", Address("dossier", OURS)), PATIENTS, "2.25.1")
        parts = IntakeParts(
            door, mail.services.submissions, mailbox, read, mail.now, mail.store.business_acks.keep
        )
        return (await Intake(parts).accept(message.encode())).outcome

    async def sweep(self) -> list[BusinessAck]:
        """Let what is due go; give what the software heard by it."""
        before = len(self.software.heard)
        address = None if self.folder else ("127.0.0.1", self.software.port)
        target = AckTarget("cabinet", address, None, self.folder)
        # A new one each time, as after a crash: it remembers nothing.
        await Acknowledging(self.site.mail.store.business_acks, target, self.site.mail.now).sweep()
        heard = self.software.heard[before:]
        return [parse_zam(str(each).encode())[1] for each in heard]

    async def reports(self, write: Any, *said: str) -> None:
        """The far operator reports on the message."""
        (message_id,) = self.rows("SELECT DISTINCT message_id FROM sent_recipient")[0]
        await self.site.receive(write(FAR, *said, about=message_id, sender=FAR), APP)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.site.mail.root / "mail.sqlite3")
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()


@pytest.fixture
async def structure(site: BridgeSite) -> AsyncIterator[Structure]:
    async with listening(Software()) as software:
        yield Structure(site, software)


def received(address: str, code: str = "") -> BusinessAck:
    return BusinessAck(AckKind.RECEPTION, "MSG1", address, not code, code)


def seen(address: str, code: str = "") -> BusinessAck:
    return BusinessAck(AckKind.READING, "MSG1", address, not code, code)


async def test_each_recipient_s_reception_and_reading_are_told_once(structure: Structure) -> None:
    assert await structure.hand_over() is Outcome.ACCEPTED
    assert await structure.sweep() == [received(DR)]

    await structure.reports(disposition_report, "quarantined", "902")
    assert await structure.sweep() == [received(FAR), seen(FAR, "902")]

    box = structure.site.mail.mailboxes[APP]
    folder = await structure.site.mail.store.folders.get(box.id, "INBOX")
    assert folder is not None
    first = (await structure.site.mail.store.messages.entries(folder.id))[0].uid
    words = frozenset({"$Filed"})
    await structure.site.mail.store.messages.store_flags(
        FlagChange(folder.id, (first,), FlagMode.ADD, NO_FLAGS, words, by_application=True)
    )
    assert await structure.sweep() == [seen(DR)]

    # Everything again, the hospital's own message included.
    assert await structure.hand_over(replace(LETTER, control="MSG2")) is Outcome.ACCEPTED
    await structure.reports(disposition_report, "quarantined", "902")
    assert await structure.sweep() == []

    headers = [each["MSH"][0] for each in structure.software.heard]
    assert [str(each[9]) for each in headers] == [
        f"ZAM^{event}^ZAM_Z01" for event in ("Z02", "Z02", "Z03", "Z03")
    ]
    assert {tuple(str(each[n]) for n in (3, 4, 5, 6, 11, 12, 18, 21)) for each in headers} == {
        ("PFI", "HOP", "DPI", "HOP", "P", "2.6", "UNICODE UTF-8", "2.1^CISIS_CDA_HL7_V2")
    }
    assert len({str(each[10]) for each in headers}) == 4
    assert all("ZZCANARY" not in str(each) for each in structure.software.heard)


async def test_a_failure_is_told_with_its_code_and_a_later_reading_all_the_same(
    structure: Structure,
) -> None:
    await structure.hand_over()
    await structure.sweep()
    await structure.reports(delivery_report, "failed", "5.1.1")
    assert await structure.sweep() == [received(FAR, "550")]
    await structure.reports(disposition_report, "displayed")
    assert await structure.sweep() == [received(FAR), seen(FAR)]


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        ((), []),
        (("ACK_RECEPTION",), [received(DR), received(FAR)]),
        (("ACK_LECTURE_MSS",), [seen(FAR)]),
        (("ACK_LECTURE",), [seen(FAR)]),
    ],
)
async def test_only_what_was_asked_for_is_told(
    structure: Structure, wishes: tuple[str, ...], told: list[BusinessAck]
) -> None:
    assert await structure.hand_over(replace(LETTER, wishes=wishes)) is Outcome.ACCEPTED
    await structure.reports(disposition_report, "displayed")
    assert await structure.sweep() == told


async def test_a_software_that_dies_gets_the_same_octets_again(structure: Structure) -> None:
    structure.software.answer = lambda _message: None
    await structure.hand_over()
    with pytest.raises(EOFError):
        await structure.sweep()
    assert await structure.sweep() == []  # not at once
    structure.software.answer = accept
    structure.site.mail.shift = timedelta(seconds=6)
    assert await structure.sweep() == [received(DR)]
    assert len({str(each) for each in structure.software.heard}) == 1
    assert await structure.sweep() == []


async def test_a_refusal_is_tried_again_and_given_up_in_the_end(structure: Structure) -> None:
    structure.software.answer = refuse("906")
    await structure.hand_over()
    for number in range(MAX_TRIES):
        assert structure.rows("SELECT state FROM business_ack") == [("waiting",)]
        structure.site.mail.shift = timedelta(hours=2 * number)
        assert await structure.sweep() == [received(DR)]
    assert structure.rows("SELECT state FROM business_ack") == [("given_up",)]
    structure.site.mail.shift = timedelta(days=1)
    assert await structure.sweep() == []


async def test_who_is_never_there_is_given_up_after_five_days(site: BridgeSite) -> None:
    async with listening(Software()) as software:
        pass  # nobody listens there any more
    structure = Structure(site, software)
    await structure.hand_over()
    for days, state in ((4, "waiting"), (6, "given_up")):
        site.mail.shift = timedelta(days=days)
        with pytest.raises(OSError):
            await structure.sweep()
        await site.mail.store.business_acks.give_up_old(site.mail.now())
        assert structure.rows("SELECT state FROM business_ack") == [(state,)]


async def test_an_order_leaves_after_a_year_with_what_was_told_of_it(
    structure: Structure,
) -> None:
    """Once it is gone a reading is told no more, and nothing is told again."""
    acks = structure.site.mail.store.business_acks
    await structure.hand_over()
    taken = structure.site.mail.now()
    await structure.reports(disposition_report, "displayed")
    rows = "SELECT (SELECT count(*) FROM hl7_order), (SELECT count(*) FROM business_ack)"

    await acks.forget(taken + KEEP_FOR + timedelta(days=1))
    assert structure.rows(rows)[0][0] > 0  # they are owed still
    await structure.sweep()
    (before,) = structure.rows(rows)
    await acks.forget(taken + KEEP_FOR - timedelta(days=1))
    assert structure.rows(rows) == [before]
    await acks.forget(taken + KEEP_FOR + timedelta(days=1))

    assert structure.rows(rows) == [(0, 0)]
    await structure.reports(disposition_report, "quarantined", "902")
    assert await structure.sweep() == []


async def test_what_the_record_set_aside_waits_for_the_code_its_answer_says(
    structure: Structure,
) -> None:
    await structure.hand_over(replace(LETTER, wishes=["ACK_LECTURE_MSS"]))
    await structure.reports(disposition_report, "quarantined")
    assert await structure.sweep() == []
    await structure.reports(disposition_report, "quarantined", "903")
    assert await structure.sweep() == [seen(FAR, "903")]


async def test_without_a_code_the_code_is_other_after_an_hour(structure: Structure) -> None:
    await structure.hand_over(replace(LETTER, wishes=["ACK_LECTURE_MSS"]))
    await structure.reports(disposition_report, "quarantined")
    structure.site.mail.shift = timedelta(minutes=59)
    assert await structure.sweep() == []
    structure.site.mail.shift = timedelta(minutes=61)
    assert await structure.sweep() == [seen(FAR, "906")]


async def test_a_folder_takes_them_where_nobody_listens(site: BridgeSite, tmp_path: Path) -> None:
    structure = Structure(site, Software(), tmp_path / "hl7")
    await structure.hand_over()
    await structure.sweep()
    (path,) = (tmp_path / "hl7" / "out").iterdir()
    assert parse_zam(path.read_bytes())[1] == received(DR)
    assert path.stem == str(hl7.parse(path.read_bytes().decode())["MSH"][0][10])
    path.unlink()
    await structure.sweep()
    assert not [*(tmp_path / "hl7" / "out").iterdir()]
