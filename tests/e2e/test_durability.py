"""A 250 stands for a commit that is on disk, whatever happens the next instant."""

import re
import shutil
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.support.durability import kill_under_load
from tests.support.queue_durability import kill_the_queue
from tests.support.reports import report_maker
from tests.support.site import DemoSite


@pytest.mark.timeout(300)
def test_every_acknowledged_message_survives_kills_of_the_whole_server(tmp_path: Path) -> None:
    site = DemoSite.create(tmp_path / "site")

    outcome = kill_under_load(site, report_maker(site), kills=5, seed=20261122)

    assert outcome.missing == []
    assert outcome.repeated == []
    assert outcome.acknowledged > 0
    assert outcome.audit_exit == 0, outcome.audit


@pytest.mark.timeout(200)
def test_what_accounts_sent_outward_survives_kills_and_what_is_noted_is_not_sent_again(
    tmp_path: Path,
) -> None:
    outcome = kill_the_queue(DemoSite.create(tmp_path / "site"), kills=4, seed=20261123)

    assert outcome.missing == []
    assert outcome.again == []
    assert outcome.accepted > 0
    assert outcome.audit_exit == 0, outcome.audit


_CALL = re.compile(r"^(?P<pid>\d+)\s+(?P<name>\w+)\(\d+<(?P<target>(?:->|[^>])*)>")
_RESUMED = re.compile(r"^(?P<pid>\d+)\s+<\.\.\. (?P<name>fsync|fdatasync) resumed>")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.timeout(180)
def test_the_mail_database_is_synced_between_the_last_data_and_the_250(tmp_path: Path) -> None:
    site = DemoSite.create(tmp_path / "site")
    trace = tmp_path / "trace"
    site.start(
        prefix=[
            "strace",
            "-f",
            "-qq",
            "-yy",
            "-s",
            "0",
            "-o",
            str(trace),
            "--seccomp-bpf",
            "-e",
            "trace=fsync,fdatasync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg",
        ]
    )
    try:
        local_port = _send_one(site, report_maker(site)("<strace@hopital-nord.mssante.test>"))
    finally:
        site.stop()

    happened = _happened(trace.read_text(errors="replace").splitlines(), local_port)
    # The last read of DATA, a sync of the mail database from its start to its end, the 250.
    assert re.search(r"r[^rw]*s[^rw]*S[^rw]*w[^w]*$", happened), happened[-40:]


def _happened(lines: list[str], local_port: int) -> str:
    """Reduce a trace: r and w on our connection, s and S where a sync of the database starts, ends."""
    happened = ""
    syncing: set[str] = set()
    for line in lines:
        resumed = _RESUMED.match(line)
        if resumed is not None and resumed["pid"] in syncing:
            syncing.remove(resumed["pid"])
            happened += "S"
            continue
        call = _CALL.match(line)
        if call is None:
            continue
        if call["name"] in {"fsync", "fdatasync"} and "mail.sqlite3" in call["target"]:
            happened += "s"
            if "unfinished" in line:
                syncing.add(call["pid"])
            else:
                happened += "S"
        elif f":{local_port}]" in call["target"]:
            happened += "r" if call["name"].startswith(("read", "recv")) else "w"
    return happened


def _send_one(site: DemoSite, raw: bytes) -> int:
    """Send one message by hand, stop at the 250 without QUIT; give our own port."""
    plain = socket.create_connection(("127.0.0.1", site.port("smtp")), timeout=60)
    local_port: int = plain.getsockname()[1]
    _read_reply(plain)
    plain.sendall(b"EHLO strace.test\r\n")
    _read_reply(plain)
    plain.sendall(b"STARTTLS\r\n")
    _read_reply(plain)
    with site.operator_tls().wrap_socket(plain, server_hostname="localhost") as secure:
        sender = site.demo["operators"][0]["sender"]
        recipient = site.demo["practitioners"][0]["address"]
        for line in (
            "EHLO strace.test",
            f"MAIL FROM:<{sender}>",
            f"RCPT TO:<{recipient}>",
            "DATA",
        ):
            secure.sendall(line.encode() + b"\r\n")
            assert _read_reply(secure)[:1] in b"23", line
        secure.sendall(raw.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n")
        assert _read_reply(secure).startswith(b"250")
        time.sleep(0.5)
        # Closed without QUIT, so that the reply to DATA is the server's last write.
        secure.shutdown(socket.SHUT_RDWR)
    return local_port


def _read_reply(connection: socket.socket | ssl.SSLSocket) -> bytes:
    data = b""
    while True:
        data += connection.recv(65536)
        lines = data.split(b"\r\n")
        if len(lines) > 1 and lines[-2][3:4] == b" ":
            return lines[-2]
