"""What is computed once of a message, when it comes in, and stored beside it.

The wire forms are ready to be sent in FETCH; the texts are for lists and searches. All of it is
health data like the message itself.

Source: DESIGN §5.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from certs.mime import Outline, decode_header, encode_outline, find_named, scan
from mailserver.message.bodystructure import envelope, structures
from mailserver.message.headers import display_list, first_values, message_ids, parse_date

PACKAGE_NAME: Final = "IHE_XDM.zip"
"""The attachment that makes a message one for the bridge (RULES §3)."""
MAX_TEXT: Final = 4000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class MessageIndex(NamedTuple):
    """The stored facts of one message; a tuple, because a large folder is built of 100,000.

    Attributes:
        outline: ``certs.mime.encode_outline`` of its tree.
        envelope: ENVELOPE, as sent.
        body: BODY, as sent.
        bodystructure: BODYSTRUCTURE, as sent.
        header_octets: size of the header with its blank line.
        subject: decoded text, cut at 4,000 characters like the other texts.
        from_: authors for people.
        to: To and Cc for people.
        date_at: Date in microseconds since 1970 UTC, None when absent or no date.
        message_id: with its brackets, "" when absent.
        has_package: a part is named IHE_XDM.zip.
    """

    outline: bytes
    envelope: bytes
    body: bytes
    bodystructure: bytes
    header_octets: int
    subject: str
    from_: str
    to: str
    date_at: int | None
    message_id: str
    has_package: bool


def index(raw: bytes, outline: Outline | None = None) -> MessageIndex:
    """Compute the index of a whole message; pass the outline when there is one already."""
    if outline is None:
        outline = scan(raw)
    values = first_values(outline.header)
    body, bodystructure = structures(raw, outline.root)
    date = parse_date(values.get("date"))
    addressed = (display_list(values.get(name)) for name in ("to", "cc"))
    identifiers = message_ids(values.get("message-id"))
    return MessageIndex(
        outline=encode_outline(outline),
        envelope=envelope(outline.header),
        body=body,
        bodystructure=bodystructure,
        header_octets=outline.root.body_start,
        subject=decode_header(values.get("subject", b""))[:MAX_TEXT],
        from_=display_list(values.get("from"))[:MAX_TEXT],
        to=", ".join(text for text in addressed if text)[:MAX_TEXT],
        date_at=None if date is None else (date - _EPOCH) // timedelta(microseconds=1),
        message_id=identifiers[0] if identifiers else "",
        has_package=bool(find_named(outline, PACKAGE_NAME)),
    )
