"""The state of one session, and how it is told of changes.

Invariants: output is never written while a transaction is open; EXPUNGE responses go out only
from ``sync`` with ``expunge`` allowed; what the store publishes is read again, never trusted.

Source: RFC 9051 §5.2, §7.5.
"""

from collections.abc import Awaitable, Callable, Sequence

from certs.tls import end_point, peer_identity
from directory.codes import MailboxType
from directory.trail import MAX_FACTS_BYTES, AuditEvent
from mailserver.imap.commands import Access
from mailserver.imap.commands_messages import FetchItem
from mailserver.imap.commands_search import Event, EventGroup
from mailserver.imap.connection import Connection
from mailserver.imap.errors import Code, RefusedError
from mailserver.imap.fetching import Fetcher, reads_content
from mailserver.imap.machine import State
from mailserver.imap.names import OTHERS, SEPARATOR, canonical, decode_mutf7, decode_utf8
from mailserver.imap.permissions import NAMED, OPEN, flags_within, refusal
from mailserver.imap.responses import (
    FlagText,
    capabilities,
    flag_list,
    mailbox_name,
    mailbox_name_utf8,
)
from mailserver.imap.sets import Numbering, SequenceSet, encode_set, encode_sets, gaps
from mailserver.imap.shared import ImapBind, Progress, Shared
from mailserver.imap.view import FolderView
from mailserver.sasl.steps import Channel
from mailserver.store.changes import Subscription
from mailserver.store.errors import NoSuchFolderError
from mailserver.store.model import SERVER_KEYWORDS, Flag, Folder, Login, Mailbox, Quota
from mailserver.store.rights import ALL, Rights


