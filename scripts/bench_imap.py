"""IMAP beside Debian's Dovecot: the same mailboxes, the same commands, in the same run.

Both store with fsync and speak plain IMAP on the loopback address. Every round measures one after
the other; medians and the ratio Pli to Dovecot are printed (above 1: Pli is faster).
"""

import argparse
import asyncio
import os
import pwd
import random
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_peer import USER

from tests.support.site import DemoSite, free_base

BIG, BODIES, SMALL = "Grand", "Corps", "Petit"
_CHUNK = 1 << 20
_EXISTS = re.compile(rb"\* (\d+) EXISTS\r\n")
_LETTERS = "etaoinsrlucdpm"


@dataclass(frozen=True)
class Server:
    """A server to measure.

    Attributes:
        login: user and password.
        pid: whose process tree is the server's.
        tls_port: 0 when it has none.
    """

    name: str
    port: int
    login: tuple[str, str]
    pid: int
    tls_port: int = 0


class Client:
    """One connection; reads no more of the answers than it must."""

    def __init__(self) -> None:
        self._count = 0
        self._held = b""

    async def open(self, server: Server, *, tls: ssl.SSLContext | None = None) -> "Client":
        """Connect and log in."""
        port = server.tls_port if tls else server.port
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=_CHUNK, ssl=tls, server_hostname="localhost" if tls else None
        )
        await self.until(b"\r\n")
        await self.run('LOGIN "{}" "{}"'.format(*server.login))
        return self

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark; what follows is kept."""
        pieces = [self._held]
        tail = self._held
        while mark not in tail:
            piece = await self.reader.read(_CHUNK)
            if not piece:
                raise ConnectionError("the server closed the connection")
            pieces.append(piece)
            tail = tail[-len(mark) :] + piece
        whole = b"".join(pieces)
        at = whole.index(mark) + len(mark)
        self._held = whole[at:]
        return whole[:at]

    def send(self, command: str) -> bytes:
        """Write one command; gives its tag."""
        self._count += 1
        tag = b"a%d" % self._count
        self.writer.write(tag + b" " + command.encode() + b"\r\n")
        return tag

    async def end(self, tag: bytes) -> bytes:
        """Read to the end of a command's answer, which is the last thing sent; it must be OK."""
        pieces = [self._held]
        last = self._held
        start = b"\r\n" + tag + b" "
        while not (last.endswith(b"\r\n") and (start in last or last.startswith(start[2:]))):
            piece = await self.reader.read(_CHUNK)
            if not piece:
                raise ConnectionError("the server closed the connection")
            pieces.append(piece)
            last = last[-200:] + piece if len(piece) < 200 else piece
        self._held = b""
        if tag + b" OK" not in last:
            raise RuntimeError(last[-200:].decode(errors="replace"))
        return b"".join(pieces)

    async def run(self, command: str) -> bytes:
        """Run one command."""
        return await self.end(self.send(command))

    async def append(self, box: str, message: bytes) -> None:
        """APPEND with a synchronising literal, as clients do."""
        tag = self.send(f"APPEND {box} {{{len(message)}}}")
        await self.until(b"\r\n")
        self.writer.write(message + b"\r\n")
        await self.end(tag)

    async def select(self, box: str) -> int:
        """SELECT; gives how many messages there are."""
        found = _EXISTS.search(await self.run(f"SELECT {box}"))
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Let it go."""
        self.writer.transport.abort()


def message(number: int, octets: int) -> bytes:
    """Write a letter as professionals do, text and a small HTML part."""
    chance = random.Random(number)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(3, 9))) for _ in range(60)]
    lines = []
    size = 0
    while size < octets // 2:
        line = " ".join(chance.choices(words, k=11))
        lines.append(line)
        size += len(line) + 2
    if number % 50 == 0:
        lines.append("dosage de troponine")
    text = "\r\n".join(lines)
    return (
        f"From: Docteur {words[0]} <sender{number % 100}@bench.test>\r\n"
        f"To: <alice@bench.test>\r\nSubject: Compte rendu {words[1]} {number}\r\n"
        f"Date: Mon, 02 Nov 2026 10:{number % 60:02}:00 +0100\r\n"
        f"Message-ID: <{number}.{octets}@bench.test>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>\r\n--b--\r\n"
    ).encode()


async def fill(server: Server, box: str, count: int, octets: int) -> None:
    """Put messages into a new folder over several connections."""
    clients = [await Client().open(server) for _ in range(8)]
    await clients[0].run(f"CREATE {box}")
    numbers = iter(range(count))

    async def some(client: Client) -> None:
        for number in numbers:
            await client.append(box, message(number, octets))

    await asyncio.gather(*map(some, clients))
    for client in clients:
        client.close()


Measure = Callable[[Server], Awaitable[float]]


async def timed(work: Awaitable[object]) -> float:
    """Give the seconds that something takes."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


