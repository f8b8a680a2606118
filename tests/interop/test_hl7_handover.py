"""Filed documents handed to a structure's own software: python-hl7's MLLP server, and the folder.

Source: CI-SIS §HL7-LPS, MSS-FACTS §9.
"""

import asyncio
import sqlite3
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import pytest

from certs.tls import client_context, server_context
from record_bridge.handover import HandoverTarget
from record_bridge.mdn import parse as parse_mdn
from tests.support.bridge_site import (
    SENDER,
    SPEC,
    BridgeSite,
    bridge_site,
    letter,
    register,
    report,
    running,
)
from tests.support.hl7_software import Software, accept, listening, refuse
from tests.support.mail_site import World

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[BridgeSite]:
    async with bridge_site(where, tmp_path) as opened:
        yield opened


def handing_over(site: BridgeSite, software: Software, **changes: Any) -> BridgeSite:
    address = None if "folder" in changes else ("127.0.0.1", software.port)
    values = {"address": address, "tls": None, "folder": None, "answers": False} | changes
    target = HandoverTarget(structure_id="cabinet", **values)
    return BridgeSite(site.mail, replace(site.settings, handovers=(target,)), site.imaps)


def rows(site: BridgeSite, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(site.settings.record)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def answers(site: BridgeSite) -> list[int | None]:
    """The codes of the MDNs that left for the sender."""
    found = []
    for item in await site.mail.store.queue.items():
        row = rows_of_mail(site, item.id)
        report_ = parse_mdn(row)
        assert report_ is not None
        found.append(report_.code)
    return found


def rows_of_mail(site: BridgeSite, recipient_id: int) -> bytes:
    connection = sqlite3.connect(site.mail.root / "mail.sqlite3")
    try:
        (blob, prefix) = connection.execute(
            "SELECT m.blob_id, m.prefix FROM outbox_message AS m JOIN outbox_recipient AS r"
            " ON r.message_id = m.id WHERE r.id = ?",
            (recipient_id,),
        ).fetchone()
        chunks = connection.execute(
            "SELECT body FROM blob_chunk WHERE id >= ? AND id < ? ORDER BY id",
            (blob << 16, (blob + 1) << 16),
        ).fetchall()
        return bytes(prefix) + b"".join(row[0] for row in chunks)
    finally:
        connection.close()


async def test_new_replaced_and_withdrawn_documents_are_told_as_t02_t10_and_t04(
    site: BridgeSite,
) -> None:
    first, second = report(1), report(2, replaces="1.2.250.1.213.999.1")
    async with listening(Software()) as software:
        site = handing_over(site, software)
        async with running(site) as bridge:
            await register(bridge)
            await site.receive(letter(1, first))
            await until(lambda: len(software.heard) == 1)
            await site.receive(letter(2, second))
            await until(lambda: len(software.heard) == 2)
            await bridge.table()["record_withdraw"](
                {"document": "1.2.250.1.213.999.2", "reason": "erreur", "actor": "test"}
            )
            await until(lambda: rows(site, _ACCEPTED) == [(3,)])

    assert software.kinds() == [f"MDM^{event}^MDM_T02" for event in ("T02", "T10", "T04")]
    for message, document, ids in zip(
        software.heard, (first, second, second), (("1", ""), ("2", "1"), ("2", "")), strict=True
    ):
        assert str(message["MSH"][0][21]) == "1.1^CISIS_CDA_HL7_LPS"
        assert str(message["MSH"][0][18]) == "UNICODE UTF-8"
        numbers = [str(message["TXA"][0][place]).rpartition(".")[2] for place in (12, 13)]
        assert tuple(numbers) == ids
        assert b64decode(str(message["OBX"][0][5][0][4])) == document
        assert str(message["PID"][0][3]).startswith("299019900000036^^^ASIP-SANTE-INS-NIR&")
    assert [str(each["OBX"][0][11]) for each in software.heard] == ["F", "C", "D"]
    assert (
        rows(site, "SELECT kind FROM trail_event WHERE kind LIKE '%handed_over'")
        == [("document_handed_over",)] * 3
    )


_ACCEPTED = "SELECT count(*) FROM handover WHERE state = 'accepted'"


async def test_a_document_moved_to_another_patient_is_taken_back_and_told_anew(
    site: BridgeSite,
) -> None:
    other = replace(SPEC, ins="279039999000275", family="ZZAUTRE")
    async with listening(Software()) as software:
        site = handing_over(site, software)
        async with running(site) as bridge:
            await register(bridge)
            await register(bridge, other)
            await site.receive(letter(1, report(1)))
            await until(lambda: rows(site, _ACCEPTED) == [(1,)])
            await bridge.table()["record_refile"](
                {"document": "1.2.250.1.213.999.1", "reason": "mauvais patient", "actor": "test",
                 "structure": "cabinet", "ins": other.ins, "oid": other.oid}
            )  # fmt: skip
            await until(lambda: rows(site, _ACCEPTED) == [(3,)])

    assert software.kinds() == [f"MDM^{event}^MDM_T02" for event in ("T02", "T04", "T02")]
    numbers = [str(each["PID"][0][3]).partition("^")[0] for each in software.heard]
    assert numbers == [SPEC.ins, SPEC.ins, other.ins]
    assert len({str(each["MSH"][0][10]) for each in software.heard}) == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [("AA", None), ("904", 904), ("900", 900), ("17", 906)],
)
async def test_the_software_answers_the_sender_once_when_the_structure_chose_so(
    site: BridgeSite, said: str, told: int | None
) -> None:
    async with listening(Software(accept if said == "AA" else refuse(said))) as software:
        site = handing_over(site, software, answers=True)
        async with running(site) as bridge:
            await register(bridge)
            await site.receive(letter(1, report(1), notify_to=SENDER))
            await until(lambda: rows(site, _SENT))
            assert await answers(site) == [told]

            # What is handed over again later settles nothing more with the sender.
            software.answer = accept
            await bridge.table()["handover_retry"]({"actor": "test"})
            await until(lambda: rows(site, _ACCEPTED) == [(1,)])
            await until(lambda: bridge.idle)
            assert await answers(site) == [told]


