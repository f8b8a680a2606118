"""A hospital's software that speaks HL7 v2: python-hl7's client over MLLP, and the watched folder.

What it hands over is signed, sent, and filed into the patient's record; repeats change nothing.
Source: CI-SIS §HL7V2, MSS-FACTS §9.
"""

import asyncio
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hl7
import pytest
import tomli_w
from hl7.client import MLLPClient

from record_bridge.formats.hl7v2_zam import AckKind, BusinessAck
from tests.support.clients import imap, record, until
from tests.support.hl7 import Mdm
from tests.support.hl7_software import Software, listening
from tests.support.hl7_zam import parse_zam
from tests.support.ports import free_port
from tests.support.reports import discharge_letter, unique_root
from tests.support.site import DemoSite

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("hl7") / "site")
    settings = tomllib.loads((made.root / "pli.toml").read_text())
    structure = made.demo["patients"][0]["structure"]
    settings["hl7v2"] = {structure: {"port": free_port(), "folder": str(made.root / "hl7")}}
    (made.root / "pli.toml").write_text(tomli_w.dumps(settings))
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def door(site: DemoSite) -> int:
    settings = tomllib.loads((site.root / "pli.toml").read_text())
    (door,) = settings["hl7v2"].values()
    return int(door["port"])


@pytest.fixture
def patient(site: DemoSite) -> Mapping[str, Any]:
    person: Mapping[str, Any] = site.demo["patients"][0]
    return person


def letter(patient: Mapping[str, Any], name: str) -> bytes:
    """A letter of the structure itself: its custodian is who runs the software."""
    return discharge_letter(patient, name).replace(b"1750000026", b"1750000018")


def order(site: DemoSite, patient: Mapping[str, Any], name: str, **more: Any) -> Mdm:
    more.setdefault("recipients", [("RCT", site.demo["practitioners"][0]["address"])])
    return Mdm(letter(patient, name), patient["ins"], patient["oid"], control=name, **more)


def tell(door: int, *messages: Mdm) -> list[tuple[str, str, str]]:
    """Send over one connection; give MSA-1, ERR-3.1 and ERR-5.1 of each answer."""
    answers = []
    with MLLPClient("127.0.0.1", door) as client:
        for message in messages:
            answer = hl7.parse(client.send_message(message.encode()).decode().strip("\x0b\x1c\r"))
            assert str(answer["MSA"][0][2]) == message.control
            errors = [str(each) for each in answer if str(each[0]) == "ERR"]
            fields = errors[0].split("|") if errors else [""] * 6
            code, local = fields[3].partition("^")[0], fields[5].partition("^")[0]
            answers.append((str(answer["MSA"][0][1]), code, local))
    return answers


def subjects(site: DemoSite, person: Mapping[str, Any]) -> int:
    with imap(site, person) as box:
        _, (count,) = box.select("INBOX", readonly=True)
        return int(count)


def test_a_document_over_mllp_is_sent_filed_and_answered(
    site: DemoSite, door: int, patient: Mapping[str, Any]
) -> None:
    first = order(site, patient, "hl7-1", wishes=["DESTMSSANTEPAT"])

    assert tell(door, first) == [("AA", "", "")]
    site.wait_idle()
    held = record(site, patient)
    assert unique_root("hl7-1") in held
    doctor = site.demo["practitioners"][0]
    assert subjects(site, doctor) == 1

    # No answer reached the hospital, so it asks again under another control identifier.
    again = order(site, patient, "hl7-1", wishes=["DESTMSSANTEPAT"])
    assert tell(door, again, again) == [("AA", "", "")] * 2
    site.wait_idle()
    assert subjects(site, doctor) == 1
    assert record(site, patient).keys() == held.keys()


