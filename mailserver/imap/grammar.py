"""Turns a framed command into a value.

Invariants: every octet of the command is accounted for; what cannot be read is BAD, with the tag
when that much could be read.

Source: RFC 9051 §6, §9.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.errors import BadCommandError, Code
from mailserver.imap.grammar_append import read_append, read_replace
from mailserver.imap.grammar_fetch import read_fetch
from mailserver.imap.grammar_notify import read_notify
from mailserver.imap.grammar_search import read_multi_search, read_search, read_sort, read_thread
from mailserver.imap.names import canonical, decode_mutf7
from mailserver.imap.sets import Numbering
from mailserver.imap.tokens import FLAGS_MAX, NUMBER64_MAX, Cursor
from mailserver.imap.wire import RawCommand
from mailserver.store.errors import UnknownRightError
from mailserver.store.rights import RightsMode, parse_rights

PATTERNS_MAX = 50
"""Patterns of one LIST (threat I4)."""
ID_PAIRS_MAX = 30
"""RFC 2971 §3.3."""

_MODIFIERS = frozenset({c.ListSelect.RECURSIVEMATCH, c.ListSelect.REMOTE})
"""Selection options that select nothing by themselves (RFC 5258 §3.1)."""

Reader = Callable[[Cursor], c.Command]
E = TypeVar("E", bound=Enum)


class UntaggedError(BadCommandError):
    """Not even a tag could be read."""


def read_tag(
    raw: RawCommand, read_name: Callable[[bytes], str] = decode_mutf7
) -> tuple[bytes, Cursor]:
    """Split the tag off; ``read_name`` decodes the mailbox names of this connection.

    Raises:
        UntaggedError: there is none.
    """
    cursor = Cursor(raw, read_name)
    try:
        tag = cursor.tag()
        cursor.space()
    except BadCommandError as error:
        raise UntaggedError(error.text) from None
    return tag, cursor


def read_command(cursor: Cursor) -> c.Command:
    """Read a command from after its tag.

    Raises:
        BadCommandError: unknown, or not well formed.
        RefusedError: well formed, and something named in it (a charset) is not known here.
    """
    name = cursor.keyword()
    if name == b"UID":
        cursor.space()
        name += b" " + cursor.keyword()
    reader = READERS.get(name)
    if reader is None:
        raise BadCommandError("Unknown command")
    command = reader(cursor)
    cursor.end()
    return command


def _authenticate(cursor: Cursor) -> c.Authenticate:
    cursor.space()
    mechanism = cursor.keyword().decode("ascii")
    initial = None
    if not cursor.at_end:
        cursor.space()
        initial = cursor.text[cursor.position :]
        cursor.position = len(cursor.text)
    return c.Authenticate(mechanism, initial)


def _login(cursor: Cursor) -> c.Login:
    cursor.space()
    user = cursor.astring()
    cursor.space()
    return c.Login(user, cursor.astring())


def _enable(cursor: Cursor) -> c.Enable:
    names = []
    while not cursor.at_end:
        cursor.space()
        names.append(cursor.keyword())
    if not names:
        raise BadCommandError("Missing argument")
    return c.Enable(tuple(names))


def _select(access: c.Access) -> Reader:
    def read(cursor: Cursor) -> c.Select:
        mailbox = cursor.mailbox()
        condstore, known = False, None
        if not cursor.at_end:
            cursor.space()
            cursor.expect(b"(")
            while True:
                name = cursor.keyword()
                if name == b"CONDSTORE" and not condstore:
                    condstore = True
                elif name == b"QRESYNC" and known is None:
                    cursor.space()
                    known = _known(cursor)
                else:
                    raise BadCommandError("Unknown parameter")
                if cursor.maybe(b")"):
                    break
                cursor.space()
        return c.Select(mailbox, access, condstore, known)

    return read


def _known(cursor: Cursor) -> c.Known:
    """``"(" uidvalidity SP mod-sequence-value [SP known-uids] [SP seq-match-data] ")"``.

    The sequence match data only spare a server work when its log is too short; they are read and
    not used. Source: RFC 7162 §7.
    """
    cursor.expect(b"(")
    uidvalidity = cursor.nz_number()
    cursor.space()
    modseq = cursor.number(most=NUMBER64_MAX)
    if modseq == 0:
        raise BadCommandError("Number out of range")
    uids, matched = None, False
    if not cursor.maybe(b")"):
        cursor.space()
        if cursor.peek() != b"(":
            uids = cursor.sequence_set()
            if uids.has_star:
                raise BadCommandError("Invalid sequence set")
        if uids is None or not cursor.maybe(b")"):
            if uids is not None:
                cursor.space()
            cursor.expect(b"(")
            cursor.sequence_set()
            cursor.space()
            cursor.sequence_set()
            cursor.expect(b"))")
            matched = True
    return c.Known(uidvalidity, modseq, uids, matched)


def _rename(cursor: Cursor) -> c.Rename:
    return c.Rename(cursor.mailbox(), cursor.mailbox())


def _create(cursor: Cursor) -> c.Create:
    cursor.space()
    raw = cursor.astring()
    uses: tuple[str, ...] = ()
    if not cursor.at_end:
        cursor.space()
        cursor.expect(b"(USE ")
        uses = cursor.flag_list()
        cursor.expect(b")")
    # RFC 9051 §6.3.4: a trailing separator only says that names will be created below.
    return c.Create(canonical(cursor.read_name(raw.removesuffix(b"/"))), uses)


def _get_quota(cursor: Cursor) -> c.GetQuota:
    cursor.space()
    return c.GetQuota(cursor.read_name(cursor.astring()))


def _identifier(cursor: Cursor) -> bytes:
    cursor.space()
    return cursor.astring()


def _set_acl(cursor: Cursor) -> c.SetAcl:
    """``mod-rights = astring``: ``+`` or ``-`` and rights. Source: RFC 4314 §7."""
    mailbox, identifier = cursor.mailbox(), _identifier(cursor)
    cursor.space()
    letters = cursor.astring().decode("latin-1")
    mode = RightsMode(letters[:1]) if letters[:1] in ("+", "-") else RightsMode.REPLACE
    try:
        rights = parse_rights(letters.removeprefix(mode.value))
    except UnknownRightError:
        raise BadCommandError("Unknown right") from None
    if identifier.startswith(b"-"):
        raise BadCommandError("Negative rights are not offered")
    return c.SetAcl(mailbox, identifier, mode, rights)


def _compress(cursor: Cursor) -> c.Compress:
    cursor.space()
    if cursor.keyword() != b"DEFLATE":
        raise BadCommandError("Unknown mechanism")
    return c.Compress()


def _list(cursor: Cursor) -> c.List:
    cursor.space()
    select: frozenset[c.ListSelect] = frozenset()
    extended = False
    if cursor.peek() == b"(":
        extended = True
        select = frozenset(_list_select(cursor))
        cursor.space()
        if c.ListSelect.RECURSIVEMATCH in select and select <= _MODIFIERS:
            raise BadCommandError("RECURSIVEMATCH needs another selection option")
    reference = cursor.read_name(cursor.astring())
    cursor.space()
    if cursor.peek() == b"(":
        extended = True
        patterns = _patterns(cursor)
    else:
        patterns = [cursor.read_name(cursor.list_mailbox())]
    returns: frozenset[c.ListReturn] = frozenset()
    status: tuple[c.StatusItem, ...] = ()
    if not cursor.at_end:
        extended = True
        returns, status = _list_returns(cursor)
    return c.List(reference, tuple(patterns), select, returns, status, extended)


def _patterns(cursor: Cursor) -> list[str]:
    cursor.expect(b"(")
    patterns = [cursor.read_name(cursor.list_mailbox())]
    while not cursor.maybe(b")"):
        cursor.space()
        patterns.append(cursor.read_name(cursor.list_mailbox()))
        if len(patterns) > PATTERNS_MAX:
            raise BadCommandError("Too many patterns")
    return patterns


def _list_returns(
    cursor: Cursor,
) -> tuple[frozenset[c.ListReturn], tuple[c.StatusItem, ...]]:
    returns: set[c.ListReturn] = set()
    status: tuple[c.StatusItem, ...] = ()
    cursor.space()
    cursor.expect(b"RETURN (")
    while not cursor.maybe(b")"):
        if returns:
            cursor.space()
        option = _enum(c.ListReturn, cursor.keyword())
        returns.add(option)
        if option is c.ListReturn.STATUS:
            cursor.space()
            status = _status_items(cursor)
    return frozenset(returns), status


def _list_select(cursor: Cursor) -> list[c.ListSelect]:
    cursor.expect(b"(")
    options: list[c.ListSelect] = []
    while not cursor.maybe(b")"):
        if options:
            cursor.space()
        options.append(_enum(c.ListSelect, cursor.keyword()))
        if len(options) > len(c.ListSelect):
            raise BadCommandError
    return options


def _enum(kind: type[E], value: bytes) -> E:
    try:
        return kind(value)
    except ValueError:
        raise BadCommandError("Unknown option") from None


def _lsub(cursor: Cursor) -> c.Lsub:
    cursor.space()
    reference = cursor.read_name(cursor.astring())
    cursor.space()
    return c.Lsub(reference, cursor.read_name(cursor.list_mailbox()))


def _status_items(cursor: Cursor) -> tuple[c.StatusItem, ...]:
    cursor.expect(b"(")
    items: list[c.StatusItem] = []
    while not cursor.maybe(b")"):
        if items:
            cursor.space()
        item = _enum(c.StatusItem, cursor.keyword())
        if item not in items:
            items.append(item)
    if not items:
        raise BadCommandError("Missing argument")
    return tuple(items)


def _status(cursor: Cursor) -> c.Status:
    mailbox = cursor.mailbox()
    cursor.space()
    return c.Status(mailbox, _status_items(cursor))


def _uid_batches(cursor: Cursor) -> cs.UidBatches:
    """``"UIDBATCHES" SP nz-number [SP nz-number ":" nz-number]``. Source: RFC 10022 §4."""
    cursor.space()
    size = cursor.nz_number()
    if cursor.at_end:
        return cs.UidBatches(size)
    cursor.space()
    first = cursor.nz_number()
    cursor.expect(b":")
    last = cursor.nz_number()
    if first > last:
        raise BadCommandError("The first batch comes first", Code.CLIENTBUG)
    return cs.UidBatches(size, first, last)


def _id(cursor: Cursor) -> c.Id:
    cursor.space()
    if cursor.maybe(b"NIL"):
        return c.Id()
    cursor.expect(b"(")
    count = 0
    while not cursor.maybe(b")"):
        if count:
            cursor.space()
        cursor.string()
        cursor.space()
        cursor.nstring()
        count += 1
        if count > ID_PAIRS_MAX:
            raise BadCommandError("Too many fields")
    return c.Id()


def _uid_expunge(cursor: Cursor) -> c.Expunge:
    cursor.space()
    return c.Expunge(cursor.numbers())


_STORE_MODES = {
    b"FLAGS": cm.StoreMode.REPLACE,
    b"+FLAGS": cm.StoreMode.ADD,
    b"-FLAGS": cm.StoreMode.REMOVE,
}


def _store(numbering: Numbering) -> Reader:
    def read(cursor: Cursor) -> cm.Store:
        cursor.space()
        numbers = cursor.numbers()
        cursor.space()
        unchangedsince = None
        if cursor.maybe(b"(UNCHANGEDSINCE "):
            unchangedsince = cursor.number(most=NUMBER64_MAX)
            cursor.expect(b")")
            cursor.space()
        word = cursor.keyword()
        name, _, suffix = word.partition(b".")
        mode = _STORE_MODES.get(name)
        if mode is None or suffix not in (b"", b"SILENT") or word.endswith(b"."):
            raise BadCommandError("Unknown item")
        cursor.space()
        if cursor.peek() == b"(":
            flags = cursor.flag_list()
        else:
            listed = [cursor.flag()]
            while not cursor.at_end and len(listed) < FLAGS_MAX:
                cursor.space()
                listed.append(cursor.flag())
            flags = tuple(listed)
        return cm.Store(numbers, mode, flags, bool(suffix), numbering, unchangedsince)

    return read


def _copy(kind: type[cm.Copy] | type[cm.Move], numbering: Numbering) -> Reader:
    def read(cursor: Cursor) -> cm.Copy | cm.Move:
        cursor.space()
        numbers = cursor.numbers()
        return kind(numbers, cursor.mailbox(), numbering)

    return read


def _plain(command: c.Command) -> Reader:
    return lambda _cursor: command


_SEQUENCE, _UID = Numbering.SEQUENCE, Numbering.UID

READERS: dict[bytes, Reader] = {
    b"CAPABILITY": _plain(c.Capability()),
    b"NOOP": _plain(c.Noop()),
    b"LOGOUT": _plain(c.Logout()),
    b"ID": _id,
    b"STARTTLS": _plain(c.StartTls()),
    b"AUTHENTICATE": _authenticate,
    b"LOGIN": _login,
    b"ENABLE": _enable,
    b"SELECT": _select(c.Access.READ_WRITE),
    b"EXAMINE": _select(c.Access.READ_ONLY),
    b"CREATE": _create,
    b"DELETE": lambda cursor: c.Delete(cursor.mailbox()),
    b"RENAME": _rename,
    b"SUBSCRIBE": lambda cursor: c.Subscribe(cursor.mailbox()),
    b"UNSUBSCRIBE": lambda cursor: c.Unsubscribe(cursor.mailbox()),
    b"LIST": _list,
    b"LSUB": _lsub,
    b"COMPRESS": _compress,
    b"GETQUOTA": _get_quota,
    b"GETQUOTAROOT": lambda cursor: c.GetQuotaRoot(cursor.mailbox()),
    b"GETACL": lambda cursor: c.GetAcl(cursor.mailbox()),
    b"SETACL": _set_acl,
    b"DELETEACL": lambda cursor: c.DeleteAcl(cursor.mailbox(), _identifier(cursor)),
    b"LISTRIGHTS": lambda cursor: c.ListRights(cursor.mailbox(), _identifier(cursor)),
    b"MYRIGHTS": lambda cursor: c.MyRights(cursor.mailbox()),
    b"NOTIFY": read_notify,
    b"NAMESPACE": _plain(c.Namespace()),
    b"STATUS": _status,
    b"APPEND": read_append,
    b"REPLACE": lambda cursor: read_replace(cursor, _SEQUENCE),
    b"UID REPLACE": lambda cursor: read_replace(cursor, _UID),
    b"IDLE": _plain(c.Idle()),
    b"CHECK": _plain(c.Check()),
    b"CLOSE": _plain(c.Close()),
    b"UNSELECT": _plain(c.Unselect()),
    b"EXPUNGE": _plain(c.Expunge()),
    b"UID EXPUNGE": _uid_expunge,
    b"FETCH": lambda cursor: read_fetch(cursor, _SEQUENCE),
    b"UID FETCH": lambda cursor: read_fetch(cursor, _UID),
    b"STORE": _store(_SEQUENCE),
    b"UID STORE": _store(_UID),
    b"COPY": _copy(cm.Copy, _SEQUENCE),
    b"UID COPY": _copy(cm.Copy, _UID),
    b"MOVE": _copy(cm.Move, _SEQUENCE),
    b"UID MOVE": _copy(cm.Move, _UID),
    b"SEARCH": lambda cursor: read_search(cursor, _SEQUENCE),
    b"UID SEARCH": lambda cursor: read_search(cursor, _UID),
    b"ESEARCH": read_multi_search,
    b"UIDBATCHES": _uid_batches,
    b"SORT": lambda cursor: read_sort(cursor, _SEQUENCE),
    b"UID SORT": lambda cursor: read_sort(cursor, _UID),
    b"THREAD": lambda cursor: read_thread(cursor, _SEQUENCE),
    b"UID THREAD": lambda cursor: read_thread(cursor, _UID),
}
"""Every command and what reads its arguments."""
