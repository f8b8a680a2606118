"""The commands that search, and what NOTIFY watches by the same scopes, as values.

Source: RFC 9051 §6 and the extensions named at each class.
"""

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.commands_messages import FetchItem
from mailserver.imap.ordering import SortBy
from mailserver.imap.search_keys import SearchKey
from mailserver.imap.sets import Numbering, Window


class SearchReturn(Enum):
    """ESEARCH result options (RFC 4731 §3.1, RFC 5182 §2, RFC 9394 §3.1)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"
    PARTIAL = b"PARTIAL"


@dataclass(frozen=True, slots=True)
class Returns:
    """What a search is asked to answer with; ``partial`` is given with PARTIAL."""

    options: frozenset[SearchReturn]
    partial: Window | None = None

    @classmethod
    def of(cls, *options: SearchReturn) -> "Returns":
        """Build one without PARTIAL."""
        return cls(frozenset(options))

    def __contains__(self, option: SearchReturn) -> bool:
        return option in self.options

    @property
    def only_saves(self) -> bool:
        """Nothing is to be answered (RFC 5182 §2.1)."""
        return self.options == {SearchReturn.SAVE}


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (RFC 9051 §6.4.4); ``returns`` is None for the old response."""

    key: SearchKey
    numbering: Numbering
    returns: Returns | None
    names_charset: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES (RFC 10022 §3.1); the batches from ``first`` to ``last``, None for all."""

    size: int
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT (RFC 5256 §3; ``returns``: RFC 5267 §3.1)."""

    by: tuple[SortBy, ...]
    key: SearchKey
    numbering: Numbering
    returns: Returns | None


class Watched(Enum):
    """Of which mailboxes NOTIFY and ESEARCH speak. Source: RFC 5465 §6, RFC 7377 §2.2."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


class Event(Enum):
    """What NOTIFY can tell here. Source: RFC 5465 §5."""

    MESSAGE_NEW = b"MESSAGENEW"
    MESSAGE_EXPUNGE = b"MESSAGEEXPUNGE"
    FLAG_CHANGE = b"FLAGCHANGE"
    MAILBOX_NAME = b"MAILBOXNAME"
    SUBSCRIPTION_CHANGE = b"SUBSCRIPTIONCHANGE"


@dataclass(frozen=True, slots=True)
class Scope:
    """Some mailboxes; ``mailboxes`` are the names that MAILBOXES and the subtrees come with."""

    watched: Watched
    mailboxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of some mailboxes; ``items`` are what FETCH tells of a new message."""

    scope: Scope
    events: frozenset[Event]
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (RFC 5465 §3); NONE has no groups, ``status`` asks for the counts of now."""

    groups: tuple[EventGroup, ...]
    status: bool = False


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH (RFC 7377 §2.1); without scopes in the selected mailbox."""

    scopes: tuple[Scope, ...]
    key: SearchKey
    returns: Returns
    names_charset: bool = False


class ThreadAlgorithm(Enum):
    """Threading algorithms (RFC 5256 §3)."""

    ORDEREDSUBJECT = b"ORDEREDSUBJECT"
    REFERENCES = b"REFERENCES"


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 §3)."""

    algorithm: ThreadAlgorithm
    key: SearchKey
    numbering: Numbering
