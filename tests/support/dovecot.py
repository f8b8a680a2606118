"""Debian's Dovecot as another operator's IMAP server, holding one mailbox; root starts it."""

import imaplib
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.mail_site import World
from tests.support.ports import free_port

_UP_S = 20.0
_USER = "dovenull"
"""An account that the package makes and that owns nothing."""


@dataclass(frozen=True, slots=True)
class Dovecot:
    """The running server; one password opens every mailbox."""

    port: int
    password: str

    def client(self, address: str) -> imaplib.IMAP4_SSL:
        """Log in, with the INBOX selected."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        box = imaplib.IMAP4_SSL("127.0.0.1", self.port, ssl_context=context)
        box.login(address, self.password)
        box.select("INBOX")
        return box

    def put(self, address: str, raw: bytes) -> None:
        """Put a message into an INBOX, as its own delivery would."""
        with self.client(address) as box:
            status, said = box.append("INBOX", "", "", raw)
            assert status == "OK", said

    def flags(self, address: str) -> list[tuple[bytes, ...]]:
        """Give the flags and keywords of each message."""
        with self.client(address) as box:
            _, rows = box.fetch("1:*", "(FLAGS)")
            return [
                tuple(sorted(imaplib.ParseFlags(row))) for row in rows if isinstance(row, bytes)
            ]


@contextmanager
def dovecot(folder: Path, where: World, password: str) -> Iterator[Dovecot]:
    """Run it until the block ends, over implicit TLS on a free port."""
    owner = pwd.getpwnam(_USER)
    mail = folder / "mail"
    mail.mkdir(parents=True)
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    shutil.copy(where.ours.cert, folder / "server.pem")
    shutil.copy(where.ours.key, folder / "server.key")
    port = free_port()
    config = folder / "dovecot.conf"
    config.write_text(
        f"""
base_dir = {folder}/run
state_dir = {folder}/state
protocols = imap
listen = 127.0.0.1
log_path = {folder}/log
ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.key
mail_location = maildir:{mail}/%u
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={_USER} gid={owner.pw_gid} home={mail}/%u allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {port}
    ssl = yes
  }}
}}
"""
    )
    subprocess.run(["dovecot", "-c", str(config)], check=True)
    try:
        until = time.monotonic() + _UP_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield Dovecot(port, password)
    finally:
        subprocess.run(["doveadm", "-c", str(config), "stop"], check=False, capture_output=True)
