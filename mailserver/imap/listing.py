r"""What LIST and LSUB answer, from the folders of one mailbox; pure.

Invariants: levels that exist only because something lies below them are shown as
``\NonExistent`` (``\Noselect`` for older clients); parents come before their children.

Source: RFC 9051 §6.3.9, RFC 5258 §3, RFC 3501 §6.3.9.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mailserver.imap.commands import List, ListReturn, ListSelect
from mailserver.imap.commands_search import Scope, Watched
from mailserver.imap.names import SEPARATOR, Pattern


@dataclass(frozen=True, slots=True)
class Named:
    """A folder, as far as a listing needs it."""

    name: str
    special_use: str | None
    subscribed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer; ``exists`` says STATUS can be given for it."""

    name: str
    attributes: tuple[bytes, ...]
    exists: bool
    child_info: bool = False


def _parents(name: str) -> Iterable[str]:
    at = name.find(SEPARATOR)
    while at >= 0:
        yield name[:at]
        at = name.find(SEPARATOR, at + 1)


def _order(name: str) -> tuple[bool, str]:
    return (name != "INBOX", name)


class _Tree:
    """The folders and the levels above them."""

    def __init__(self, folders: Iterable[Named]) -> None:
        self.folders = {folder.name: folder for folder in folders}
        self.with_children: set[str] = set()
        self.above_subscribed: set[str] = set()
        self.above_special: set[str] = set()
        for folder in self.folders.values():
            for parent in _parents(folder.name):
                self.with_children.add(parent)
                if folder.subscribed:
                    self.above_subscribed.add(parent)
                if folder.special_use:
                    self.above_special.add(parent)
        self.names = sorted({*self.folders, *self.with_children}, key=_order)

    def attributes(self, name: str, *, subscribed: bool) -> list[bytes]:
        folder = self.folders.get(name)
        words: list[bytes] = []
        if folder is None:
            words += [b"\\NonExistent", b"\\Noselect"]
        words.append(b"\\HasChildren" if name in self.with_children else b"\\HasNoChildren")
        if folder is not None and folder.special_use:
            words.append(folder.special_use.encode("ascii"))
        if subscribed and folder is not None and folder.subscribed:
            words.append(b"\\Subscribed")
        return words


def _patterns(reference: str, patterns: Iterable[str]) -> list[Pattern]:
    wholes = [reference + pattern for pattern in patterns]
    return [Pattern(_inbox(whole)) for whole in wholes]


def _inbox(pattern: str) -> str:
    head, slash, tail = pattern.partition(SEPARATOR)
    return f"INBOX{slash}{tail}" if head.upper() == "INBOX" else pattern


def list_lines(folders: Iterable[Named], command: List) -> list[Line]:
    """Answer LIST. The hierarchy question ``LIST "" ""`` is the caller's."""
    tree = _Tree(folders)
    wanted = _patterns(command.reference, command.patterns)
    select = command.select
    show_subscribed = ListSelect.SUBSCRIBED in select or ListReturn.SUBSCRIBED in command.returns
    recursive = ListSelect.RECURSIVEMATCH in select
    lines: list[Line] = []
    for name in tree.names:
        if not any(pattern.matches(name) for pattern in wanted):
            continue
        folder = tree.folders.get(name)
        own = not select or folder is not None
        below = recursive
        if ListSelect.SUBSCRIBED in select:
            own = own and folder is not None and folder.subscribed
            below = below and name in tree.above_subscribed
        if ListSelect.SPECIAL_USE in select:
            own = own and folder is not None and folder.special_use is not None
            below = below and name in tree.above_special
        if ListSelect.SUBSCRIBED not in select:
            # RFC 5258 §3.5: CHILDINFO speaks of the options it can name; RFC 6154 adds none.
            below = False
        if own or below:
            words = tuple(tree.attributes(name, subscribed=show_subscribed))
            lines.append(Line(name, words, exists=folder is not None, child_info=below))
    return lines


def lsub_lines(folders: Iterable[Named], reference: str, pattern: str) -> list[Line]:
    """Answer LSUB: subscribed names, and with ``%`` the levels above one that is hidden by it.

    Source: RFC 3501 §6.3.9.
    """
    tree = _Tree(folders)
    (wanted,) = _patterns(reference, [pattern])
    lines: list[Line] = []
    for name in tree.names:
        if not wanted.matches(name):
            continue
        folder = tree.folders.get(name)
        if folder is not None and folder.subscribed:
            lines.append(Line(name, (), exists=True))
        elif name in tree.above_subscribed and pattern.endswith("%"):
            lines.append(Line(name, (b"\\Noselect",), exists=False))
    return lines


def in_scope(scope: Scope, name: str, *, subscribed: bool) -> bool:
    """Say whether NOTIFY's or ESEARCH's filter takes a folder in; the selected one it is not.

    Source: RFC 5465 §6, RFC 7377 §2.2.
    """
    match scope.watched:
        case Watched.PERSONAL:
            return True
        case Watched.INBOXES:
            return name == "INBOX"
        case Watched.SUBSCRIBED:
            return subscribed
        case Watched.MAILBOXES:
            return name in scope.mailboxes
        case Watched.SUBTREE:
            return any(name == top or name.startswith(top + SEPARATOR) for top in scope.mailboxes)
        case Watched.SUBTREE_ONE:
            above = name.rpartition(SEPARATOR)[0]
            return any(top in (name, above) for top in scope.mailboxes)
        case Watched.SELECTED | Watched.SELECTED_DELAYED:
            return False