def test_what_cannot_be_taken_is_answered_with_its_code_and_the_next_one_is_taken(
    site: DemoSite, door: int, patient: Mapping[str, Any]
) -> None:
    other = site.demo["patients"][2]
    wrong = Mdm(letter(patient, "hl7-2"), other["ins"], other["oid"], control="hl7-2",
                recipients=[("RCT", site.demo["practitioners"][0]["address"])])  # fmt: skip
    stranger = order(site, patient, "hl7-3", recipients=[("RCT", "dr@nowhere.test")])
    nobody = order(
        site, patient, "hl7-4",
        recipients=[("RCT", "jamais." + site.demo["practitioners"][0]["address"])],
    )  # fmt: skip
    good = order(site, patient, "hl7-5")

    assert tell(door, wrong, stranger, nobody, good) == [
        ("AE", "103", "904"), ("AE", "103", ""), ("AE", "103", ""), ("AA", "", ""),
    ]  # fmt: skip
    site.wait_idle()
    held = record(site, patient)
    assert unique_root("hl7-5") in held
    assert not {unique_root(f"hl7-{n}") for n in (2, 3, 4)} & held.keys()
    assert "ZZCANARY" not in site.log()


def test_a_client_that_sends_no_blocks_is_cut_off(door: int) -> None:
    with MLLPClient("127.0.0.1", door) as client:
        client.socket.settimeout(10)
        client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.socket.recv(100) == b""


def test_a_file_is_taken_answered_and_moved(
    site: DemoSite, patient: Mapping[str, Any], tmp_path: Path
) -> None:
    folder = site.root / "hl7"
    until((folder / "in").is_dir, "the folder")
    files = {
        "good": order(site, patient, "hl7-6").encode(),
        "bad": order(site, patient, "hl7-7", recipients=[]).encode(),
        "nonsense": b"hello",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        shutil.move(tmp_path / name, folder / "in" / f"{name}.hl7")
    (folder / "in" / "half-written.tmp").write_bytes(b"MSH|")

    until(lambda: [p.name for p in (folder / "in").iterdir()] == ["half-written.tmp"], "the sweep")
    assert b"\rMSA|AA|hl7-6" in (folder / "out" / "good.ack").read_bytes()
    assert b"\rMSA|AE|hl7-7" in (folder / "out" / "bad.ack").read_bytes()
    assert sorted(p.name for p in (folder / "refused").iterdir()) == ["bad.hl7", "nonsense.hl7"]
    assert [p.name for p in (folder / "done").iterdir()] == ["good.hl7"]
    site.wait_idle()
    assert unique_root("hl7-6") in record(site, patient)


def test_an_acknowledgement_asked_for_comes_back_by_the_folder(
    site: DemoSite, door: int, patient: Mapping[str, Any]
) -> None:
    asked = order(site, patient, "hl7-8", wishes=["ACK_RECEPTION", "ACK_LECTURE_MSS"])
    assert tell(door, asked) == [("AA", "", "")]

    out = site.root / "hl7" / "out"
    until(lambda: len([*out.glob("PLI-ZAM-*.hl7")]) == 2, "what it is told")
    told = [parse_zam(path.read_bytes())[1] for path in sorted(out.glob("PLI-ZAM-*.hl7"))]
    doctor = site.demo["practitioners"][0]["address"]
    assert told == [
        BusinessAck(AckKind.RECEPTION, "hl7-8", doctor, True),
        BusinessAck(AckKind.READING, "hl7-8", doctor, True),
    ]


async def test_an_acknowledgement_asked_for_comes_back_over_mllp_where_the_settings_say(
    tmp_path: Path,
) -> None:
    made = DemoSite.create(tmp_path / "site")
    patient, port = made.demo["patients"][0], free_port()
    async with listening(Software()) as software:
        door = {"port": port, "acknowledge": f"127.0.0.1:{software.port}"}
        settings = tomllib.loads((made.root / "pli.toml").read_text())
        settings["hl7v2"] = {patient["structure"]: door}
        (made.root / "pli.toml").write_text(tomli_w.dumps(settings))
        await asyncio.to_thread(made.start)
        asked = order(made, patient, "hl7-9", wishes=["ACK_RECEPTION", "ACK_LECTURE_MSS"])

        answered = await asyncio.to_thread(tell, port, asked)
        await asyncio.to_thread(until, lambda: len(software.heard) == 2, "what it is told")

        assert await asyncio.to_thread(made.stop) == 0
    assert answered == [("AA", "", "")]
    doctor = made.demo["practitioners"][0]["address"]
    told = [parse_zam(str(each).encode())[1] for each in software.heard]
    assert told == [
        BusinessAck(AckKind.RECEPTION, "hl7-9", doctor, True),
        BusinessAck(AckKind.READING, "hl7-9", doctor, True),
    ]
