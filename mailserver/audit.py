"""``pli audit verify``: the record held against the raw mail, and both trails against their roots.

Everything is opened read-only, so it works beside a running server. The record is read first,
the mail second: what arrives meanwhile is pending, never missing (RULES §2, RULES §13).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from certs.errors import SandboxError
from certs.sandbox import SandboxPool
from directory import trail
from directory.trail import SignedRoot
from mailserver.databases import open_directory, open_store
from mailserver.errors import SiteError
from mailserver.sealing import read_roots
from mailserver.settings import Site
from mailserver.store.database import MailStore
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import FILING_KEYWORDS
from record_bridge import accounting
from record_bridge.accounting import KeptReceipt, ReceivedMail
from record_bridge.model import Occurrence
from record_bridge.receipts import receipt_of
from record_bridge.repository import open_record

TRAILS = ("mail", "record")
LIST_OCCURRENCES = "record_bridge.opening:list_occurrences"


async def verify_audit(
    site: Site, *, quick: bool, roots: Mapping[str, tuple[SignedRoot, ...]]
) -> dict[str, Any]:
    """Balance the site and check its trails.

    Args:
        site: it may be running.
        quick: compare places only, no digests.
        roots: by trail (``mail``, ``record``), signed roots that were kept elsewhere.

    Returns:
        The keys of ``pli audit verify --json``; ``exit_code`` is 0, 1 or 3.
    """
    settings = site.settings()
    async with AsyncExitStack() as stack:
        directory = await stack.enter_async_context(
            await open_directory(site, settings, read_only=True)
        )
        store = await stack.enter_async_context(await open_store(site, read_only=True))
        record = await open_record(site.record_database, read_only=True)
        stack.push_async_callback(record.close)
        pool = await stack.enter_async_context(SandboxPool(2, functions=(LIST_OCCURRENCES,)))

        async def list_occurrences(raw: bytes) -> tuple[Occurrence, ...] | None:
            try:
                found: tuple[Occurrence, ...] = await pool.run(LIST_OCCURRENCES, raw)
            except SandboxError:
                return None
            return found

        structures = tuple(structure.id for structure in directory.structures())
        report = await accounting.verify(
            record, partial(received_mail, store, structures), list_occurrences, quick=quick
        )
    key = Ed25519PrivateKey.from_private_bytes(site.trail_key.read_bytes()).public_key()
    result = report.to_json()
    trails = {
        name: await asyncio.to_thread(_check_trail, path, key, roots.get(name, ()))
        for name, path in (("mail", site.mail_database), ("record", site.record_database))
    }
    sound = all(each["sound"] for each in trails.values())
    return {**result, "trails": trails, "exit_code": report.exit_code if sound else 1}


async def received_mail(
    store: MailStore, structures: tuple[str, ...]
) -> AsyncIterator[ReceivedMail | KeptReceipt]:
    """Give what was received for filing: the raw mail, or its receipt once it was purged."""
    for structure in structures:
        there: set[str] = set()
        for message in await store.filings.messages(structure):
            octets = message.octets - len(message.prefix)
            try:
                blob = await store.blobs.read(message.blob_id, 0, octets)
            except NoSuchBlobError:
                continue  # purged since it was listed; its receipt is kept
            raw = message.prefix + blob
            receipt = receipt_of(raw)
            there.add(receipt)
            told = not FILING_KEYWORDS.isdisjoint(message.keywords)
            yield ReceivedMail(structure, receipt, raw, told)
        for kept in await store.filings.receipts(structure):
            if kept.receipt_id not in there:
                yield KeptReceipt(structure, kept.receipt_id, kept.occurrences)


def _check_trail(
    path: Path, public_key: Ed25519PublicKey, outside: tuple[SignedRoot, ...]
) -> dict[str, Any]:
    """Recompute one trail from its rows; blocking."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        report = trail.verify(connection, public_key, outside)
    return {
        "sound": report.sound,
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "outside_roots": report.outside_roots,
        "problem": None if report.problem is None else report.problem.value,
        "first_bad": report.first_bad,
    }


def outside_roots(kept: Iterable[Path]) -> dict[str, tuple[SignedRoot, ...]]:
    """Read copies of ``DIR/roots/*.jsonl`` that were kept elsewhere, by trail.

    Args:
        kept: files, or folders of them; a file's name begins with its trail's, as the original's.

    Raises:
        SiteError: a file does not hold roots or does not say of which trail, or there is none.
    """
    found: dict[str, tuple[SignedRoot, ...]] = {}
    for place in kept:
        paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
        if not paths:
            raise SiteError(f"{place.resolve()} holds no *.jsonl: copy DIR/roots/*.jsonl there")
        for path in paths:
            trail_name = next((name for name in TRAILS if path.name.startswith(name)), None)
            if trail_name is None:
                raise SiteError(f"{path}: the name must begin with {' or '.join(TRAILS)}")
            found[trail_name] = found.get(trail_name, ()) + read_roots(path)
    return found