def appends(connections: int, count: int) -> Measure:
    """Messages of 3 kB a second over so many connections."""

    async def measure(server: Server) -> float:
        clients = [await Client().open(server) for _ in range(connections)]
        numbers = iter(range(count))

        async def some(client: Client) -> None:
            for number in numbers:
                await client.append(SMALL, message(number, 3000))

        seconds = await timed(asyncio.gather(*map(some, clients)))
        for client in clients:
            client.close()
        return count / seconds

    return measure


def command(box: str, text: str, per: str = "messages") -> Measure:
    """Messages a second, or runs a second, of one command on a selected folder."""

    async def measure(server: Server) -> float:
        client = await Client().open(server)
        count = await client.select(box)
        seconds = await timed(client.run(text))
        client.close()
        return (count if per == "messages" else 1) / seconds

    return measure


def logins(count: int) -> Measure:
    """Connect, LOGIN, SELECT and LOGOUT, one after the other, a second."""

    async def measure(server: Server) -> float:
        async def all_of_them() -> None:
            for _ in range(count):
                client = await Client().open(server)
                await client.select(BODIES)
                client.close()

        return count / await timed(all_of_them())

    return measure


def stores(count: int) -> Measure:
    """STORE one message at a time, a second."""

    async def measure(server: Server) -> float:
        client = await Client().open(server)
        await client.select(BODIES)
        await client.run(r"STORE 1:* -FLAGS.SILENT (\Flagged)")

        async def all_of_them() -> None:
            for number in range(1, count + 1):
                await client.run(rf"STORE {number} +FLAGS.SILENT (\Flagged)")

        rate = count / await timed(all_of_them())
        client.close()
        return rate

    return measure


def idle_delay(count: int) -> Measure:
    """One over the median seconds from an APPEND's OK to EXISTS at a client in IDLE."""

    async def measure(server: Server) -> float:
        idler, writer = await Client().open(server), await Client().open(server)
        await idler.select(SMALL)
        tag = idler.send("IDLE")
        await idler.until(b"+ ")
        await idler.until(b"\r\n")
        delays = []
        for number in range(count):
            waiting = asyncio.create_task(idler.until(b" EXISTS\r\n"))
            await writer.append(SMALL, message(number, 3000))
            told = time.perf_counter()
            await waiting
            delays.append(max(time.perf_counter() - told, 1e-5))
            await asyncio.sleep(0.05)
        idler.writer.write(b"DONE\r\n")
        await idler.end(tag)
        idler.close()
        writer.close()
        return 1 / statistics.median(delays)

    return measure


