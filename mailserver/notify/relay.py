"""The relay by which notifications leave: one message, one connection, TLS or nothing.

Invariants: nothing is said before the relay's certificate is checked, login included; no text of
the relay and no address goes any further than this module.

Source: RULES §14, RFC 3207 §4, RFC 8314 §3.3.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiosmtplib

from mailserver.errors import RelayError

SEND_WITHIN_S = 60.0
STEP_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Relay:
    """Where notifications are handed over.

    Attributes:
        implicit_tls: TLS from the first octet; else STARTTLS, without which nothing is sent.
        authority: PEM of who vouches for the relay; the machine's own authorities when None.
        login: user and password; none when None.
        ehlo_name: what we call ourselves.
    """

    host: str
    port: int
    implicit_tls: bool
    authority: Path | None
    login: tuple[str, str] | None
    ehlo_name: str

    async def send(self, sender: str, recipient: str, octets: bytes) -> None:
        """Hand one message over.

        Raises:
            RelayError: it was not taken.
        """
        async with self._open() as client:
            await client.sendmail(sender, [recipient], octets)

    async def look(self) -> None:
        """Connect, check TLS and log in, and send nothing.

        Raises:
            RelayError: one of them does not work.
        """
        async with self._open() as client:
            await client.noop()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[aiosmtplib.SMTP]:
        user, password = self.login or (None, None)
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                client = aiosmtplib.SMTP(
                    hostname=self.host,
                    port=self.port,
                    use_tls=self.implicit_tls,
                    start_tls=None if self.implicit_tls else True,
                    tls_context=self._tls(),
                    username=user,
                    password=password,
                    local_hostname=self.ehlo_name,
                    timeout=STEP_WITHIN_S,
                )
                async with client:
                    yield client
        except aiosmtplib.SMTPRecipientsRefused as error:
            code = error.recipients[0].code
            raise RelayError(refused=code >= 500, reply=code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise RelayError(reply=error.code) from None
        except (aiosmtplib.SMTPException, OSError, ValueError, TimeoutError):
            raise RelayError from None

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            cafile=None if self.authority is None else str(self.authority)
        )
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context
