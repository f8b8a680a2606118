"""Debian's Postfix and Dovecot, set up in a temporary folder for one run of the bench.

Postfix asks for the same client certificates of the same practice PKI and delivers each message
to Dovecot over LMTP; Dovecot keeps Maildir files with its own default of fsync. Both run as they
are packaged but for what the comparison needs; root is needed.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_base
from tests.support.site import DemoSite

USER = "plibench"
DOMAIN = "hopital-demo.mssante.test"


@dataclass(frozen=True)
class Peer:
    """A running pair."""

    port: int
    mail: Path
    folder: Path

    def delivered(self) -> int:
        """Count the messages that lie in Dovecot's Maildirs."""
        return sum(1 for folder in self.mail.glob("*/new") for _ in os.scandir(folder)) + sum(
            1 for folder in self.mail.glob("*/cur") for _ in os.scandir(folder)
        )

    def cpu_s(self) -> float:
        """CPU seconds so far of every process of the pair, dead ones counted in their parents."""
        masters = [
            (self.folder / "postfix" / "spool" / "pid" / "master.pid"),
            (self.folder / "dovecot" / "run" / "master.pid"),
        ]
        return sum(tree_cpu_s(int(path.read_text().strip())) for path in masters)


def tree_cpu_s(root: int) -> float:
    """CPU seconds of a process, its living descendants, and all they have waited for."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    pending = [root]
    while pending:
        pid = pending.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            children = [
                int(child)
                for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
        except OSError:
            continue
        total += sum(int(value) for value in fields[11:15]) / tick
        pending.extend(children)
    return total


@contextmanager
def beside(site: DemoSite, folder: Path) -> Iterator[Peer]:
    """Run the pair with the certificates of a demo site until the block ends.

    Args:
        site: whose practice PKI is used.
        folder: made here, in one that other users may enter.
    """
    folder.mkdir()
    pki = site.root / "pki"
    certificates = {
        "server": pki / "server.pem",
        "key": pki / "server.key",
        "client_ca": pki / "peers.pem",
    }
    with postfix_and_dovecot(folder, certificates, free_base() + 25) as peer:
        yield peer


@contextmanager
def postfix_and_dovecot(folder: Path, certificates: dict[str, Path], port: int) -> Iterator[Peer]:
    """Run the pair until the block ends.

    Args:
        folder: an existing folder that other users may enter.
        certificates: ``server``, ``key``, ``client_ca`` as files.
        port: where Postfix listens on 127.0.0.1.
    """
    try:
        owner = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
        owner = pwd.getpwnam(USER)
    mail = folder / "mail"
    mail.mkdir()
    os.chown(mail, owner.pw_uid, owner.pw_gid)
    for name, path in certificates.items():
        shutil.copy(path, folder / f"{name}.pem")
    dovecot = _write_dovecot(folder, mail)
    postfix = _write_postfix(folder, port)
    subprocess.run(["dovecot", "-c", str(dovecot)], check=True)
    try:
        subprocess.run(["postfix", "-c", str(postfix), "start"], check=True, capture_output=True)
        try:
            _wait_for(port)
            yield Peer(port, mail, folder)
        finally:
            subprocess.run(
                ["postfix", "-c", str(postfix), "stop"], check=False, capture_output=True
            )
    finally:
        subprocess.run(["doveadm", "-c", str(dovecot), "stop"], check=False, capture_output=True)


def _write_dovecot(folder: Path, mail: Path) -> Path:
    home = folder / "dovecot"
    home.mkdir()
    config = home / "dovecot.conf"
    config.write_text(
        f"""
base_dir = {home}/run
state_dir = {home}/state
protocols = lmtp imap
listen = 127.0.0.1
log_path = {home}/log
ssl = no
mail_location = maildir:{mail}/%n
mail_uid = {USER}
mail_gid = {USER}
first_valid_uid = 1
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
    port = 0
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""
    )
    return config


def _write_postfix(folder: Path, port: int) -> Path:
    home = folder / "postfix"
    spool, data = home / "spool", home / "data"
    spool.mkdir(parents=True)
    data.mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(data, owner.pw_uid, owner.pw_gid)
    (home / "main.cf").write_text(
        f"""
compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
maillog_file =
syslog_name = plibench
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = bench.mssante.test
mydestination =
mynetworks =
virtual_mailbox_domains = {DOMAIN}
virtual_transport = lmtp:unix:{folder}/dovecot/run/lmtp
lmtp_destination_concurrency_limit = 20
message_size_limit = 52428800
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {folder}/server.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_tls_CAfile = {folder}/client_ca.pem
smtpd_tls_req_ccert = yes
smtpd_tls_ask_ccert = yes
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_recipient_restrictions = permit_tls_all_clientcerts, reject_unauth_destination, permit
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
in_flow_delay = 0
"""
    )
    master = Path("/etc/postfix/master.cf")
    packaged = master if master.exists() else Path("/usr/share/postfix/master.cf.dist")
    lines = []
    for line in packaged.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "smtp" and words[1] == "inet":
            lines.append(f"127.0.0.1:{port} inet n - n - - smtpd")
            continue
        if len(words) >= 8 and not line.startswith(("#", " ", "\t")):
            words[4] = "n"  # no chroot: the sockets and certificates lie in the bench's folder
            lines.append(" ".join(words))
            continue
        lines.append(line)
    (home / "master.cf").write_text("\n".join(lines) + "\n")
    return home


def _wait_for(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("postfix did not start")
