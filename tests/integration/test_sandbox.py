"""The worker pool: each way a call may end, and that the pool is whole after each."""

import asyncio
import enum
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certs import sandbox
from certs.errors import (
    MalformedCmsError,
    SandboxCrashError,
    SandboxError,
    SandboxTimeoutError,
)
from certs.sandbox import SandboxPool, Shared
from certs.sandbox_worker import INLINE_BYTES, dump
from certs.smime import sign
from certs.verdict import PathStatus
from tests.support import pki, sandboxed

HERE = "tests.support.sandboxed:"
NAMES = [
    "length",
    "octets",
    "verdict",
    "stranger",
    "hostile",
    "process_id",
    "spin",
    "wait",
    "crash",
    "eat",
    "refuse",
    "fail",
    "open_files",
    "environment",
]
FUNCTIONS = [HERE + name for name in NAMES] + ["certs.smime:verify_at"]
MEGABYTE = 1024 * 1024


def pool(size: int = 1, **options: object) -> SandboxPool:
    defaults = {"memory_bytes": 64 * MEGABYTE, "deadline_s": 5.0}
    return SandboxPool(size, functions=FUNCTIONS, **(defaults | options))


async def whole(workers: SandboxPool, size: int = 1) -> None:
    """Every worker of the pool answers, each from its own process."""
    results = await asyncio.gather(
        *(workers.run(HERE + "length", b"x" * n) for n in range(size * 3))
    )
    assert results == list(range(size * 3))


@pytest.mark.parametrize(
    "octets", [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 4 * MEGABYTE, 25 * MEGABYTE]
)
async def test_arguments_and_results_of_every_size_travel(octets):
    async with pool(memory_bytes=256 * MEGABYTE) as workers:
        assert await workers.run(HERE + "length", b"x" * octets, b"yz") == octets + 2
        assert await workers.run(HERE + "octets", octets) == b"\x5a" * octets


async def test_values_of_the_product_come_back_as_themselves():
    async with pool() as workers:
        assert await workers.run(HERE + "verdict") == sandboxed.verdict()


async def test_an_enum_travels_on_every_supported_python(monkeypatch):
    """Debian 12's 3.11.2 pickles an enum as a call of getattr, which no reader may accept."""

    def as_in_3_11_2(member: enum.Enum, _protocol: int) -> tuple[object, ...]:
        return getattr, (member.__class__, member.name)

    monkeypatch.setattr(enum.Enum, "__reduce_ex__", as_in_3_11_2)
    assert b"getattr" not in dump(PathStatus.EXPIRED)
    assert b"getattr" not in dump([sandboxed.verdict()])


async def test_a_shared_value_travels_once_for_each_worker(monkeypatch):
    spooled = []

    async def spool(value, descriptors):
        spooled.append(len(value))
        return await sandbox_spool(value, descriptors)

    sandbox_spool = sandbox._spool
    monkeypatch.setattr(sandbox, "_spool", spool)
    async with pool() as workers:
        shared = [Shared(b"x" * (MEGABYTE + n)) for n in range(12)]
        for _ in range(2):
            for n, each in enumerate(shared):
                assert await workers.run(HERE + "length", each) == MEGABYTE + n
        assert len(spooled) >= len(shared)
        spooled.clear()
        for _ in range(50):
            await workers.run(HERE + "length", shared[-1])
        assert spooled == []


async def test_a_signature_is_judged_in_a_worker():
    raw = sign(pki.message(), pki.signer(pki.seal()), at=pki.AT)
    async with pool() as workers:
        trust = Shared(pki.trust())
        for _ in range(3):
            verdict = await workers.run("certs.smime:verify_at", raw, trust, pki.AT)
            assert verdict.good
            assert verdict.path.status is PathStatus.TRUSTED


