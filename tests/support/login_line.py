"""One way to log in raw on either front end: the same exchange, the words of each protocol."""

import re
import ssl
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailserver.fairness import Fairness
from mailserver.imap.shared import ImapLimits
from mailserver.sasl.tokens import TokenIssuer
from mailserver.smtp.conversation import Deadlines
from mailserver.store.database import MailStore
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, BOB, SECRET
from tests.support.imap_site import serve as imap_site
from tests.support.mail_site import BOB as SMTP_BOB
from tests.support.mail_site import DR, Line, mail_site, world
from tests.support.mail_site import SECRET as SMTP_SECRET

FRONTS = ("imap", "smtp")


class LoginLine(ABC):
    """One connection on which nobody has logged in yet."""

    announced: set[str]
    """The mechanisms that the server offers."""

    async def begin(self, mechanism: str, initial: bytes | None = None) -> bytes | str:
        """Begin an exchange; gives the challenge, or the line that ended it."""
        encoded = None if initial is None else b64encode(initial).decode() or "="
        return _read(await self.say(self.command(mechanism, encoded)))

    async def answer(self, response: bytes) -> bytes | str:
        """Answer a challenge."""
        return _read(await self.say(b64encode(response).decode()))

    @abstractmethod
    def command(self, mechanism: str, initial: str | None) -> str:
        """Write the command that begins."""

    @abstractmethod
    async def say(self, line: str) -> str:
        """Send a line, give the next one without its tag; a challenge begins with "+ "."""

    @abstractmethod
    async def open(self) -> bool:
        """Say whether the server still listens on this connection."""

    @abstractmethod
    async def is_in(self) -> bool:
        """Say whether somebody is logged in."""

    @abstractmethod
    def accepted(self, said: str) -> bool:
        """Say whether a line lets in."""

    @abstractmethod
    def refused(self, said: str) -> bool:
        """Say whether a line refuses the login."""

    @abstractmethod
    def malformed(self, said: str) -> bool:
        """Say whether a line calls the response bad."""

    @abstractmethod
    def cancelled(self, said: str) -> bool:
        """Say whether a line confirms the cancellation."""

    @abstractmethod
    def unknown(self, said: str) -> bool:
        """Say whether a line says that there is no such mechanism."""

    @abstractmethod
    def needs_tls(self, said: str) -> bool:
        """Say whether a line asks for TLS first."""

    @abstractmethod
    def later(self, said: str) -> bool:
        """Say whether a line says that too many have failed."""


def _read(said: str) -> bytes | str:
    return b64decode(said[2:]) if said.startswith("+ ") else said.rstrip("\r\n")


class _ImapLine(LoginLine):
    def __init__(self, peer: ImapPeer) -> None:
        self.peer = peer
        self.announced = set(re.findall(r"AUTH=([A-Z0-9-]+)", peer.greeting.decode()))

    def command(self, mechanism: str, initial: str | None) -> str:
        return f"t AUTHENTICATE {mechanism}" + ("" if initial is None else f" {initial}")

    async def say(self, line: str) -> str:
        self.peer.send(line.encode("latin-1") + b"\r\n")
        return (await self.peer.raw_line()).decode().removeprefix("t ")

    async def open(self) -> bool:
        try:
            return (await self.say("t NOOP")).startswith("OK")
        except ConnectionError:
            return False

    async def is_in(self) -> bool:
        return (await self.peer.do("SELECT INBOX"))[1].startswith(b"OK")

    def accepted(self, said: str) -> bool:
        return said.startswith("OK ")

    def refused(self, said: str) -> bool:
        return said.startswith("NO [AUTHENTICATIONFAILED]")

    def malformed(self, said: str) -> bool:
        return said.startswith("BAD ")

    cancelled = malformed

    def unknown(self, said: str) -> bool:
        return said.startswith("NO [CANNOT]")

    def needs_tls(self, said: str) -> bool:
        return said.startswith("NO [PRIVACYREQUIRED]")

    def later(self, said: str) -> bool:
        return said.startswith("NO [LIMIT]")


