"""Pli and Debian's Dovecot, set up in a temporary folder for one run of ``scripts/bench imap``.

Both speak plain IMAP on the loopback address and fsync what they store; Dovecot keeps Maildir and
runs as it is packaged but for what the comparison needs. Root is needed for Dovecot.
"""

import os
import pwd
import socket
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_peer import USER

from tests.support.ports import free_base, free_port
from tests.support.site import DemoSite


@dataclass(frozen=True)
class Server:
    """A server to measure.

    Attributes:
        login: user and password.
        pid: whose process tree is the server's.
        tls_port: 0 when it has none.
        database: Pli's, to see how far its search index is.
    """

    name: str
    port: int
    login: tuple[str, str]
    pid: int
    tls_port: int = 0
    database: Path | None = None


@contextmanager
def dovecot(folder: Path) -> Iterator[Server]:
    """Run Dovecot on Maildir until the block ends."""
    try:
        owner = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
        owner = pwd.getpwnam(USER)
    mail = folder / "mail"
    mail.mkdir(parents=True, exist_ok=True)
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    port = free_port()
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
mail_fsync = always
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
    settings["fair_use"] = {"imap_connections_per_account": 0}  # one account idles 2,000 times
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
                site.root / "data" / "mail.sqlite3",
            ),
            site,
        )
    finally:
        site.stop()


def restarted(server: Server, site: DemoSite) -> Server:
    """Give the same site as a process that did nothing yet."""
    site.stop()
    site.start()
    return replace(server, pid=site.pid)


def indexed(server: Server) -> float:
    """Wait until every message was read into the search index; give the seconds."""
    start = time.monotonic()
    if server.database is not None:
        uri = f"file:{server.database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            while connection.execute(
                "SELECT 1 FROM blob WHERE state = 0 AND searchable = 0 LIMIT 1"
            ).fetchone():
                time.sleep(0.5)
    return time.monotonic() - start


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
