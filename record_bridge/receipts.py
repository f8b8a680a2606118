"""What the receiving server wrote before a message: its receipt id and when it came; pure.

Only the topmost Received field is read, the one of the server whose mailbox this is.

Source: RFC 5321 §4.4, DESIGN D5b.
"""

import hashlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RECEIVED = re.compile(rb"^Received:((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_ID = re.compile(rb"[ \t\r\n]id[ \t\r\n]+<?([A-Za-z0-9._-]{4,128})>?[ \t\r\n]*$")
_TOP_OCTETS = 16 * 1024


def receipt_of(raw: bytes) -> str:
    """The receipt id of a message as fetched.

    Without one (a server that writes none) the message's own digest stands for it: the same
    message under a new UID is then still known again.

    Source: RFC 5321 §4.4 (Id).
    """
    found = _ID.search(_received(raw).split(b";", 1)[0])
    if found is not None:
        return found[1].decode("ascii")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def received_at(raw: bytes, now: datetime) -> datetime:
    """When the receiving server took the message; ``now`` when it does not say, or says later.

    Source: RFC 5321 §4.4 (date-time).
    """
    text = _received(raw).rpartition(b";")[2].decode("ascii", "replace").strip()
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return now
    return now if at.tzinfo is None else min(at.astimezone(UTC), now)


def _received(raw: bytes) -> bytes:
    top = b"\r\n" + raw[:_TOP_OCTETS]
    end = top.find(b"\r\n\r\n")
    found = _RECEIVED.search(top if end < 0 else top[: end + 2])
    return b"" if found is None else found[1]
