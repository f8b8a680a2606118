"""Which answers a message gets, and their rows; written in the filing transaction.

One answer per message and final recipient, only when it was asked for by the sender itself
(RULES §9). The Message-ID is derived from the message's receipt and the recipient's place, so
that an answer sent again after a crash is absorbed by the submission service (DESIGN D1).
"""

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from record_bridge.mdn import asked_by, told
from record_bridge.model import ErrorCode, Opened
from record_bridge.repository import micros

PROBING_WINDOW = timedelta(hours=1)
_PROBED = frozenset({ErrorCode.UNKNOWN_PATIENT, ErrorCode.TRAITS_DIFFER})
_ANSWERED = (
    "SELECT r.final_recipient FROM reply_outbox r JOIN inbox_item i ON i.id = r.item_id"
    " WHERE i.structure_id = ? AND i.receipt = ?"
)

_AWAITS_SOFTWARE = (
    "SELECT 1 FROM handover_choice AS c WHERE c.structure_id = ? AND c.answers = 1 AND EXISTS"
    " (SELECT 1 FROM document AS d WHERE d.structure_id = c.structure_id AND d.receipt = ?)"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say about one message, to everyone it was addressed to here."""

    structure_id: str
    application_address: str
    item_id: int
    receipt: str
    code: ErrorCode | None
    at: datetime


def put_answers(connection: sqlite3.Connection, opened: Opened, answer: Answer) -> int:
    """Insert one row per addressed mailbox that has none for this message yet; give how many.

    A message sent to the application mailbox itself is answered to its forwarder in the name of
    that mailbox; everyone else's answer names their own (RULES §3, RULES §9). Where a structure's
    software answers for what is filed, the row is held until it has.
    """
    send_to = asked_by(opened)
    if send_to is None:
        return 0
    answered = {
        str(row[0]) for row in connection.execute(_ANSWERED, (answer.structure_id, answer.receipt))
    }
    state = "waiting"
    if (
        answer.code is None
        and connection.execute(_AWAITS_SOFTWARE, (answer.structure_id, answer.receipt)).fetchone()
    ):
        state = "held"  # the software's answer is this one's (handover_queue)
    added = [each for each in dict.fromkeys(opened.delivered_to) if each not in answered]
    rows = [
        {
            "structure_id": answer.structure_id,
            "item_id": answer.item_id,
            "final_recipient": recipient,
            "send_to": send_to,
            "message_id": _message_id(answer, place),
            "code": "" if answer.code is None else str(answer.code.value),
            "original_message_id": opened.message_id,
            "at": micros(answer.at),
            "state": state,
        }
        for place, recipient in enumerate(added, start=len(answered))
    ]
    connection.executemany(
        "INSERT INTO reply_outbox (structure_id, item_id, final_recipient, send_to, message_id,"
        " code, original_message_id, at, next_at, state)"
        " VALUES (:structure_id, :item_id, :final_recipient, :send_to, :message_id, :code,"
        " :original_message_id, :at, :at, :state)"
        " ON CONFLICT (item_id, final_recipient) DO NOTHING",
        rows,
    )
    return len(rows)


def _message_id(answer: Answer, place: int) -> str:
    """Opaque, the same for the same answer; never an address (RULES §11)."""
    seed = f"{answer.structure_id}\0{answer.receipt}\0{place}".encode()
    domain = answer.application_address.rpartition("@")[2]
    return f"<mdn.{hashlib.sha256(seed).hexdigest()[:40]}@{domain}>"


def code_told(
    connection: sqlite3.Connection, origin: str, code: ErrorCode | None, at: datetime
) -> ErrorCode | None:
    """The code that the sender is told: less, when this origin tries identities (RULES §9).

    Counts what stands in the tables and the present outcome.
    """
    if code not in _PROBED or not origin:
        return code
    row = connection.execute(
        "SELECT count(*) FROM inbox_item WHERE origin = ? AND done_at > ?"
        " AND code IN ('902', '904')",
        (origin, micros(at - PROBING_WINDOW)),
    ).fetchone()
    return told(code, int(row[0]) + 1)
