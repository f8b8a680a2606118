"""The transaction of STORE, and what the bridge's outcome does to the sibling entries.

Invariants: a client never adds or removes a server-owned keyword; an application account does so
on its own mailbox only, and the outcome is mirrored in the same transaction to the entries of the
same receipt in the other mailboxes of the same structure; a held entry gets its UID at the moment
it is released, so that UIDs stay in commit order. What was filed wrongly and waits again leaves a
patient's folders as an expunged message does, and comes back with a new UID, if it does.
Source: RULES §7, §10.
"""

import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from directory.model import MailboxType
from mailserver.message.progress import Event, Source, Verdict
from mailserver.store.errors import ServerKeywordError
from mailserver.store.model import (
    FILING_KEYWORDS,
    HELD_KEYWORD,
    EntryRow,
    Flag,
    FlagChange,
    FlagMode,
    from_micros,
    server_keyword,
    to_micros,
)
from mailserver.store.rows import (
    OpenFolder,
    as_list,
    client_keywords,
    close_folders,
    encode_keywords,
    flag_of,
    folder_of,
    keywords_of,
    open_folder,
    without,
)
from mailserver.store.tracking import move_filed

_APPLICATION_KEYWORDS = FILING_KEYWORDS | {HELD_KEYWORD}
_FILED = frozenset({"$Filed", "$Duplicate"})
_RELEASING = frozenset({"$Filed", "$Duplicate", "$NoDocument"})
_KEEPING_HELD = frozenset({HELD_KEYWORD, "$Quarantined"})

