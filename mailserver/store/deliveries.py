"""The transaction behind a 250: body, receipt, entries, outbox and trail, all or nothing.

Runs on the writer's thread. The UIDs and MODSEQs are taken here, so that commit order is their
order (DESIGN D5). A repetition within five days is recognised by its keys and makes only what is
missing (DESIGN §3 step 8).
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from directory import trail
from directory.model import MailboxType
from mailserver.store.blobs import drop_body, put_blob
from mailserver.store.changes import OUTBOX
from mailserver.store.errors import NoSuchFolderError
from mailserver.store.model import (
    RETRY_KEY_DAYS,
    Delivered,
    Delivery,
    NewEntry,
    OutboxMessage,
    to_micros,
)
from mailserver.store.rows import OpenFolder, close_folders, encode_keywords, folder_of
from mailserver.store.schema import TRAIL
from mailserver.store.tracking import track

_RETRY_KEY_LIFE = timedelta(days=RETRY_KEY_DAYS)

_KNOWN_KEYS = (
    "SELECT key, receipt_id FROM receipt_key WHERE key IN (SELECT value FROM json_each(:keys))"
    " AND kept_at > :since"
)
_FATES = "SELECT DISTINCT transport FROM sent_recipient WHERE receipt_id = :receipt_id"
_FORGET_KEY = "DELETE FROM receipt_key WHERE key = :key"
_ADDRESSES = "SELECT address FROM mailbox WHERE id IN (SELECT value FROM json_each(:ids))"
_FOLDERS = (
    "SELECT f.id, f.mailbox_id, f.name, f.uidvalidity, f.uidnext, f.highestmodseq, m.type,"
    " m.structure_id FROM json_each(:wanted) AS w"
    " JOIN folder AS f ON f.mailbox_id = json_extract(w.value, '$[0]')"
    " AND f.name = json_extract(w.value, '$[1]')"
    " JOIN mailbox AS m ON m.id = f.mailbox_id ORDER BY f.id"
)
_INSERT_RECEIPT = (
    "INSERT INTO receipt (receipt_id, sha256, octets, peer_dn, reverse_path, occurrences,"
    " retry_of, received_at) VALUES (:receipt_id, :sha256, :octets, :peer_dn, :reverse_path,"
    " :occurrences, :retry_of, :at)"
)
_INSERT_FILING = (
    "INSERT INTO receipt_filing (receipt_id, structure_id) SELECT ?, m.structure_id"
    " FROM mailbox AS m WHERE m.id = ? AND m.id = (SELECT min(first.id) FROM mailbox AS first"
    " WHERE first.structure_id = m.structure_id AND first.type = m.type)"
)
"""For the application mailbox that was opened with its structure; later ones file nothing."""
_INSERT_KEY = (
    "INSERT INTO receipt_key (key, receipt_id, kept_at) VALUES (:key, :receipt_id, :at)"
    " ON CONFLICT (key) DO UPDATE SET receipt_id = excluded.receipt_id,"
    " kept_at = excluded.kept_at WHERE receipt_key.kept_at <= :since"
)
INSERT_ENTRY = (
    "INSERT INTO entry (folder_id, uid, modseq, flags, keywords, octets, internal_at, blob_id,"
    " receipt_id, prefix, saved_at, has_package) VALUES (:folder_id, :uid, :modseq, :flags,"
    " :keywords, :octets, :internal_at, :blob_id, :receipt_id, :prefix, :saved_at,"
    " (SELECT has_package FROM message_index WHERE blob_id = :blob_id))"
)
_LAST_ID = "SELECT last_insert_rowid()"
_INSERT_OUTBOX = (
    "INSERT INTO outbox_message (receipt_id, mailbox_id, reverse_path, octets, blob_id, prefix,"
    " queued_at, ret, envid, require_tls, smtputf8) VALUES (:receipt_id, :mailbox_id,"
    " :reverse_path, :octets, :blob_id, :prefix, :at, :ret, :envid, :require_tls, :smtputf8)"
)
_INSERT_OUTGOING = (
    "INSERT INTO outbox_recipient (message_id, forward_path, domain, state, attempts, next_at,"
    " reply, notify, orcpt) VALUES (:message_id, :forward_path, :domain, 'queued', 0, :at, '',"
    " :notify, :orcpt)"
)
_FORGET_KEYS = "DELETE FROM receipt_key WHERE kept_at <= :before"


def deliver(connection: sqlite3.Connection, delivery: Delivery) -> Delivered:
    """Write one delivery, or what is missing of it.

    Raises:
        NoSuchFolderError: an entry's folder does not exist.
        NoSuchBlobError: the staged body is gone.
    """
    known = _known_keys(connection, delivery)
    _forget_in_vain(connection, delivery, known)
    repeated = frozenset(
        mailbox_id for key, mailbox_id in delivery.retry_keys if key.hex() in known
    )
    whole = delivery.whole_key is not None and delivery.whole_key.hex() in known
    served = _served(connection, repeated)
    entries = () if whole else tuple(_missing(delivery, repeated, served))
    first_receipt = next(iter(known.values()), None)
    if whole or (first_receipt is not None and not entries and not delivery.outbox):
        for body in delivery.bodies:
            drop_body(connection, body)
        return Delivered(
            first_receipt or delivery.receipt_id, (), (), False, _visible(delivery.entries)
        )
    folders = _folders(connection, entries)
    blob_id, octets = put_blob(connection, delivery.blob, delivery.index)
    _put_receipt(connection, delivery, octets, first_receipt)
    filing = {
        folder.mailbox_id for folder in folders.values() if folder.type == MailboxType.APP.value
    }
    if filing:
        rows = [(delivery.receipt_id, mailbox_id) for mailbox_id in sorted(filing)]
        connection.executemany(_INSERT_FILING, rows)
    entry_ids, folder_ids = _put_entries(
        connection, delivery, (blob_id, octets), (entries, folders)
    )
    _put_keys(connection, delivery)
    woken = _visible(entries) | repeated
    for outbox in delivery.outbox:
        stored = (blob_id, octets)
        if outbox.form is not None:
            stored = put_blob(connection, outbox.form.blob, outbox.form.index)
        _put_outbox(connection, delivery, outbox, stored)
        woken |= {OUTBOX}
    track(connection, delivery)
    if delivery.events:
        trail.append(connection, TRAIL, delivery.events)
    return Delivered(first_receipt or delivery.receipt_id, entry_ids, folder_ids, True, woken)


def forget_keys(connection: sqlite3.Connection, now: int) -> int:
    """Delete the retry keys that are over; ``now`` in microseconds.

    Returns:
        How many there were.
    """
    before = now - _RETRY_KEY_LIFE // timedelta(microseconds=1)
    return connection.execute(_FORGET_KEYS, {"before": before}).rowcount


def _known_keys(connection: sqlite3.Connection, delivery: Delivery) -> dict[str, str]:
    keys = [key.hex() for key, _mailbox_id in delivery.retry_keys]
    if delivery.whole_key is not None:
        keys.append(delivery.whole_key.hex())
    if not keys:
        return {}
    since = to_micros(delivery.at - _RETRY_KEY_LIFE)
    rows = connection.execute(_KNOWN_KEYS, {"keys": json.dumps(keys), "since": since})
    found = dict(map(tuple, rows))
    return {key: found[key] for key in keys if key in found}


def _forget_in_vain(
    connection: sqlite3.Connection, delivery: Delivery, known: dict[str, str]
) -> None:
    """Let a submission that reached nobody be sent again under its Message-ID.

    Its sender was told that it failed: to absorb what they send then would be a 250 for nothing.
    """
    key = "" if delivery.whole_key is None else delivery.whole_key.hex()
    if key not in known:
        return
    fates = connection.execute(_FATES, {"receipt_id": known[key]}).fetchall()
    if [row[0] for row in fates] == ["failed"]:
        connection.execute(_FORGET_KEY, {"key": key})
        del known[key]


def _served(connection: sqlite3.Connection, repeated: frozenset[int]) -> frozenset[bytes]:
    """Give the trace fields of the recipients who have the message already."""
    if not repeated:
        return frozenset()
    rows = connection.execute(_ADDRESSES, {"ids": json.dumps(sorted(repeated))})
    return frozenset(b"Delivered-To: %s\r\n" % row[0].encode("ascii", "replace") for row in rows)


def _missing(
    delivery: Delivery, repeated: frozenset[int], served: frozenset[bytes]
) -> Iterable[NewEntry]:
    """Give the entries that are still to be made.

    The application's says for whom it is now: each recipient is answered for once (RULES §9).
    """
    recipients = tuple(mailbox_id for _key, mailbox_id in delivery.retry_keys)
    for entry in delivery.entries:
        owners = entry.on_behalf_of
        if not owners:
            owners = (entry.mailbox_id,) if entry.mailbox_id in recipients else recipients
        if owners and repeated.issuperset(owners):
            continue
        if served and entry.on_behalf_of:
            lines = entry.prefix.splitlines(keepends=True)
            entry = replace(entry, prefix=b"".join(x for x in lines if x not in served))  # noqa: PLW2901
        yield entry


def _visible(entries: tuple[NewEntry, ...]) -> frozenset[int]:
    return frozenset(entry.mailbox_id for entry in entries if not entry.held)


def _folders(
    connection: sqlite3.Connection, entries: tuple[NewEntry, ...]
) -> dict[tuple[int, str], OpenFolder]:
    wanted = {(entry.mailbox_id, entry.folder) for entry in entries}
    if not wanted:
        return {}
    rows = connection.execute(_FOLDERS, {"wanted": json.dumps(sorted(wanted))})
    folders = {(row["mailbox_id"], row["name"]): folder_of(row) for row in rows}
    if len(folders) != len(wanted):
        raise NoSuchFolderError
    return folders


def _put_receipt(
    connection: sqlite3.Connection, delivery: Delivery, octets: int, first_receipt: str | None
) -> None:
    connection.execute(
        _INSERT_RECEIPT,
        {
            "receipt_id": delivery.receipt_id,
            "sha256": delivery.sha256,
            "octets": delivery.octets or octets,
            "peer_dn": delivery.peer_dn,
            "reverse_path": delivery.reverse_path,
            "occurrences": delivery.occurrences,
            "retry_of": first_receipt,
            "at": to_micros(delivery.at),
        },
    )


def _put_entries(
    connection: sqlite3.Connection,
    delivery: Delivery,
    body: tuple[int, int],
    plan: tuple[tuple[NewEntry, ...], dict[tuple[int, str], OpenFolder]],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    blob_id, octets = body
    entries, folders = plan
    if not entries:
        return (), ()
    rows = []
    for entry in entries:
        folder = folders[entry.mailbox_id, entry.folder]
        rows.append(
            {
                "folder_id": folder.id,
                "uid": None if entry.held else folder.take_uid(),
                "modseq": 0 if entry.held else folder.take_modseq(),
                "flags": int(entry.flags),
                "keywords": encode_keywords(entry.keywords),
                "octets": len(entry.prefix) + octets,
                "internal_at": to_micros(entry.internal_at),
                "blob_id": blob_id,
                "receipt_id": delivery.receipt_id,
                "prefix": entry.prefix,
                "saved_at": to_micros(delivery.at),
            }
        )
    connection.executemany(INSERT_ENTRY, rows)
    # AUTOINCREMENT and one writer: the ids of one statement follow each other.
    last = connection.execute(_LAST_ID).fetchone()[0]
    close_folders(connection, folders.values())
    ids = tuple(range(last - len(rows) + 1, last + 1))
    return ids, tuple(folders[entry.mailbox_id, entry.folder].id for entry in entries)


def _put_keys(connection: sqlite3.Connection, delivery: Delivery) -> None:
    keys = [key for key, _mailbox_id in delivery.retry_keys]
    if delivery.whole_key is not None:
        keys.append(delivery.whole_key)
    if not keys:
        return
    at = to_micros(delivery.at)
    since = to_micros(delivery.at - _RETRY_KEY_LIFE)
    # A key that still counts keeps its first receipt.
    connection.executemany(
        _INSERT_KEY,
        [
            {"key": key.hex(), "receipt_id": delivery.receipt_id, "at": at, "since": since}
            for key in keys
        ],
    )


def _put_outbox(
    connection: sqlite3.Connection,
    delivery: Delivery,
    outbox: OutboxMessage,
    body: tuple[int, int],
) -> None:
    blob_id, octets = body
    at = to_micros(delivery.at)
    options = outbox.options
    message_id = connection.execute(
        _INSERT_OUTBOX,
        {
            "receipt_id": delivery.receipt_id,
            "mailbox_id": outbox.mailbox_id,
            "reverse_path": outbox.reverse_path,
            "octets": len(outbox.prefix) + octets,
            "blob_id": blob_id,
            "prefix": outbox.prefix,
            "at": at,
            "ret": options.ret.value if options.ret is not None else "",
            "envid": options.envid,
            "require_tls": options.require_tls,
            "smtputf8": options.smtputf8,
        },
    ).lastrowid
    connection.executemany(
        _INSERT_OUTGOING,
        [
            {
                "message_id": message_id,
                "forward_path": recipient.forward_path,
                "domain": recipient.domain,
                "at": at,
                "notify": recipient.options.stored,
                "orcpt": recipient.options.orcpt,
            }
            for recipient in outbox.recipients
        ],
    )