class Context:
    """One session's state; ``session`` drives it, the handlers work on it.

    Attributes:
        notices: what is told of the open folder since a NOTIFY; None: everything, when asked.
        tell_others: tells what happened in other folders; since a NOTIFY that wants it.
        person: who holds the password, where several share the login's mailbox.
        login: by the device that was let in.
        rights: on the open folder, as they were when the command in hand began.
        running: the kind of that command; ``permissions`` says what it needs.
    """

    def __init__(self, shared: Shared, bind: ImapBind, connection: Connection) -> None:
        self.shared = shared
        self.store = shared.store
        self.bind = bind
        self.connection = connection
        self.state = State.NOT_AUTHENTICATED
        self.mailbox: Mailbox | None = None
        self.person: Mailbox | None = None
        self.login: Login | None = None
        self.view: FolderView | None = None
        self.access = Access.READ_ONLY
        self.rights: Rights = ALL
        self.running: type = type(None)
        self.condstore = False
        self.qresync = False
        self.uidonly = False
        self.rev2 = False
        self.accepts_utf8 = False
        self.read_name: Callable[[bytes], str] = decode_mutf7
        self.write_name: Callable[[str], bytes] = mailbox_name
        self.saved: tuple[int, ...] = ()
        self.subscription: Subscription | None = None
        self.attempts = 0
        self.heard_at = 0.0
        self.ending = ""
        self.tag = b""
        self.stirred = False
        self.progress = Progress()
        self.notices: EventGroup | None = None
        self.tell_others: Callable[[], Awaitable[None]] | None = None
        self._flags = FlagText()
        self._shown: frozenset[str] = frozenset()

    @property
    def logged_in(self) -> Mailbox:
        """The mailbox of this login."""
        if self.mailbox is None:
            raise RefusedError(Code.SERVERBUG, "Internal error")
        return self.mailbox

    @property
    def opened(self) -> FolderView:
        """The open folder."""
        if self.view is None:
            raise RefusedError(Code.SERVERBUG, "Internal error")
        return self.view

    @property
    def naming(self) -> Numbering:
        """How FETCH responses name messages: UIDONLY makes them UIDFETCH (RFC 9586 §3.3)."""
        return Numbering.UID if self.uidonly else Numbering.SEQUENCE

    @property
    def quota(self) -> Quota:
        """What this login's mailbox may hold of what clients add."""
        limits = self.bind.limits
        return Quota(limits.quota_octets, limits.quota_messages)

    def login_allowed(self) -> bool:
        """Whether a password may be said now (RFC 9051 §11.1; RULES §12)."""
        return self.connection.tls or self.connection.peer in self.bind.plaintext_login_from

    def channel(self) -> Channel:
        """Give what the connection says of its two ends, by the revocation lists of now."""
        tls = self.connection.ssl_object
        identity = peer_identity(tls)
        return Channel(end_point(tls), None if identity is None else identity.fingerprint)

    def mechanisms(self) -> tuple[str, ...]:
        """Give what a client may log in by now; nothing where a secret could be read."""
        if not self.login_allowed():
            return ()
        return self.shared.authentication.mechanisms(self.channel())

    def capabilities(self) -> bytes:
        """Give the capability list of now."""
        return capabilities(
            before_login=self.state is State.NOT_AUTHENTICATED,
            mechanisms=self.mechanisms(),
            tls_offered=not self.connection.tls,
            compressed=self.connection.compressed,
            limit=self.bind.limits.append_octets,
        )

    def write(self, line: bytes) -> None:
        """Queue one untagged response."""
        self.connection.write(line)

    @property
    def actor(self) -> str:
        """Whose doing it is, as the trail says it."""
        return f"mailbox:{(self.person or self.logged_in).id}"

    async def folder(self, name: str, code: Code = Code.NONEXISTENT) -> Folder:
        """Find a folder that the command in hand may be used on.

        Raises:
            RefusedError: there is none, with ``code``; NOPERM: it may be seen, but not this.
        """
        home, path = await self.place(name)
        folder = await self.store.folders.get(home, path)
        if folder is None:
            raise RefusedError(code, "No such mailbox")
        rights = await self.rights_on(folder)
        if rights is not ALL:
            need = NAMED.get(self.running)
            if need is None or not need.met(rights):
                raise refusal(rights, code)
        return folder

    async def others(self) -> list[Mailbox]:
        """Give the mailboxes of teams that let this login's holder in.

        A password of a shared mailbox opens that one alone.
        """
        if self.logged_in.type is not MailboxType.PER:
            return []
        grants = await self.store.sharing.grants(self.logged_in.id)
        found = [await self.store.accounts.mailbox_by_id(each) for each in sorted(grants.reached)]
        return [each for each in found if each is not None]

    async def place(self, name: str) -> tuple[int, str]:
        """Give the mailbox that a name leads to, and the name there; one's own for all others."""
        if name.startswith(OTHERS):
            for mailbox in await self.others():
                lead = f"{OTHERS}{mailbox.address}{SEPARATOR}"
                if name[: len(lead)].lower() == lead.lower():
                    return mailbox.id, canonical(name[len(lead) :])
        return self.logged_in.id, name

    async def rights_on(self, folder: Folder) -> Rights:
        """Give what this login may do in a folder: everything in a mailbox of one's own."""
        home = self.logged_in
        if self.person is None and folder.mailbox_id == home.id:
            return ALL
        grants = await self.store.sharing.grants((self.person or home).id)
        return grants.on(folder.mailbox_id, folder.id)

    def is_shared(self, folder: Folder) -> bool:
        """Say whether others than this login's holder work in a folder."""
        return self.person is not None or folder.mailbox_id != self.logged_in.id

    async def own_folders(self, right: str) -> list[Folder]:
        """Give the folders of the login's own mailbox, on which its holder has a right."""
        folders = await self.store.folders.list(self.logged_in.id)
        if self.person is None:
            return folders
        return [each for each in folders if right in await self.rights_on(each)]

    async def shared_folders(self, right: str) -> list[tuple[Mailbox, Folder]]:
        """Give the folders of others on which there is a right."""
        return [
            (mailbox, folder)
            for mailbox in await self.others()
            for folder in await self.store.folders.list(mailbox.id)
            if right in await self.rights_on(folder)
        ]

    async def path_of(self, folder: Folder) -> str:
        """Give the name of a folder as this login sees it."""
        if folder.mailbox_id == self.logged_in.id:
            return folder.name
        home = await self.store.accounts.mailbox_by_id(folder.mailbox_id)
        return f"{OTHERS}{home.address}{SEPARATOR}{folder.name}" if home else folder.name

    async def name_of(self, folder: Folder) -> bytes:
        """Write the name of a folder as this login sees it."""
        return self.write_name(await self.path_of(folder))

    async def require_open(self) -> None:
        """Hold the command in hand against the rights on the open folder.

        Raises:
            RefusedError: NOPERM, or NONEXISTENT when it may not even be seen any more.
        """
        if self.view is None or self.running not in OPEN:
            return
        self.rights = await self.rights_on(self.view.folder)
        if self.rights is not ALL and not OPEN[self.running].met(self.rights):
            raise refusal(self.rights)

    def shut_out(self) -> bool:
        """Say goodbye to a device that was revoked, or whose time ended, since it logged in."""
        if self.login is None or not self.store.accounts.is_over(self.login, self.shared.now()):
            return False
        self.write(b"* BYE This device may not be used any more\r\n")
        self.state = State.LOGOUT
        self.ending = "shut_out"
        return True

    def flags_response(self) -> bytes:
        """Give FLAGS, and remember which keywords it named."""
        view = self.opened
        self._shown = frozenset(view.keywords)
        return b"* FLAGS %b\r\n" % flag_list(31, view.keywords)

    def permanent_flags(self) -> bytes:
        """Give PERMANENTFLAGS: what STORE can change here (RULES §10)."""
        if self.access is Access.READ_ONLY:
            return b"* OK [PERMANENTFLAGS ()] Read-only\r\n"
        mask = flags_within(self.rights)
        if not mask & Flag.FLAGGED:
            return b"* OK [PERMANENTFLAGS %b] Limited\r\n" % flag_list(mask, ())
        own = sorted(self.opened.keywords - SERVER_KEYWORDS)
        words = flag_list(mask, own)[:-1] + b" \\*)"
        return b"* OK [PERMANENTFLAGS %b] Limited\r\n" % words

    def enable_utf8(self) -> None:
        """From now on names go as UTF-8, both ways. Source: RFC 6855 §3, RFC 9051 §5.1."""
        self.read_name = decode_utf8
        self.write_name = mailbox_name_utf8

    def close_folder(self) -> None:
        """Leave the open folder, if any; what a search saved was its (RFC 5182 §2.1)."""
        self.view = None
        self.saved = ()
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def _take_stir(self) -> bool:
        """Say whether the mailbox changed since the last time this was asked."""
        subscription = self.subscription
        stirred = self.stirred or (subscription is not None and subscription.pending)
        if stirred:
            # Before the reading: what comes during it is told after it.
            self.stirred = False
            if subscription is not None:
                subscription.clear()
        return stirred

    async def _refresh(self) -> None:
        """Read what changed in the open folder and tell it, EXPUNGE excepted.

        Raises:
            NoSuchFolderError: the folder was deleted meanwhile.
        """
        view, notices = self.opened, self.notices
        if "r" not in await self.rights_on(view.folder):
            raise NoSuchFolderError  # to whom may not read it any more, it is gone
        if notices is not None and Event.MESSAGE_NEW not in notices.events:
            return
        changes = await self.shared.folders.changed_since(view.folder.id, view.modseq)
        known = len(view)
        told = view.absorb(changes.rows, changes.vanished, changes.highestmodseq)
        if told.exists is not None:
            self.write(b"* %d EXISTS\r\n" % told.exists)
        self.show_keywords()
        if notices is not None and notices.items and told.exists is not None:
            await self._show_new(range(known, len(view)), notices.items)
        if notices is None or Event.FLAG_CHANGE in notices.events:
            self.tell_flags(told.changed)

    async def _show_new(self, positions: Sequence[int], items: Sequence[FetchItem]) -> None:
        """Tell of new messages what NOTIFY asked for; that does not make them seen."""
        if reads_content(items):
            await self.record_access(positions)
        await Fetcher(self.shared, self.connection, self.opened, self.naming).run(positions, items)

    async def record_access(self, positions: Sequence[int]) -> None:
        """Write the trail event of reading content, before any of it leaves (RULES §13)."""
        await self.record("imap_read", [self.opened.uids[at] for at in positions])

    def folder_event(self, kind: str, folder: Folder) -> AuditEvent:
        """Say what is done to a whole folder, and by whom."""
        return AuditEvent(
            kind=kind,
            at=self.shared.now(),
            actor=self.actor,
            structure_id=self.logged_in.structure_id,
            subject=f"mailbox:{folder.mailbox_id}",
            facts={"folder": folder.id},
        )

    async def record(self, kind: str, named: Sequence[int]) -> None:
        """Write what was done to messages of the open folder, and by whom.

        One event, or several of one instant: a set of many gaps is longer than an event holds.
        """
        view = self.opened
        at = self.shared.now()
        await self.store.audit.record(
            [
                AuditEvent(
                    kind=kind,
                    at=at,
                    actor=self.actor,
                    structure_id=self.logged_in.structure_id,
                    subject=f"mailbox:{view.folder.mailbox_id}",
                    facts={"folder": view.folder.id, "uids": uids.decode("ascii")},
                )
                for uids in encode_sets(named, MAX_FACTS_BYTES // 2)
            ]
        )

    async def sync(self, *, expunge: bool) -> None:
        """Tell the client what happened in its folder, and in others when it asked for that.

        Args:
            expunge: whether EXPUNGE may be said now (RFC 9051 §7.5.1).
        """
        stirred = self._take_stir()
        if self.shut_out():
            return
        if stirred and self.tell_others is not None:
            await self.tell_others()
        view = self.view
        if view is None:
            return
        if stirred:
            try:
                await self._refresh()
            except NoSuchFolderError:
                self.write(b"* BYE The mailbox is gone\r\n")
                self.state = State.LOGOUT
                self.ending = "folder_gone"
                return
        if expunge:
            told = view.take_expunges()
            if self.qresync or self.uidonly:
                if told.vanished:
                    self.write(b"* VANISHED %b\r\n" % encode_set(told.vanished))
                return
            for number in told.expunged:
                self.write(b"* %d EXPUNGE\r\n" % number)

    async def tell_vanished(self, modseq: int, known: SequenceSet | None) -> None:
        """Tell which of the UIDs that the client knows left after a modseq.

        Where the log does not reach back so far, every UID that is not there any more is named.

        Source: RFC 7162 §3.2.5, §3.2.6, §3.2.10.2.
        """
        view = self.opened
        logged = await self.store.messages.vanished_since(view.folder.id, modseq)
        if logged is None:
            last = max(view.folder.uidnext - 1, view.uids[-1] if view.uids else 0)
            spans = gaps(view.uids, last)
            text = (known.overlap(spans) if known else SequenceSet(tuple(spans))).encode()
        else:
            gone = [uid for uid in logged if view.position(uid) is None]
            text = encode_set(known.among(gone) if known else gone)
        if text:
            self.write(b"* VANISHED (EARLIER) %b\r\n" % text)

    def show_keywords(self) -> None:
        """Name in FLAGS the keywords that FETCH responses are about to mention."""
        if not self.opened.keywords <= self._shown:
            self.write(self.flags_response())

    def tell_modseqs(self, positions: Sequence[int], *, uid: bool) -> None:
        """Queue FETCH responses with only the modseqs (RFC 7162 §3.1.3, .SILENT)."""
        view = self.opened
        for at in positions:
            row = view.rows[at]
            self._tell(at, [b"MODSEQ (%d)" % row.modseq], uid=uid)

    def _tell(self, at: int, parts: list[bytes], *, uid: bool) -> None:
        """Queue one FETCH response."""
        row_uid = self.opened.uids[at]
        if self.uidonly:
            self.write(b"* %d UIDFETCH (%b)\r\n" % (row_uid, b" ".join(parts)))
            return
        if uid:
            parts.insert(0, b"UID %d" % row_uid)
        self.write(b"* %d FETCH (%b)\r\n" % (at + 1, b" ".join(parts)))

    def tell_flags(self, positions: Sequence[int], *, uid: bool = False) -> None:
        """Queue FETCH responses with the flags of these positions."""
        view = self.opened
        for at in positions:
            row = view.rows[at]
            parts = [self._flags.of(row.flags, row.keywords)]
            if self.condstore:
                parts.append(b"MODSEQ (%d)" % row.modseq)
            self._tell(at, parts, uid=uid or self.condstore)
