"""Threat S10 whole, on both front ends: brute force, oracles and what crashed others.

How long the answers take is measured by ``scripts/prove_login_timing``. Source: threats S10;
CVE-2025-59028 (bad base64 hurt other logins), CVE-2026-27856 (a comparison that told by its time).
"""

import asyncio
import time
from base64 import b64encode
from pathlib import Path

import pytest

from mailserver.fairness import Fairness
from mailserver.imap.shared import ImapLimits
from mailserver.settings import FairUse
from mailserver.smtp.conversation import Deadlines
from mailserver.smtp.protocol import MAX_LOGINS
from tests.support.login_line import FRONTS, Door, LoginLine, doors
from tests.support.scram import ScramClient

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def door(front: str, tmp_path: Path):
    async with doors(front, tmp_path) as opened:
        yield opened


def plain(login: str, secret: str) -> bytes:
    return f"\0{login}\0{secret}".encode()


async def test_s10_a_thousand_wrong_logins_are_hardly_looked_at(
    front: str, tmp_path: Path
) -> None:
    fairness = Fairness(FairUse().limits(), time.monotonic)
    async with doors(front, tmp_path, fairness=fairness) as door:
        wrong = later = 0
        while wrong + later < 1000:
            line = await door.line()
            for _ in range(4):
                said = str(await line.begin("PLAIN", plain(door.login, "x" * 24)))
                wrong += line.refused(said)
                later += line.later(said)
            await door.forget()
        line = await door.line()
        right = str(await line.begin("PLAIN", plain(door.login, door.secret)))

        assert wrong == FairUse().failed_logins_per_account
        assert wrong + later == 1000
        assert line.later(right), "from there not even the right one"
        assert fairness.may_log_in("192.0.2.9", door.login), "its owner elsewhere still gets in"


async def test_s10_names_are_tried_from_one_address_only_so_often(
    front: str, tmp_path: Path
) -> None:
    fairness = Fairness(FairUse().limits(), time.monotonic)
    async with doors(front, tmp_path, fairness=fairness) as door:
        wrong = 0
        for number in range(25):
            line = await door.line()
            for inner in range(4):
                login = f"nobody{number}.{inner}@nowhere.test"
                wrong += line.refused(str(await line.begin("PLAIN", plain(login, "x"))))
            await door.forget()

        assert wrong == FairUse().failed_logins_per_address


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
async def test_s10_five_wrong_logins_end_the_connection_whatever_the_mechanism(
    door: Door, mechanism: str
) -> None:
    line = await door.line()
    said = ""
    for _ in range(MAX_LOGINS):
        assert await line.open()
        said = str(await wrong_login(line, door.login, mechanism))
    assert line.refused(said) or said.startswith("421")
    assert not await line.open()


async def wrong_login(line: LoginLine, login: str, mechanism: str) -> bytes | str:
    if mechanism == "PLAIN":
        return await line.begin("PLAIN", plain(login, "x" * 24))
    if mechanism == "LOGIN":
        await line.begin("LOGIN", login.encode())
        return await line.answer(b"x" * 24)
    client = ScramClient(login, "x" * 24)
    challenge = await line.begin("SCRAM-SHA-256", client.first())
    assert isinstance(challenge, bytes)
    return await line.answer(client.final(challenge))


def test_s10_each_wrong_login_waits_twice_as_long() -> None:
    smtp, imap = Deadlines(), ImapLimits()
    waits = [smtp.login_delay_s * 2**n for n in range(1, MAX_LOGINS + 1)]
    assert waits == [0.4, 0.8, 1.6, 3.2, 6.4]
    assert [imap.login_delay_s * 2**n for n in range(imap.login_attempts)] == [
        0.5, 1.0, 2.0, 4.0, 8.0,
    ]  # fmt: skip


async def test_s10_the_wait_grows_on_the_wire(door: Door) -> None:
    line = await door.line()
    took = []
    for _ in range(4):
        started = time.perf_counter()
        await line.begin("PLAIN", plain(door.login, "x" * 24))
        took.append(time.perf_counter() - started)
    assert all(spent >= 0.001 * 2**number for number, spent in enumerate(took))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
