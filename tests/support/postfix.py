"""Debian's Postfix as the other operator: an instance of its own on loopback, mutual TLS both ways.

It takes mail for one operator of a demo site into a Maildir, and relays what it is given in clear
on a second port to the site. Everything lies in a folder under /tmp and goes with it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.ports import free_port
from tests.support.site import DemoSite

DAEMONS = Path("/usr/lib/postfix/sbin")
REFUSED = "refuse"
LATER = "plus-tard"
_START_S = 20


def missing() -> str | None:
    """Say why Postfix cannot be run here, None when it can."""
    if shutil.which("postfix") is None or not (DAEMONS / "master").exists():
        return "postfix is not installed"
    return None if os.geteuid() == 0 else "postfix's master needs root"


class Postfix:
    """A running instance; made by ``postfix``."""

    def __init__(self, root: Path, site: DemoSite, number: int) -> None:
        self.root = root
        self.config = root / "etc"
        self._operator = site.demo["operators"][number]
        self.domain: str = self._operator["domain"]
        self.port = int(self._operator["receiver"]["port"])
        self.inject_port = free_port()
        self._site = site
        self._mail = root / "mail"
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, refusing: Sequence[str] = (REFUSED,), deferring: Sequence[str] = ()) -> None:
        """Write the configuration: which local parts get 550, which 451."""
        access = "".join(
            [f"{{ {name}@{self.domain} = 550 5.1.1 No such person }} " for name in refusing]
            + [f"{{ {name}@{self.domain} = 451 4.2.1 Come back later }} " for name in deferring]
        )
        owner = pwd.getpwnam("postfix")
        ca = self._site.demo["ca_file"]
        peers = self._site.root / "pki" / "peers.pem"
        chain = self._operator["certificate_file"]
        key = self._operator["key_file"]
        domains = [
            f"{{ {each[name]} = smtp:[localhost]:{self._site.port('smtp')} }}"
            for each in self._site.demo["structures"]
            for name in ("domain", "patient_domain")
        ]
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.root / "spool",
            "data_directory": self.root / "data",
            "command_directory": "/usr/sbin",
            "daemon_directory": DAEMONS,
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": self.root / "postfix.log",
            "maillog_file_prefixes": self.root,
            "myhostname": f"smtp.{self.domain}",
            "mydestination": "",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "message_size_limit": 60_000_000,
            "virtual_mailbox_domains": self.domain,
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_mailbox_base": self._mail,
            "virtual_minimum_uid": 1,
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_mailbox_limit": 0,
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_chain_files": f"{key} {chain}",
            "smtpd_tls_CAfile": peers if peers.exists() else ca,
            "smtpd_tls_req_ccert": "yes",
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_loglevel": 1,
            "smtpd_tls_mandatory_protocols": ">=TLSv1.2",
            "smtpd_relay_restrictions": "permit_mynetworks reject",
            "smtpd_recipient_restrictions": (
                f"check_recipient_access inline:{{ {access}}} permit_mynetworks reject"
                if access
                else "permit_mynetworks reject"
            ),
            "smtpd_client_connection_count_limit": 0,
            "transport_maps": f"inline:{{ {' '.join(domains)} }}",
            "smtp_tls_security_level": "secure",
            "smtp_tls_secure_cert_match": "hostname",
            "smtp_tls_CAfile": ca,
            "smtp_tls_chain_files": f"{key} {chain}",
            "smtp_tls_mandatory_protocols": ">=TLSv1.2",
            "smtp_tls_loglevel": 1,
            "minimal_backoff_time": "2s",
            "maximal_backoff_time": "10s",
            "queue_run_delay": "2s",
            "smtp_host_lookup": "native",
            "disable_dns_lookups": "yes",
            "default_process_limit": 30,
            "in_flow_delay": "0",
        }
        text = "".join(f"{key} = {value}\n" for key, value in settings.items())
        (self.config / "main.cf").write_text(text)
        inject = (
            "-o smtpd_tls_security_level=none -o smtpd_tls_req_ccert=no"
            " -o smtpd_recipient_restrictions=permit_mynetworks,reject"
        )
        (self.config / "master.cf").write_text(
            f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
            f"127.0.0.1:{self.inject_port} inet n - n - - smtpd {inject}\n"
            + "".join(
                f"{line}\n"
                for line in (
                    "pickup unix n - n 60 1 pickup",
                    "cleanup unix n - n - 0 cleanup",
                    "qmgr unix n - n 300 1 qmgr",
                    "tlsmgr unix - - n 1000? 1 tlsmgr",
                    "rewrite unix - - n - - trivial-rewrite",
                    "bounce unix - - n - 0 bounce",
                    "defer unix - - n - 0 bounce",
                    "trace unix - - n - 0 bounce",
                    "verify unix - - n - 1 verify",
                    "flush unix n - n 1000? 0 flush",
                    "proxymap unix - - n - - proxymap",
                    "smtp unix - - n - - smtp",
                    "relay unix - - n - - smtp",
                    "error unix - - n - - error",
                    "retry unix - - n - - error",
                    "discard unix - - n - - discard",
                    "virtual unix - n n - - virtual",
                    "anvil unix - - n - 1 anvil",
                    "scache unix - - n - 1 scache",
                    "postlog unix-dgram n - n - 1 postlogd",
                )
            )
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.root / "start.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/postfix", "-c", str(self.config), "start-fg"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                for port in (self.port, self.inject_port):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("postfix does not start: " + (self.root / "start.log").read_text())

    def reload(self, refusing: Sequence[str], deferring: Sequence[str]) -> None:
        """Take another configuration."""
        self.write(refusing, deferring)
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.config), "reload"],
            check=True,
            capture_output=True,
        )

    def stop(self) -> None:
        """Stop it, and whatever it started."""
        if self._process is None:
            return
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.config), "stop"],
            check=False,
            capture_output=True,
        )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self._process = None

    def received(self) -> Counter[str]:
        """Count each Message-ID in the Maildir."""
        return Counter(message_id(file) for file in (self._mail / "inbox" / "new").glob("*"))

    def queued(self) -> int:
        """Count what it has not handed over yet."""
        spool = self.root / "spool"
        folders = ("incoming", "active", "deferred", "maildrop")
        return sum(1 for name in folders for each in (spool / name).rglob("*") if each.is_file())

    def log(self) -> str:
        """What it wrote down."""
        file = self.root / "postfix.log"
        return file.read_text() if file.exists() else ""


def message_id(file: Path) -> str:
    """Give a stored message's Message-ID, "" without one."""
    with file.open("rb") as lines:
        for line in lines:
            if line.lower().startswith(b"message-id:"):
                return line.split(b":", 1)[1].strip().decode("ascii", "replace")
            if not line.strip():
                break
    return ""


@contextlib.contextmanager
def postfix(site: DemoSite, number: int = 0) -> Iterator[Postfix]:
    """Run Postfix as one of a demo site's operators until the block ends."""
    root = Path(tempfile.mkdtemp(prefix="pli-postfix-"))
    root.chmod(0o755)
    instance = Postfix(root, site, number)
    owner = pwd.getpwnam("postfix")
    for folder in ("etc", "spool", "data", "mail", "mail/inbox"):
        (root / folder).mkdir()
    for folder in ("data", "mail", "mail/inbox"):
        os.chown(root / folder, owner.pw_uid, owner.pw_gid)
    instance.write()
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()
        shutil.rmtree(root, ignore_errors=True)
