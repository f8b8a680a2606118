"""Reports that nobody has opened in time, and who answers for them.

Invariants: a report is a message with a package, in a professional's or a team's mailbox, outside
the folders of what was sent, written or thrown away; it is read once one entry of it in that
mailbox bears the Seen flag, and is told of once however many copies lie there; only unread
reports are looked at, by the index ``entry_unread_package``.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, exists, func, literal_column, select

from directory.codes import MailboxType
from directory.database import Database
from mailserver.store.model import Flag, from_micros, to_micros
from mailserver.store.rights import Rights
from mailserver.store.rows import among, as_list, fetch_all, fetch_first
from mailserver.store.schema import (
    ENTRY,
    FOLDER,
    FOLDER_SHARE,
    MAILBOX,
    MAILBOX_SHARE,
    MESSAGE_INDEX,
    UNREAD_PACKAGE,
)

ANSWERED_FOR: Final = (MailboxType.PER, MailboxType.ORG, MailboxType.CAB)
"""Mailboxes that somebody answers for: neither patients' nor programs'."""
_DONE_WITH: Final = ("\\Sent", "\\Drafts", "\\Trash", "\\Junk")
"""Folders of what was not received, or thrown away; what lies in Archive was received."""

_BEFORE = func.json_each(bindparam("before")).table_valued("key", "value", name="before")
_COPY, _ITS = ENTRY.alias("copy"), FOLDER.alias("its")
_READ = exists().where(
    _COPY.c.blob_id == ENTRY.c.blob_id,
    # By folder, not by message: one that went to a thousand mailboxes has a thousand entries.
    _COPY.c.folder_id.in_(
        select(_ITS.c.id).where(_ITS.c.mailbox_id == FOLDER.c.mailbox_id).correlate(FOLDER)
    ),
    _COPY.c.flags.op("&")(int(Flag.SEEN)) != 0,
)
_OVERDUE = (
    MAILBOX.c.structure_id == _BEFORE.c.key,
    MAILBOX.c.type.in_([each.value for each in ANSWERED_FOR]),
    FOLDER.c.mailbox_id == MAILBOX.c.id,
    func.coalesce(FOLDER.c.special_use, literal_column("''")).not_in(_DONE_WITH),
    ENTRY.c.folder_id == FOLDER.c.id,
    UNREAD_PACKAGE,
    ENTRY.c.internal_at <= _BEFORE.c.value,
    ENTRY.c.flags.op("&")(int(Flag.DELETED)) == 0,
    ~_READ,
)
_COUNT = select(func.count()).select_from(
    select(FOLDER.c.mailbox_id, ENTRY.c.blob_id).where(*_OVERDUE).distinct().subquery()
)
_ALL = (
    select(
        FOLDER.c.mailbox_id, ENTRY.c.folder_id, ENTRY.c.uid, ENTRY.c.internal_at, ENTRY.c.blob_id
    )
    .where(*_OVERDUE)
    .order_by(ENTRY.c.internal_at, ENTRY.c.id)
    .limit(bindparam("many"))
)
_OF = _ALL.where(among(MAILBOX.c.id, "mailboxes"))
_SENDERS = select(MESSAGE_INDEX.c.blob_id, MESSAGE_INDEX.c.from_).where(
    among(MESSAGE_INDEX.c.blob_id, "blobs")
)
_STILL_HERE = MAILBOX.c.closed_at.is_(None)
"""Whoever left answers for nothing."""
_SHARES = (
    select(MAILBOX_SHARE.c.mailbox_id, MAILBOX_SHARE.c.person_id, MAILBOX_SHARE.c.rights)
    .select_from(MAILBOX_SHARE.join(MAILBOX, MAILBOX.c.id == MAILBOX_SHARE.c.person_id))
    .where(among(MAILBOX_SHARE.c.mailbox_id, "mailboxes"), _STILL_HERE)
)
_WORDS = (
    select(FOLDER.c.id, FOLDER_SHARE.c.person_id, FOLDER_SHARE.c.rights)
    .select_from(
        FOLDER_SHARE.join(FOLDER, FOLDER.c.id == FOLDER_SHARE.c.folder_id).join(
            MAILBOX, MAILBOX.c.id == FOLDER_SHARE.c.person_id
        )
    )
    .where(among(FOLDER.c.mailbox_id, "mailboxes"), _STILL_HERE)
)


@dataclass(frozen=True, slots=True)
class UnreadReport:
    """Where one lies, and since when."""

    mailbox_id: int
    folder_id: int
    uid: int
    received_at: datetime
    blob_id: int


@dataclass(frozen=True, slots=True)
class Responsibility:
    """Who answers for the folders of mailboxes that are shared.

    Attributes:
        shares: rights by mailbox and person.
        words: rights by folder and person, instead of those.
    """

    shares: Mapping[int, Mapping[int, Rights]]
    words: Mapping[int, Mapping[int, Rights]]

    def persons(self, report: UnreadReport) -> frozenset[int]:
        """Give who answers for a report in a shared mailbox, by their own mailboxes' ids."""
        return self.of(report.mailbox_id, report.folder_id)

    def of(self, mailbox_id: int, folder_id: int | None = None) -> frozenset[int]:
        """Give who answers for a folder, or for those that have no word of their own.

        Those who administer its folder (``a``) and read there (``r``); without any, all who read
        there: what nobody was charged with is everybody's. Nobody of a mailbox that is not shared.

        Source: RFC 4314 §2.1.
        """
        rights = {
            **self.shares.get(mailbox_id, {}),
            **({} if folder_id is None else self.words.get(folder_id, {})),
        }
        readers = frozenset(person for person, letters in rights.items() if "r" in letters)
        return frozenset(each for each in readers if "a" in rights[each]) or readers


