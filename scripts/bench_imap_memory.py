"""What connections cost a server in memory, for ``scripts/bench imap``."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench_imap_client import Client
from bench_imap_servers import Server

Opened = Callable[[Server], Awaitable[Client]]


async def idle(server: Server, *, tls: ssl.SSLContext | None = None) -> Client:
    """Open a connection that waits in IDLE."""
    client = await Client().open(server, tls=tls)
    await client.select("INBOX")
    client.send("IDLE")
    await client.until(b"+ ")
    return client


async def hostile(server: Server, *, octets: bytes) -> Client:
    """Open a connection that says some octets and never ends its line."""
    client = Client()
    client.reader, client.writer = await asyncio.open_connection("127.0.0.1", server.port)
    await client.until(b"\r\n")
    client.writer.write(octets)
    return client


async def held_memory(server: Server, count: int, opened: Opened) -> float:
    """Give the kB that each of so many connections costs; those refused are said."""
    await (await idle(server)).stop()  # what the first login loads is nobody's cost
    before = memory_kb(server.pid)
    gate = asyncio.Semaphore(20)

    async def one() -> Client:
        async with gate:
            return await opened(server)

    results = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    held = [each for each in results if isinstance(each, Client)]
    if len(held) < count:
        print(f"  {count - len(held)} of {count} connections were refused")
    await asyncio.sleep(2)
    after = memory_kb(server.pid)
    for client in held:
        client.close()
    return (after - before) / max(1, len(held))


def memory_kb(root: int) -> int:
    """Give the proportional set size of a process and its descendants, in kB."""
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
            pending += [int(child) for task in tasks for child in task.read_text().split()]
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:")
    return total
