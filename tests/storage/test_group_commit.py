"""The writer's groups: one transaction, and one call into the loop, for all that waited."""

import asyncio
import threading

from directory.database import Database
from tests.support.mailstore import open_practice


def _wait_for(_connection, gate: threading.Event) -> None:
    gate.wait(10)


def _number(_connection, number: int) -> int:
    return number


async def test_a_group_of_writes_wakes_its_callers_by_one_call_into_the_loop(
    tmp_path, monkeypatch
):
    async with open_practice(tmp_path) as site:
        database: Database = site.store._database
        loop = asyncio.get_running_loop()
        calls = []
        wake = loop.call_soon_threadsafe

        def counted(callback, *arguments, **options):
            calls.append(callback)
            return wake(callback, *arguments, **options)

        gate = threading.Event()
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        first = asyncio.ensure_future(database.write(_wait_for, gate))
        await asyncio.sleep(0.05)
        rest = [asyncio.ensure_future(database.write(_number, each)) for each in range(20)]
        await asyncio.sleep(0.05)
        gate.set()

        assert await asyncio.gather(*rest) == list(range(20))
        await first
        assert len(calls) == 2