ROWS: tuple[tuple[str, str, Measure], ...] = (
    ("APPEND 3 kB, 1 connection", "/s", appends(1, 150)),
    ("APPEND 3 kB, 8 connections", "/s", appends(8, 600)),
    ("FETCH FLAGS of 10,000", "messages/s", command(BIG, "FETCH 1:* (FLAGS)")),
    (
        "FETCH ENVELOPE BODYSTRUCTURE of 10,000",
        "messages/s",
        command(BIG, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"),
    ),
    ("FETCH BODY[] of 2,000 x 20 kB", "messages/s", command(BODIES, "FETCH 1:* (BODY.PEEK[])")),
    ("connect, LOGIN, SELECT", "/s", logins(60)),
    ("SEARCH FROM of 10,000", "/s", command(BIG, "SEARCH FROM sender17@bench.test", "runs")),
    ("SEARCH TEXT of 10,000", "/s", command(BIG, "SEARCH TEXT troponine", "runs")),
    ("STORE one by one", "/s", stores(200)),
    ("IDLE delay (1/s)", "/s", idle_delay(10)),
)


@contextmanager
def dovecot(folder: Path) -> Iterator[Server]:
    """Run Dovecot on Maildir until the block ends."""
    try:
        owner = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
        owner = pwd.getpwnam(USER)
    mail = folder / "mail"
    mail.mkdir(parents=True)
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "dovecot.conf"
    config.write_text(
        f"""
base_dir = {folder}/run
state_dir = {folder}/state
protocols = imap
listen = 127.0.0.1
log_path = {folder}/log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{mail}/%n
mail_uid = {USER}
mail_gid = {USER}
first_valid_uid = 1
mail_max_userip_connections = 0
default_process_limit = 3000
default_client_limit = 6000
passdb {{
  driver = static
  args = password=bench
}}
userdb {{
  driver = static
  args = uid={USER} gid={USER} home={mail}/%n allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
    )
    subprocess.run(["dovecot", "-c", str(config)], check=True)
    try:
        _wait_for(port)
        pid_file = folder / "run" / "master.pid"
        while not pid_file.exists():
            time.sleep(0.1)
        yield Server("Dovecot", port, ("alice", "bench"), int(pid_file.read_text()))
    finally:
        subprocess.run(["doveadm", "-c", str(config), "stop"], check=False, capture_output=True)


@contextmanager
def pli_site(folder: Path) -> Iterator[tuple[Server, DemoSite]]:
    """Run a demo site whose plain port lets the loopback address log in."""
    site = DemoSite.create(folder / "site", base=free_base())
    settings = tomllib.loads((site.root / "pli.toml").read_text())
    settings["plaintext_on_loopback"] = True
    (site.root / "pli.toml").write_text(tomli_w.dumps(settings))
    site.start()
    try:
        person = site.demo["practitioners"][0]
        yield (
            Server(
                "Pli",
                site.port("imap"),
                (person["address"], person["password"]),
                site.pid,
                site.port("imaps"),
            ),
            site,
        )
    finally:
        site.stop()


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


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


async def idle_memory(
    server: Server, count: int, tls: ssl.SSLContext | None, *, log_in: bool = True
) -> float:
    """Give the kB that each of so many connections costs, in IDLE or before LOGIN."""
    before = memory_kb(server.pid)
    gate = asyncio.Semaphore(20)
    held: list[Client] = []

    async def one() -> None:
        async with gate:
            client = Client()
            if log_in:
                await client.open(server, tls=tls)
                await client.select("INBOX")
                client.send("IDLE")
                await client.until(b"+ ")
            else:
                client.reader, client.writer = await asyncio.open_connection(
                    "127.0.0.1", server.port
                )
                client.writer.write(b"a1 XYZ" * 100)
            held.append(client)

    results = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    failed = [each for each in results if isinstance(each, BaseException)]
    if failed:
        print(f"  {len(failed)} of {count} connections refused ({type(failed[0]).__name__})")
    await asyncio.sleep(2)
    after = memory_kb(server.pid)
    for client in held:
        client.close()
    await asyncio.sleep(1)
    return (after - before) / max(1, len(held))


async def compare(servers: list[Server], rounds: int, wanted: str) -> None:
    """Measure every row on every server, turn by turn, and print medians and ratios."""
    print(f"{'':42}{'Pli':>12}{'Dovecot':>12}{'ratio':>8}")
    for name, unit, measure in ROWS:
        if wanted and wanted.lower() not in name.lower():
            continue
        figures: dict[str, list[float]] = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                figures[server.name].append(await measure(server))
        medians = [statistics.median(each) for each in figures.values()]
        told = "".join(f"{median:12,.1f}" for median in medians)
        ratio = f"{medians[0] / medians[1]:8.2f}" if len(medians) > 1 else ""
        print(f"{name:42}{told}{ratio}  {unit}", flush=True)


async def flatness(server: Server, sizes: list[int]) -> None:
    """Print what one message costs in folders of several sizes."""
    for size in sizes:
        await fill(server, f"F{size}", size, 1500)
        client = await Client().open(server)
        await client.select(f"F{size}")
        runs = [await timed(client.run("FETCH 1:* (FLAGS ENVELOPE)")) for _ in range(5)]
        client.close()
        print(f"FETCH FLAGS ENVELOPE, {size:>7,} in the folder: "
              f"{statistics.median(runs) / size * 1e6:.1f} us a message", flush=True)  # fmt: skip


async def measure(options: argparse.Namespace, server: Server, peer: Server | None) -> None:
    """Run what was asked for."""
    servers = [server] if peer is None else [server, peer]
    for each in servers:
        for box, count, octets in ((BIG, 10_000, 3000), (BODIES, 2000, 20_000), (SMALL, 1, 3000)):
            await fill(each, box, count, octets)
    await compare(servers, options.rounds, options.row)
    if options.idle:
        plain = await idle_memory(server, options.idle, None)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        secure = await idle_memory(server, options.idle, context)
        silent = await idle_memory(server, 1000, None, log_in=False)
        print(f"IDLE, {options.idle} connections: {plain:.1f} kB plain, {secure:.1f} kB TLS each")
        print(f"before LOGIN, 1,000 connections amid a command: {silent:.1f} kB each")
        if peer is not None:
            print(f"Dovecot, 200 in IDLE: {await idle_memory(peer, 200, None):.1f} kB plain each")
    if options.flat:
        await flatness(server, [1000, 10_000, options.flat])


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(prog="scripts/bench imap", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--row", default="", help="only rows whose name holds this")
    parser.add_argument("--idle", type=int, default=0, help="memory of so many idle connections")
    parser.add_argument("--flat", type=int, default=0, help="cost up to a folder of this size")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    folder = Path(tempfile.mkdtemp(prefix="pli-bench-"))
    folder.chmod(0o755)
    try:
        with pli_site(folder) as (server, _):
            if options.no_peer:
                asyncio.run(measure(options, server, None))
            else:
                with dovecot(folder / "dovecot") as peer:
                    asyncio.run(measure(options, server, peer))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