class Unread:
    """The reports of one mail database that wait to be opened. All methods are coroutines.

    ``before`` says for each structure what came so long ago that it should have been read: then or
    earlier. A structure that it does not name has none.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, before: Mapping[str, datetime]) -> int:
        """Count them in the whole database."""
        row = await fetch_first(self._database, _COUNT, {"before": _ends(before)})
        return 0 if row is None else int(row[0])

    async def everywhere(self, before: Mapping[str, datetime], many: int) -> list[UnreadReport]:
        """List them, those that wait longest first, at most so many."""
        values = {"before": _ends(before), "many": many}
        return _once(await fetch_all(self._database, _ALL, values))

    async def among(
        self, mailbox_ids: Iterable[int], before: Mapping[str, datetime], many: int
    ) -> list[UnreadReport]:
        """List those of some mailboxes, those that wait longest first, at most so many."""
        mailboxes = as_list(sorted(mailbox_ids))
        values = {"mailboxes": mailboxes, "before": _ends(before), "many": many}
        return _once(await fetch_all(self._database, _OF, values))

    async def senders(self, reports: Sequence[UnreadReport]) -> dict[int, str]:
        """Give the From field of reports, by blob, as their author wrote it."""
        values = {"blobs": as_list(each.blob_id for each in reports)}
        return {row[0]: row[1] for row in await fetch_all(self._database, _SENDERS, values)}

    async def responsibility(self, mailbox_ids: Iterable[int]) -> Responsibility:
        """Give who answers for mailboxes that are shared."""
        values = {"mailboxes": as_list(sorted(mailbox_ids))}
        shares: dict[int, dict[int, Rights]] = {}
        for mailbox_id, person_id, letters in await fetch_all(self._database, _SHARES, values):
            shares.setdefault(mailbox_id, {})[person_id] = frozenset(letters)
        words: dict[int, dict[int, Rights]] = {}
        for folder_id, person_id, letters in await fetch_all(self._database, _WORDS, values):
            words.setdefault(folder_id, {})[person_id] = frozenset(letters)
        return Responsibility(shares, words)


def _ends(before: Mapping[str, datetime]) -> str:
    return json.dumps({each: to_micros(at) for each, at in before.items()})


def _once(rows: Sequence[Sequence[Any]]) -> list[UnreadReport]:
    """Give each message of a mailbox once; Any: columns."""
    found: dict[tuple[int, int], UnreadReport] = {}
    for mailbox_id, folder_id, uid, at, blob_id in rows:
        report = UnreadReport(mailbox_id, folder_id, uid, from_micros(at), blob_id)
        found.setdefault((mailbox_id, blob_id), report)
    return list(found.values())
