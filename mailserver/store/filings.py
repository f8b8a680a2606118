"""What reached the structures' application mailboxes: the mail side of the accounts (RULES §2).

Invariant: held entries (RULES §7) are in no answer of this module.
"""

from datetime import datetime

from sqlalchemy import bindparam, func, literal, select

from directory.database import Database
from directory.model import MailboxType
from mailserver.store.model import (
    FILING_KEYWORDS,
    INBOX,
    FilingMessage,
    FilingReceipt,
    Receipt,
    from_micros,
    to_micros,
)
from mailserver.store.rows import (
    fetch_all,
    fetch_first,
    keywords_of,
)
from mailserver.store.schema import (
    ENTRY,
    FOLDER,
    MAILBOX,
    RECEIPT,
    RECEIPT_FILING,
)

_RECEIPT = select(
    RECEIPT.c.receipt_id,
    RECEIPT.c.sha256,
    RECEIPT.c.octets,
    RECEIPT.c.peer_dn,
    RECEIPT.c.reverse_path,
    RECEIPT.c.occurrences,
    RECEIPT.c.retry_of,
    RECEIPT.c.received_at,
).where(RECEIPT.c.receipt_id == bindparam("receipt_id"))
_FIRST = MAILBOX.alias("first")
_IS_APPLICATION = MAILBOX.c.id.in_(
    select(func.min(_FIRST.c.id))
    .where(_FIRST.c.type == MailboxType.APP.value)
    .group_by(_FIRST.c.structure_id)
)
"""The application mailbox of a structure is the one opened with it; later ones belong to other
software and file nothing."""
_FILING_MESSAGES = (
    select(
        ENTRY.c.id,
        FOLDER.c.mailbox_id,
        ENTRY.c.folder_id,
        ENTRY.c.uid,
        ENTRY.c.receipt_id,
        ENTRY.c.prefix,
        ENTRY.c.blob_id,
        ENTRY.c.octets,
        ENTRY.c.keywords,
        ENTRY.c.internal_at,
    )
    .select_from(
        ENTRY.join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id).join(
            MAILBOX, MAILBOX.c.id == FOLDER.c.mailbox_id
        )
    )
    .where(
        MAILBOX.c.structure_id == bindparam("structure_id"),
        _IS_APPLICATION,
        ENTRY.c.uid > 0,
    )
    .order_by(ENTRY.c.id)
)
_FILING_RECEIPTS = (
    select(
        RECEIPT.c.receipt_id,
        RECEIPT_FILING.c.structure_id,
        RECEIPT.c.sha256,
        RECEIPT.c.occurrences,
        RECEIPT.c.received_at,
    )
    .select_from(RECEIPT_FILING.join(RECEIPT, RECEIPT.c.receipt_id == RECEIPT_FILING.c.receipt_id))
    .where(RECEIPT_FILING.c.structure_id == bindparam("structure_id"))
    .order_by(RECEIPT.c.received_at, RECEIPT.c.receipt_id)
)
_PADDED = literal(" ").concat(ENTRY.c.keywords).concat(" ")
_AWAITING = (
    select(func.count(ENTRY.c.id))
    .select_from(
        ENTRY.join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id).join(
            MAILBOX, MAILBOX.c.id == FOLDER.c.mailbox_id
        )
    )
    .where(
        _IS_APPLICATION,
        FOLDER.c.name == INBOX,
        ENTRY.c.uid > 0,
        *(
            ~_PADDED.contains(f" {keyword} ", autoescape=True)
            for keyword in sorted(FILING_KEYWORDS)
        ),
    )
)
_AWAITING_SINCE = _AWAITING.where(ENTRY.c.internal_at <= bindparam("before"))


class Filings:
    """What was delivered, and what of it waits for the bridge."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipt(self, receipt_id: str) -> Receipt | None:
        """Give what is kept of a delivery, None when there was none of this id."""
        row = await fetch_first(self._database, _RECEIPT, {"receipt_id": receipt_id})
        return None if row is None else Receipt(*[*row[:7], from_micros(row[7])])

    async def messages(self, structure_id: str) -> list[FilingMessage]:
        """Give the raw mail of a structure's application mailbox, for the accounts (RULES §2)."""
        rows = await fetch_all(self._database, _FILING_MESSAGES, {"structure_id": structure_id})
        return [
            FilingMessage(*[*row[:8], keywords_of(row[8]), from_micros(row[9])]) for row in rows
        ]

    async def receipts(self, structure_id: str) -> list[FilingReceipt]:
        """Give the deliveries that reached a structure's application mailbox, purged ones too."""
        rows = await fetch_all(self._database, _FILING_RECEIPTS, {"structure_id": structure_id})
        return [FilingReceipt(*[*row[:4], from_micros(row[4])]) for row in rows]

    async def awaiting_outcome(self, before: datetime | None = None) -> int:
        """Count the messages that no bridge has said an outcome of yet, on the whole site.

        Args:
            before: only those received until then.
        """
        if before is None:
            row = await fetch_first(self._database, _AWAITING)
        else:
            row = await fetch_first(self._database, _AWAITING_SINCE, {"before": to_micros(before)})
        return 0 if row is None else int(row[0])