@pytest.mark.parametrize(
    "response",
    ["!!!!", "A", "YQ", "YQ=", "YQ==YQ==", "YR==", "=", "====", " ", "\xe9", "a" * 9000],
)
async def test_s10_malformed_base64_opens_nothing_and_hurts_nobody(
    door: Door, mechanism: str, response: str
) -> None:
    other = await door.line()
    challenge = await other.begin("LOGIN", door.login.encode())
    line = await door.line()
    await line.begin(mechanism)

    said = await line.say(response)

    assert said[:3] in {"501", "500", "BAD", "* B"}, said
    assert challenge == b"Password:"
    assert other.accepted(str(await other.answer(door.secret.encode()))), "CVE-2025-59028"
    fresh = await door.line()
    assert fresh.accepted(str(await fresh.begin("PLAIN", plain(door.login, door.secret))))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
async def test_s10_an_abort_at_any_step_leaves_nothing_behind(door: Door, mechanism: str) -> None:
    binding = b"\x02" * 32 if mechanism.endswith("PLUS") else None
    first = {"PLAIN": None, "LOGIN": door.login.encode()}.get(
        mechanism, ScramClient(door.login, "x", binding).first()
    )
    for initial in (None, first):
        line = await door.line()
        assert isinstance(await line.begin(mechanism, initial), bytes)
        assert line.cancelled(await line.say("*"))
        assert not await line.is_in()
        assert line.accepted(str(await line.begin("PLAIN", plain(door.login, door.secret))))


async def test_s10_a_star_as_initial_response_cancels(door: Door) -> None:
    line = await door.line()
    assert line.cancelled(await line.say(line.command("PLAIN", "*")))


async def test_s10_an_empty_plain_response_is_malformed(door: Door) -> None:
    line = await door.line()
    assert line.malformed(await line.say(line.command("PLAIN", "=")))
    assert not await line.is_in()


@pytest.mark.parametrize(
    "login", ["é@a.test", "用户@a.test", "\u202edr@a.test", "\x7f", "a" * 255]
)
async def test_s10_an_eight_bit_name_is_an_unknown_one(door: Door, login: str) -> None:
    line = await door.line()
    for _ in range(2):
        said = str(await line.begin("PLAIN", plain(login, door.secret)))
        assert line.refused(said)
    client = ScramClient(login, "x")
    challenge = await line.begin("SCRAM-SHA-256", client.first())
    assert isinstance(challenge, bytes)
    assert line.refused(str(await line.answer(client.final(challenge))))


@pytest.mark.parametrize("octets", [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"dr\0x", b"a" * 256])
async def test_s10_a_name_that_is_no_text_is_malformed(door: Door, octets: bytes) -> None:
    line = await door.line()
    assert line.malformed(str(await line.begin("PLAIN", b"\0" + octets + b"\0secret")))
    await line.begin("LOGIN")
    assert line.malformed(str(await line.answer(octets)))


async def test_s10_unknown_names_and_wrong_secrets_are_told_the_same(door: Door) -> None:
    said: dict[str, set[str]] = {"PLAIN": set(), "LOGIN": set(), "SCRAM-SHA-256": set()}
    for login in (door.login, "nobody@nowhere.test", "nobody"):
        for mechanism, answers in said.items():
            line = await door.line()
            answers.add(str(await wrong_login(line, login, mechanism)))
    assert {len(answers) for answers in said.values()} == {1}
    assert len(set.union(*said.values())) == 1


async def test_s10_nothing_is_offered_or_taken_before_tls(door: Door) -> None:
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "EXTERNAL"):
        line = await door.plain_line()
        assert line.announced == set()
        said = await line.say(
            line.command(mechanism, b64encode(plain(door.login, door.secret)).decode())
        )
        assert line.needs_tls(said), "before the response is even decoded"


async def test_s10_many_at_once_wait_for_themselves_alone(door: Door) -> None:
    """Wrong logins that are slowed do not hold up the right one of somebody else."""
    lines = [await door.line() for _ in range(20)]

    async def fail(line: LoginLine) -> None:
        for _ in range(4):
            await line.begin("PLAIN", plain(door.login, "x" * 24))

    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(fail(line))
        own = await door.line()
        async with asyncio.timeout(5):
            said = await own.begin("PLAIN", plain(door.other, door.secret))
    assert own.accepted(str(said))