class _SmtpLine(LoginLine):
    def __init__(self, line: Line, hello: str) -> None:
        self._line = line
        offered = re.search(r"250.AUTH ([^\r]*)\r\n", hello)
        self.announced = set() if offered is None else set(offered[1].split())

    def command(self, mechanism: str, initial: str | None) -> str:
        return f"AUTH {mechanism}" + ("" if initial is None else f" {initial}")

    async def say(self, line: str) -> str:
        self._line.write(line.encode("latin-1") + b"\r\n")
        said = await self._line.reply()
        return said.replace("334 ", "+ ", 1) if said.startswith("334") else said

    async def open(self) -> bool:
        try:
            return (await self.say("NOOP")).startswith("250")
        except ConnectionError:
            return False

    async def is_in(self) -> bool:
        return not (await self._line.say("MAIL FROM:<>")).startswith("530")

    def accepted(self, said: str) -> bool:
        return said.startswith("235 2.7.0")

    def refused(self, said: str) -> bool:
        return said.startswith("535 5.7.8")

    def malformed(self, said: str) -> bool:
        return said.startswith("501 5.5.2")

    def cancelled(self, said: str) -> bool:
        return said.startswith("501 5.7.0")

    def unknown(self, said: str) -> bool:
        return said.startswith("504 5.5.4")

    def needs_tls(self, said: str) -> bool:
        return said.startswith("538 5.7.11")

    def later(self, said: str) -> bool:
        return said.startswith("454 4.7.0")


@dataclass(slots=True)
class Door:
    """A served front end with two mailboxes.

    Attributes:
        certificate: the server's, PEM.
    """

    front: str
    store: MailStore
    login: str
    other: str
    secret: str
    certificate: Path
    client_tls: ssl.SSLContext
    port: int
    tls_port: int
    peers: list[ImapPeer] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    async def line(self, tls: ssl.SSLContext | None = None) -> LoginLine:
        """Connect with TLS first; by default without a client certificate."""
        if self.front == "imap":
            return await self._imap(self.tls_port, tls or self.client_tls)
        return await self._smtp(self.tls_port, tls or self.client_tls)

    async def plain_line(self) -> LoginLine:
        """Connect in clear."""
        if self.front == "imap":
            return await self._imap(self.port, None)
        return await self._smtp(self.port, None)

    async def forget(self) -> None:
        """Close every connection."""
        while self.peers:
            await self.peers.pop().close()
        while self.lines:
            self.lines.pop().close()

    async def _imap(self, port: int, tls: ssl.SSLContext | None) -> LoginLine:
        self.peers.append(await ImapPeer.connect(port, tls))
        return _ImapLine(self.peers[-1])

    async def _smtp(self, port: int, tls: ssl.SSLContext | None) -> LoginLine:
        line = await Line.open(port, tls)
        self.lines.append(line)
        return _SmtpLine(line, await line.say("EHLO poste.test"))


@asynccontextmanager
async def doors(
    front: str,
    root: Path,
    *,
    fairness: Fairness | None = None,
    tokens: TokenIssuer | None = None,
    tls: ssl.SSLContext | None = None,
    delay_s: float = 0.001,
) -> AsyncIterator[Door]:
    """Serve one front end on loopback.

    Args:
        front: of ``FRONTS``.
        root: a folder for its files.
        fairness: counts wrong logins; nobody does by default.
        tokens: of an identity provider.
        tls: the listeners' context instead of one that asks for no certificate.
        delay_s: of the first wrong login.
    """
    given: dict[str, Any] = {"fairness": fairness, "tokens": tokens, "tls": tls}
    if front == "imap":
        limits = ImapLimits(login_delay_s=delay_s)
        async with imap_site(limits, **given) as site:
            door = Door(
                front, site.store, ALICE, BOB, SECRET, site.ca_file, site.client_tls, site.port,
                site.tls_port,
            )  # fmt: skip
            yield door
            await door.forget()
        return
    where = world(root)
    files = root / "site"
    files.mkdir()
    quick = Deadlines(login_delay_s=delay_s / 2)
    async with mail_site(where, files, deadlines=quick, **given) as opened:
        yield Door(
            front, opened.store, DR, SMTP_BOB, SMTP_SECRET, where.ours.cert, where.client_tls(None),
            opened.submission, opened.submissions,
        )  # fmt: skip