async def test_a_crash_ends_its_call_only_and_the_worker_is_replaced():
    async with pool(2) as workers:
        before = {await workers.run(HERE + "process_id") for _ in range(4)}
        calls = [workers.run(HERE + "wait", 0.3), workers.run(HERE + "crash")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[0] is None
        assert isinstance(results[1], SandboxCrashError)
        await whole(workers, 2)
        assert before


async def test_a_call_past_its_deadline_is_killed_and_its_worker_replaced():
    async with pool() as workers:
        first = await workers.run(HERE + "process_id")
        started = time.perf_counter()
        with pytest.raises(SandboxTimeoutError):
            await workers.run(HERE + "spin", deadline_s=0.3)
        assert time.perf_counter() - started < 2
        second = await workers.run(HERE + "process_id")
        assert first != second
        assert not Path(f"/proc/{first}").exists()
        await whole(workers)


async def test_a_call_that_uses_up_its_cpu_is_ended_and_one_that_waits_is_not():
    async with pool(cpu_s=0.3, deadline_s=20) as workers:
        for _ in range(2):
            assert await workers.run(HERE + "wait", 0.5) is None
            with pytest.raises(SandboxTimeoutError):
                await workers.run(HERE + "spin")
        await whole(workers)


async def test_a_call_just_inside_its_deadline_is_answered():
    async with pool(deadline_s=2.0) as workers:
        assert await workers.run(HERE + "wait", 0.2) is None


async def test_memory_is_bounded_and_its_exhaustion_replaces_the_worker():
    async with pool(memory_bytes=64 * MEGABYTE) as workers:
        assert await workers.run(HERE + "eat", 32 * MEGABYTE) == 32 * MEGABYTE
        for octets in (80 * MEGABYTE, 10_000 * MEGABYTE):
            with pytest.raises(SandboxCrashError):
                await workers.run(HERE + "eat", octets)
            await whole(workers)


async def test_an_error_of_the_product_is_raised_as_itself():
    async with pool() as workers:
        first = await workers.run(HERE + "process_id")
        with pytest.raises(MalformedCmsError):
            await workers.run(HERE + "refuse")
        assert await workers.run(HERE + "process_id") == first


async def test_another_error_shows_its_class_and_never_its_text():
    async with pool() as workers:
        with pytest.raises(SandboxError) as caught:
            await workers.run(HERE + "fail")

        assert caught.value.error_type == "ValueError"
        assert "ZZCANARY" not in f"{caught.value!s}{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize("name", ["hostile", "stranger"])
async def test_a_result_that_is_no_plain_value_is_not_unpickled(name):
    async with pool() as workers:
        with pytest.raises(SandboxCrashError):
            await workers.run(HERE + name)
        await whole(workers)


async def test_a_function_off_the_list_is_refused():
    async with pool() as workers:
        with pytest.raises(ValueError, match="list"):
            await workers.run("os:system", "true")


async def test_a_cancelled_call_frees_its_place():
    async with pool() as workers:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await workers.run(HERE + "wait", 4)
        await whole(workers)


async def test_a_worker_killed_while_idle_is_replaced_by_the_next_call():
    async with pool() as workers:
        os.kill(await workers.run(HERE + "process_id"), 9)
        await asyncio.sleep(0.05)
        with pytest.raises(SandboxCrashError):
            await workers.run(HERE + "length", b"")
        await whole(workers)


async def test_descriptors_do_not_leak_on_either_side():
    async with pool(memory_bytes=256 * MEGABYTE) as workers:
        await workers.run(HERE + "length", b"x" * MEGABYTE)
        ours = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        theirs = await workers.run(HERE + "open_files")
        for _ in range(20):
            await workers.run(HERE + "length", b"x" * MEGABYTE)
            await workers.run(HERE + "octets", MEGABYTE)

        assert await workers.run(HERE + "open_files") == theirs
        assert len(os.listdir("/proc/self/fd")) <= ours  # noqa: PTH208


async def test_a_worker_inherits_no_environment(monkeypatch):
    monkeypatch.setenv("PLI_SECRET", "ZZCANARY")
    async with pool() as workers:
        assert "ZZCANARY" not in str(await workers.run(HERE + "environment"))


async def test_workers_end_with_their_pool():
    async with pool(2) as workers:
        identities = {await workers.run(HERE + "process_id") for _ in range(4)}

    assert not [each for each in identities if Path(f"/proc/{each}").exists()]


async def test_a_pool_whose_functions_cannot_be_imported_does_not_open():
    with pytest.raises(SandboxCrashError):
        async with SandboxPool(1, functions=["certs.nowhere:nothing"]):
            pass


DYING = """
import asyncio, os, signal
from certs.sandbox import SandboxPool

async def play():
    async with SandboxPool(1, functions=["os:getpid", "time:sleep"], deadline_s=60) as workers:
        print(await workers.run("os:getpid"), flush=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(workers.run("time:sleep", 60))
            await asyncio.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(play())
"""


def test_a_busy_worker_dies_with_its_parent():
    done = subprocess.run(
        [sys.executable, "-c", DYING], capture_output=True, timeout=30, check=False
    )
    worker = int(done.stdout)

    until = time.monotonic() + 5
    while running(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not running(worker)


def running(identity: int) -> bool:
    try:
        state = Path(f"/proc/{identity}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_the_pool_works_under_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def play() -> None:
        async with pool(2, memory_bytes=256 * MEGABYTE) as workers:
            await whole(workers, 2)
            assert await workers.run(HERE + "length", b"x" * 25 * MEGABYTE) == 25 * MEGABYTE
            with pytest.raises(SandboxTimeoutError):
                await workers.run(HERE + "spin", deadline_s=0.2)
            with pytest.raises(SandboxCrashError):
                await workers.run(HERE + "crash")
            await whole(workers, 2)

    uvloop.run(play())
