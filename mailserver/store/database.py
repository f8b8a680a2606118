"""The mail database as the rest of the mail server holds it.

Invariants: one ``MailStore`` per process and file writes (DESIGN D5); when it is open for writing,
no body is left over from a crash: what was being staged or deleted is gone.
"""

from pathlib import Path
from typing import Self

from directory import database
from directory.database import Database
from mailserver.store.accounts import Accounts
from mailserver.store.audit import Audit
from mailserver.store.blobs import Blobs
from mailserver.store.business_acks import BusinessAcks
from mailserver.store.changes import Changes, Commits
from mailserver.store.encryption import Encryption
from mailserver.store.filings import Filings
from mailserver.store.folders import Folders
from mailserver.store.messages import Messages
from mailserver.store.notify import NotifyAddresses
from mailserver.store.outbox import Outbox
from mailserver.store.queue_control import QueueControl
from mailserver.store.seal_requests import SealRequests
from mailserver.store.search import Search
from mailserver.store.sharing import Sharing
from mailserver.store.tracking import Tracking
from mailserver.store.unread import Unread

MIGRATIONS = Path(__file__).parent / "migrations"
"""The mail database's alembic folder."""


def migrate(path: Path) -> None:
    """Create the mail database or bring it to this program's schema. Blocking.

    Raises:
        SchemaMismatchError: the file is newer than this program.
        DatabaseBusyError: a server has it open.
    """
    database.migrate(path, MIGRATIONS)


class MailStore:
    """The open mail database.

    Attributes:
        accounts: mailboxes, device passwords, the webmail's accounts.
        sharing: who else works in a mailbox, and writes as whom.
        folders: names, counts, UIDVALIDITY.
        messages: entries, deliveries, flags.
        filings: what reached the application mailboxes, for the accounts.
        blobs: bodies.
        unread: reports that nobody has opened in time.
        search: the folded texts of messages.
        outbox: the queue to other operators.
        queue: what an administrator sees of it and does to it.
        tracking: where sent messages stand.
        business_acks: what the structures' own software is owed on them.
        encryption: for whom mail can be encrypted, and whose is.
        notify: where people are told, outside the trust space, that something is new.
        seal_requests: messages that wait for their signature.
        audit: the trail.
        changes: who waits for a mailbox to change.
    """

    def __init__(self, opened: Database, hash_key: bytes, *, read_only: bool) -> None:
        self._database = opened
        self.changes = Changes()
        self._commits = Commits(opened, self.changes)
        self.blobs = Blobs(opened)
        cached = not read_only
        self.accounts = Accounts(
            opened, self._commits, hash_key, cached=cached, changed=self._forget_shares
        )
        self.sharing = Sharing(opened, self._commits, self.accounts.shut_out, cached=cached)
        self.folders = Folders(opened, self._commits, self.blobs)
        self.messages = Messages(opened, self._commits, self.blobs)
        self.filings = Filings(opened)
        self.outbox = Outbox(opened, self._commits, self.blobs)
        self.queue = QueueControl(opened, self._commits, self.blobs)
        self.tracking = Tracking(opened)
        self.business_acks = BusinessAcks(opened)
        self.seal_requests = SealRequests(opened)
        self.notify = NotifyAddresses(opened, self._commits)
        self.encryption = Encryption(opened)
        self.search = Search(opened)
        self.unread = Unread(opened)
        self.audit = Audit(opened)

    def _forget_shares(self) -> None:
        self.sharing.forget()

    @classmethod
    async def open(cls, path: Path, *, hash_key: bytes, read_only: bool = False) -> Self:
        """Open the file; ``async with await MailStore.open(...)`` closes it.

        Args:
            path: a file made by ``migrate``.
            hash_key: at least 32 random octets of the site; keys the digests of device passwords.
            read_only: for commands beside a running server; every write raises.

        Raises:
            SchemaMismatchError: the file is older or newer than this program.
            ValueError: the key is too short.
        """
        if len(hash_key) < 32:
            raise ValueError("the store's hash key has at least 32 octets")
        opened = await Database.open(path, migrations=MIGRATIONS, read_only=read_only)
        store = cls(opened, hash_key, read_only=read_only)
        if not read_only:
            try:
                await store.blobs.sweep()
            except BaseException:
                await opened.close()
                raise
        return store

    async def close(self) -> None:
        """Finish the writes under way, then close every connection."""
        await self._commits.settle()
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()