_ENTRIES = (
    "SELECT id, uid, modseq, flags, keywords, octets, internal_at, blob_id, receipt_id FROM entry"
    " WHERE folder_id = :folder_id AND uid IN (SELECT value FROM json_each(:uids)) ORDER BY uid"
)
_APPLICATION = "SELECT min(id) FROM mailbox WHERE structure_id = :structure_id AND type = :app"
_UPDATE = "UPDATE entry SET flags = :flags, keywords = :keywords, modseq = :modseq WHERE id = :id"
_SIBLINGS = (
    "SELECT e.id AS entry_id, e.uid, e.modseq, e.keywords, e.receipt_id, f.id, f.mailbox_id,"
    " f.uidvalidity, f.uidnext, f.highestmodseq, m.type, m.structure_id,"
    " m.type = 'PAT' AND f.special_use IS NOT '\\Sent' AS to_patient"
    " FROM entry AS e JOIN folder AS f ON f.id = e.folder_id"
    " JOIN mailbox AS m ON m.id = f.mailbox_id"
    " WHERE e.receipt_id IN (SELECT value FROM json_each(:receipts))"
    " AND m.structure_id = :structure_id AND m.id != :mailbox_id ORDER BY f.id, e.id"
)
_LOG = "INSERT INTO expunged (folder_id, modseq, uid) VALUES (?, ?, ?)"
_UPDATE_SIBLING = (
    "UPDATE entry SET uid = :uid, keywords = :keywords, modseq = :modseq WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class FlagResult:
    """What STORE answers, and the mailboxes to wake."""

    rows: list[EntryRow]
    touched: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the application said of one receipt."""

    added: frozenset[str]
    removed: frozenset[str]
    releases: bool
    withholds: bool
    verdict: Verdict
    """What it newly says of filing; NONE when that is as before."""


def change_flags(connection: sqlite3.Connection, change: FlagChange) -> FlagResult:
    """Apply one STORE.

    Returns:
        Every named entry that exists and is not newer than ``unchangedsince``, as it is now.

    Raises:
        NoSuchFolderError: it was deleted.
        ServerKeywordError: a keyword that the caller may not set.
        TooManyKeywordsError: an entry would bear too many.
    """
    folder = open_folder(connection, change.folder_id)
    if change.by_application and not _is_the_application(connection, folder):
        change = replace(change, by_application=False)
    _refuse_server_keywords(change)
    rows = connection.execute(
        _ENTRIES, {"folder_id": folder.id, "uids": as_list(change.uids)}
    ).fetchall()
    if change.unchangedsince is not None:
        rows = [row for row in rows if row["modseq"] <= change.unchangedsince]
    modseq = folder.modseq + 1
    answered: list[EntryRow] = []
    updates = []
    outcomes: dict[str, _Outcome] = {}
    for row in rows:
        before = keywords_of(row["keywords"])
        flags = _new_flags(change, flag_of(row["flags"]))
        text = encode_keywords(_new_keywords(change, before))
        changed = flags != row["flags"] or text != row["keywords"]
        if changed:
            updates.append(
                {"id": row["id"], "flags": int(flags), "keywords": text, "modseq": modseq}
            )
            if change.by_application and row["receipt_id"] is not None:
                outcome = _outcome(before, keywords_of(text))
                outcomes[row["receipt_id"]] = outcome
                _tell_the_sender(connection, folder, row["receipt_id"], outcome)
        answered.append(
            EntryRow(
                row["id"],
                row["uid"],
                modseq if changed else row["modseq"],
                flags,
                keywords_of(text),
                row["octets"],
                from_micros(row["internal_at"]),
                row["blob_id"],
            )
        )
    if not updates:
        return FlagResult(answered, frozenset())
    connection.executemany(_UPDATE, updates)
    folder.modseq = modseq
    close_folders(connection, (folder,))
    touched = _mirror(connection, folder, outcomes) if outcomes else frozenset()
    return FlagResult(answered, touched | {folder.mailbox_id})


def _is_the_application(connection: sqlite3.Connection, folder: OpenFolder) -> bool:
    """Whether a folder is of the application mailbox that was opened with its structure.

    Other software of the structure may have an application mailbox too; it says no outcomes.
    """
    value = {"structure_id": folder.structure_id, "app": MailboxType.APP.value}
    row = connection.execute(_APPLICATION, value).fetchone()
    return bool(row[0] == folder.mailbox_id)


def _refuse_server_keywords(change: FlagChange) -> None:
    named = {server_keyword(keyword) for keyword in change.keywords} - {None}
    if not change.by_application:
        if named:
            raise ServerKeywordError
        return
    if named - _APPLICATION_KEYWORDS:
        raise ServerKeywordError


def _new_flags(change: FlagChange, before: Flag) -> Flag:
    named = change.flags & change.mask
    match change.mode:
        case FlagMode.ADD:
            return before | named
        case FlagMode.REMOVE:
            return before & ~named
        case FlagMode.REPLACE:
            return (before & ~change.mask) | named


def _new_keywords(change: FlagChange, before: frozenset[str]) -> frozenset[str]:
    if not change.mask & Flag.FLAGGED:
        return before
    match change.mode:
        case FlagMode.ADD:
            return before | without(change.keywords, before)
        case FlagMode.REMOVE:
            return without(before, change.keywords)
        case FlagMode.REPLACE:
            kept = without(before, client_keywords(before))
            if change.by_application:
                kept = without(kept, _APPLICATION_KEYWORDS)
            return kept | change.keywords


def _outcome(before: frozenset[str], after: frozenset[str]) -> _Outcome:
    return _Outcome(
        added=(after - before) & FILING_KEYWORDS,
        removed=(before - after) & FILING_KEYWORDS,
        releases=bool(after & _RELEASING) and not after & _KEEPING_HELD,
        withholds=after >= _KEEPING_HELD,
        verdict=_verdict(after) if _verdict(after) is not _verdict(before) else Verdict.NONE,
    )


def _verdict(keywords: frozenset[str]) -> Verdict:
    """Give what a message's marks say; of several packages, the one that was set aside."""
    if "$Quarantined" in keywords:
        return Verdict.QUARANTINED
    return Verdict.FILED if keywords & _FILED else Verdict.NONE


def _tell_the_sender(
    connection: sqlite3.Connection, folder: OpenFolder, receipt_id: str, outcome: _Outcome
) -> None:
    """Move what the sender of this site can ask about (RULES §9)."""
    if outcome.verdict is Verdict.NONE:
        return
    event = Event(Source.BRIDGE, verdict=outcome.verdict)
    move_filed(connection, (receipt_id, folder.structure_id), event, to_micros(datetime.now(UTC)))


def _mirror(
    connection: sqlite3.Connection, folder: OpenFolder, outcomes: dict[str, _Outcome]
) -> frozenset[int]:
    rows = connection.execute(
        _SIBLINGS,
        {
            "receipts": json.dumps(sorted(outcomes)),
            "structure_id": folder.structure_id,
            "mailbox_id": folder.mailbox_id,
        },
    ).fetchall()
    folders: dict[int, OpenFolder] = {}
    updates = []
    for row in rows:
        outcome = outcomes[row["receipt_id"]]
        before = keywords_of(row["keywords"])
        text = encode_keywords((before - outcome.removed) | outcome.added)
        held = row["uid"] is None
        released = held and outcome.releases
        withheld = not held and outcome.withholds and row["to_patient"]
        if text == row["keywords"] and not released and not withheld:
            continue
        target = folders.setdefault(row["id"], folder_of(row))
        modseq = row["modseq"] if held and not released else target.take_modseq()
        uid = target.take_uid() if released else row["uid"]
        if withheld:
            connection.execute(_LOG, (target.id, modseq, uid))
            uid = None
        updates.append({"id": row["entry_id"], "uid": uid, "keywords": text, "modseq": modseq})
    if not updates:
        return frozenset()
    connection.executemany(_UPDATE_SIBLING, updates)
    close_folders(connection, folders.values())
    return frozenset(target.mailbox_id for target in folders.values())