_SENT = "SELECT 1 FROM reply_outbox WHERE state = 'sent'"


async def test_without_that_choice_the_sender_is_told_what_became_of_it_here(
    site: BridgeSite,
) -> None:
    async with listening(Software(refuse("902"))) as software:
        site = handing_over(site, software)
        async with running(site) as bridge:
            await register(bridge)
            await site.receive(letter(1, report(1), notify_to=SENDER))
            await until(lambda: rows(site, _SENT) and software.heard)
            assert await answers(site) == [None]
            await until(lambda: rows(site, "SELECT 1 FROM handover WHERE state = 'refused'"))
            (row,) = await bridge.table()["handover_list"]({"actor": "test"})
            assert (row["state"], row["code"]) == ("refused", "902")


async def test_a_software_that_is_down_dies_or_asks_for_later_gets_the_same_octets_again(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("record_bridge.handover.BACKOFF_S", (0.05,))
    monkeypatch.setattr("record_bridge.handover.POLL_S", 0.05)
    monkeypatch.setattr("record_bridge.handover_queue.SCHEDULE_S", (0.05,))
    turns = iter([None, refuse("", "207"), accept])

    def moody(message: hl7.Message) -> str | None:
        turn = next(turns)
        return None if turn is None else turn(message)

    async with listening(Software(moody)) as software:
        port = software.port
    site = handing_over(site, software)
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1), notify_to=SENDER))
        await until(lambda: rows(site, "SELECT 1 FROM handover"))
        assert not (await bridge.commands.idle({}))["idle"]
        software.port = port
        async with listening(software):
            await until(lambda: rows(site, _ACCEPTED) == [(1,)])

    assert len(software.heard) == 3
    assert len({str(message) for message in software.heard}) == 1


async def test_what_was_filed_before_the_hand_over_began_is_not_handed_over(
    site: BridgeSite,
) -> None:
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1)))
        await until(lambda: rows(site, "SELECT 1 FROM document"))
    async with listening(Software()) as software:
        handed = handing_over(site, software)
        async with running(handed):
            await site.receive(letter(2, report(2)))
            await until(lambda: software.heard)
    async with listening(software), running(handed):
        await site.receive(letter(3, report(3)))
        await until(lambda: len(software.heard) == 2)
    assert [str(each["TXA"][0][12])[-1] for each in software.heard] == ["2", "3"]


async def test_a_choice_taken_back_lets_the_held_answers_go(site: BridgeSite) -> None:
    async with listening(Software()) as software:
        pass  # nobody listens there any more
    async with running(handing_over(site, software, answers=True)) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1), notify_to=SENDER))
        await until(lambda: rows(site, "SELECT 1 FROM reply_outbox WHERE state = 'held'"))
    async with running(site):
        await until(lambda: rows(site, _SENT))
        assert await answers(site) == [None]


async def test_tls_asks_both_sides_for_a_certificate(site: BridgeSite, where: World) -> None:
    theirs = server_context(where.ours.cert, where.ours.key, client_ca=where.ca)
    ours = client_context(
        where.ca, where.a.cert, where.a.key, check_hostname=False, server_name="localhost"
    )
    async with listening(Software(), theirs) as software:
        site = handing_over(site, software, tls=ours)
        async with running(site) as bridge:
            await register(bridge)
            await site.receive(letter(1, report(1)))
            await until(lambda: rows(site, _ACCEPTED) == [(1,)])


async def test_a_folder_gives_messages_and_takes_answers(site: BridgeSite, tmp_path: Path) -> None:
    folder = tmp_path / "lps"
    site = handing_over(site, Software(), folder=folder, answers=True)
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1), notify_to=SENDER))
        await until(lambda: [*folder.glob("out/*.hl7")])
        (path,) = folder.glob("out/*.hl7")
        message = hl7.parse(path.read_bytes().decode())
        path.unlink()  # the software took it
        assert path.stem == str(message["MSH"][0][10])
        (folder / "in" / f"{path.stem}.ack").write_text("nonsense")
        (folder / "in" / f"{path.stem}.ack").write_text(refuse("903")(message))
        await until(lambda: rows(site, _SENT))

        assert await answers(site) == [903]
    assert not [*folder.glob("in/*"), *folder.glob("out/*.hl7")]
