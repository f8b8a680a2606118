"""A mail client on the two submission ports, reply by reply, and what it left behind."""

import sqlite3
import ssl
from base64 import b64encode
from contextlib import closing

from tests.support.mail_site import DR, SECRET, Line, MailSite


def stored(site: MailSite) -> tuple[int, ...]:
    """Count what a message leaves behind."""
    with closing(sqlite3.connect(site.root / "mail.sqlite3")) as connection:
        return tuple(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("receipt", "entry", "blob", "outbox_message", "sent_recipient")
        )


async def client(site: MailSite, listener: str, address: str = DR, secret: str = SECRET) -> Line:
    """Log in on one of the two submission ports."""
    tls: ssl.SSLContext = site.world.client_tls(None)
    if listener == "465":
        line = await Line.open(site.submissions, tls)
    else:
        line = await Line.open(site.submission)
        await line.say("EHLO client.test")
        await line.starttls(tls)
    await line.say("EHLO client.test")
    token = b64encode(f"\0{address}\0{secret}".encode()).decode()
    assert (await line.say(f"AUTH PLAIN {token}")).startswith("235")
    return line


async def send(line: Line, path: str, raw: bytes, to: str) -> str:
    """Send one message; gives the reply that ended it."""
    reply = await line.say(f"MAIL FROM:<{path}>")
    if reply.startswith("250"):
        assert (await line.say(f"RCPT TO:<{to}>")).startswith("250")
        assert (await line.say("DATA")).startswith("354")
        line.write(raw + b".\r\n")
        reply = await line.reply()
    await line.say("RSET")
    return reply.strip()
