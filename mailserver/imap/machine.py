"""What may be said when: the states of a connection and the commands each allows.

Rule: everything that decides whether a command may run in a state lives here, in one table.

Source: RFC 9051 §3, §6.
"""

from enum import Enum

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.sets import Numbering


class State(Enum):
    """States of a connection. Source: RFC 9051 §3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_ANY: tuple[type, ...] = (c.Capability, c.Noop, c.Logout, c.Id)
_BEFORE: tuple[type, ...] = (c.StartTls, c.Authenticate, c.Login)
_AFTER: tuple[type, ...] = (
    c.Enable,
    c.Select,
    c.Create,
    c.Delete,
    c.Rename,
    c.Subscribe,
    c.Unsubscribe,
    c.List,
    c.Lsub,
    c.Namespace,
    c.Status,
    c.Append,
    c.Idle,
    c.Compress,
    c.GetQuota,
    c.GetQuotaRoot,
    c.GetAcl,
    c.SetAcl,
    c.DeleteAcl,
    c.ListRights,
    c.MyRights,
    cs.Notify,
    cs.MultiSearch,
)
_OPEN: tuple[type, ...] = (
    c.Check,
    c.Close,
    c.Unselect,
    c.Expunge,
    cm.Fetch,
    cm.Store,
    cm.Copy,
    cm.Move,
    c.Replace,
    cs.Search,
    cs.UidBatches,
    cs.Sort,
    cs.Thread,
)
COMMANDS: tuple[type, ...] = (*_ANY, *_BEFORE, *_AFTER, *_OPEN)
"""Every command of ``commands.Command``."""

ALLOWED: dict[State, frozenset[type]] = {
    State.NOT_AUTHENTICATED: frozenset(_ANY + _BEFORE),
    State.AUTHENTICATED: frozenset(_ANY + _AFTER),
    State.SELECTED: frozenset(_ANY + _AFTER + _OPEN),
    State.LOGOUT: frozenset(),
}
"""The table. A command that is not in its state's row is BAD and changes nothing."""

NEEDS_WRITING = frozenset({c.Expunge, cm.Store, cm.Move, c.Replace})
"""In a folder opened by EXAMINE these are NO [READ-ONLY]."""

KEEPS_NUMBERS: frozenset[type] = frozenset({cm.Fetch, cm.Store, cs.Search, cs.Sort, cs.Thread})
"""No EXPUNGE response while one of these speaks in message numbers (RFC 9051 §7.5.1)."""

REPORTS_PROGRESS: frozenset[type] = frozenset(
    {
        c.Append,
        c.Replace,
        cm.Store,
        cm.Copy,
        cm.Move,
        cs.Search,
        cs.MultiSearch,
        cs.Sort,
        cs.Thread,
    }
)
"""What may take long, and says so meanwhile; each writes whole lines only (RFC 9585 §3).

Not EXPUNGE: what NOTIFY shows of new messages may come out in the midst of it."""

PRIVATE: frozenset[type] = frozenset({c.Login, c.Authenticate})
"""They carry a secret: refused where it could be read on the way."""


def speaks_numbers(command: c.Command) -> bool:
    """Say whether message numbers are in a command, or would be in its answer.

    Such a command is refused once UIDONLY is on. Source: RFC 9586 §3.
    """
    if getattr(command, "numbering", None) is Numbering.SEQUENCE:
        return True
    match command:
        case cs.Search(key=key) | cs.Sort(key=key) | cs.Thread(key=key):
            return k.names_numbers(key)
        case c.Select(known=known):
            return known is not None and known.matched
        case _:
            return False


def allowed(state: State, command: type) -> bool:
    """Say whether the table lets a command run."""
    return command in ALLOWED[state]


def expunge_allowed(command: c.Command) -> bool:
    """Say whether EXPUNGE responses may come before this command's tagged reply.

    Source: RFC 9051 §7.5.1, §5.5.
    """
    if type(command) not in KEEPS_NUMBERS:
        return True
    return getattr(command, "numbering", None) is Numbering.UID
