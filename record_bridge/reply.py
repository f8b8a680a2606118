"""Sending the answers that were asked for, by ordinary submission as the application mailbox.

Rows were written with the filing; sending one twice after a crash is absorbed, because its
Message-ID is the same (DESIGN D1). The envelope sender is null (RFC 8098 §3); what the server
refuses for good is given up, everything else is tried again later.
"""

import hashlib
import sqlite3
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiosmtplib
import structlog

from certs import mime
from directory.database import Database
from record_bridge import mdn
from record_bridge.inbox import InboxError, Phase
from record_bridge.model import ErrorCode
from record_bridge.repository import micros, moment

log = structlog.get_logger("record_bridge")

SCHEDULE_S = (5, 30, 300, 3600)
"""Seconds before the next attempt; the last one repeats."""
GIVE_UP_AFTER = timedelta(days=5)
BATCH_REPLIES = 50
TIMEOUT_S = 60.0
_CACHE_OCTETS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SubmissionLogin:
    """Where the application mailbox submits; implicit TLS."""

    host: str
    port: int
    tls: ssl.SSLContext
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class DueReply:
    """One answer to send."""

    id: int
    item_id: int
    uidvalidity: int
    uid: int
    final_recipient: str
    send_to: str
    message_id: str
    code: ErrorCode | None
    original_message_id: str
    at: datetime
    attempts: int


class Originals:
    """The last messages fetched, so that an answer need not fetch its original again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._octets = 0

    def keep(self, item_id: int, raw: bytes) -> None:
        """Keep a message, and let the oldest go."""
        self._octets += len(raw) - len(self._kept.pop(item_id, b""))
        self._kept[item_id] = raw
        while self._octets > _CACHE_OCTETS and self._kept:
            self._octets -= len(self._kept.popitem(last=False)[1])

    def take(self, item_id: int) -> bytes | None:
        """Give a kept message."""
        return self._kept.get(item_id)


Fetch = Callable[[DueReply], Awaitable[bytes]]
"""Gives the original of an answer; b"" when it is gone."""


def due(connection: sqlite3.Connection, value: tuple[str, datetime]) -> list[DueReply]:
    """The answers of a structure that are due."""
    structure_id, at = value
    rows = connection.execute(
        "SELECT r.id, r.item_id, i.uidvalidity, i.uid, r.final_recipient, r.send_to,"
        " r.message_id, r.code, r.original_message_id, r.at, r.attempts"
        " FROM reply_outbox r JOIN inbox_item i ON i.id = r.item_id"
        " WHERE r.structure_id = ? AND r.state = 'waiting' AND r.next_at <= ?"
        " ORDER BY r.next_at LIMIT ?",
        (structure_id, micros(at), BATCH_REPLIES),
    )
    return [
        DueReply(
            id=row[0],
            item_id=row[1],
            uidvalidity=row[2],
            uid=row[3],
            final_recipient=row[4],
            send_to=row[5],
            message_id=row[6],
            code=ErrorCode(int(row[7])) if row[7] else None,
            original_message_id=row[8],
            at=moment(row[9]),
            attempts=row[10],
        )
        for row in rows
    ]


def next_due(connection: sqlite3.Connection, structure_id: str) -> datetime | None:
    """When the next answer of a structure is due."""
    row = connection.execute(
        "SELECT min(next_at) FROM reply_outbox WHERE structure_id = ? AND state = 'waiting'",
        (structure_id,),
    ).fetchone()
    return None if row[0] is None else moment(int(row[0]))


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one attempt; ``state`` is sent, refused or waiting."""

    reply: DueReply
    state: str
    at: datetime


def settle(connection: sqlite3.Connection, sent: Sequence[Sent]) -> None:
    """Write down what became of a batch of answers."""
    for each in sent:
        state = each.state
        if state == "waiting" and each.at - each.reply.at > GIVE_UP_AFTER:
            state = "refused"
        wait = SCHEDULE_S[min(each.reply.attempts, len(SCHEDULE_S) - 1)]
        connection.execute(
            "UPDATE reply_outbox SET state = ?, attempts = attempts + 1, next_at = ? WHERE id = ?",
            (state, micros(each.at + timedelta(seconds=wait)), each.reply.id),
        )


@dataclass(frozen=True, slots=True)
class ReplySender:
    """Sends the due answers of one structure."""

    record: Database
    structure_id: str
    authserv_id: str
    login: SubmissionLogin
    clock: Callable[[], datetime]

    async def send_due(self, fetch: Fetch) -> int:
        """Send what is due now, over one connection.

        Returns:
            How many were sent.

        Raises:
            InboxError: the submission service cannot be used now; nothing is lost.
        """
        replies = await self.record.write(due, (self.structure_id, self.clock()))
        if not replies:
            return 0
        done: list[Sent] = []
        try:
            await self._send(replies, fetch, done)
        except (OSError, TimeoutError, aiosmtplib.SMTPException) as error:
            tried = {each.reply.id for each in done}
            done += [Sent(r, "waiting", self.clock()) for r in replies if r.id not in tried]
            raise InboxError(Phase.REPLY) from error
        finally:
            if done:
                await self.record.write(settle, done)
        return sum(each.state == "sent" for each in done)

    async def _send(self, replies: Sequence[DueReply], fetch: Fetch, done: list[Sent]) -> None:
        client = aiosmtplib.SMTP(
            hostname=self.login.host,
            port=self.login.port,
            use_tls=True,
            tls_context=self.login.tls,
            timeout=TIMEOUT_S,
            local_hostname="localhost",
        )
        async with client:
            await client.login(self.login.user, self.login.password)
            for reply in replies:
                original = await fetch(reply)
                try:
                    raw = self._build(reply, original)
                except Exception as error:
                    # One answer that cannot be written must not keep the others back.
                    log.exception(
                        "reply_unwritable", item=reply.item_id, error_type=type(error).__name__
                    )
                    done.append(Sent(reply, "refused", self.clock()))
                    continue
                options = [] if raw.isascii() else ["BODY=8BITMIME"]
                try:
                    await client.sendmail("", [reply.send_to], raw, mail_options=options)
                except aiosmtplib.SMTPRecipientsRefused as error:
                    code = max((each.code for each in error.recipients), default=0)
                    done.append(Sent(reply, _state(code), self.clock()))
                except aiosmtplib.SMTPResponseException as error:
                    done.append(Sent(reply, _state(error.code), self.clock()))
                else:
                    done.append(Sent(reply, "sent", self.clock()))
                if done[-1].state == "refused":
                    log.warning("reply_refused", item=reply.item_id, phase="reply")

    def _build(self, reply: DueReply, original: bytes) -> bytes:
        subject = mime.scan(original).text("subject") if original else ""
        seed = reply.message_id.encode() + original
        return mdn.build(
            mdn.MdnRequest(
                final_recipient=reply.final_recipient,
                send_to=reply.send_to,
                code=reply.code,
                message_id=reply.message_id,
                at=reply.at,
                boundary="b" + hashlib.sha256(seed).hexdigest()[:40],
                original_message_id=reply.original_message_id,
                original_subject=subject,
                original=original,
                authserv_id=self.authserv_id,
            )
        )


def _state(code: int) -> str:
    return "refused" if 500 <= code < 600 else "waiting"
