"""Orders messages for SORT and THREAD; pure.

Invariants: equal messages stay in the order of the folder; nothing recurses, however long a
thread is; a message that names itself among its references starts no circle.

Source: RFC 5256 §2.1, §2.2, §3; RFC 5957 §3.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

ANCESTORS_MAX: Final = 1000
"""A chain of answers longer than this is cut in two rather than walked."""

_SPACE: Final = re.compile(r"[ \t\r\n]+")
_TRAILER: Final = re.compile(r"(?: |\(fwd\))+\Z", re.IGNORECASE)
_LEADER: Final = re.compile(
    r"(?:\[[^\[\]]*\] *)*(?:re|fwd?) *(?:\[[^\[\]]*\] *)?:| ", re.IGNORECASE
)
_BLOB: Final = re.compile(r"\[[^\[\]]*\] *")
_FORWARD: Final = "[fwd:"


@dataclass(frozen=True, slots=True)
class BaseSubject:
    """A subject without what answering and forwarding add.

    Attributes:
        is_reply: something was taken away that says answer or forward.
    """

    text: str
    is_reply: bool


def base_subject(subject: str) -> BaseSubject:
    """Give the base subject of a decoded one, which the index cut at 4,000 characters.

    Source: RFC 5256 §2.1.
    """
    text, is_reply = _SPACE.sub(" ", subject), False
    while True:
        cut = _TRAILER.sub("", text)
        is_reply = is_reply or "(" in text[len(cut) :]
        text = cut
        while True:
            leader = _LEADER.match(text)
            if leader is not None:
                is_reply = is_reply or leader[0] != " "
                text = text[leader.end() :]
                continue
            blob = _BLOB.match(text)
            if blob is None or blob.end() == len(text):
                break
            text = text[blob.end() :]
        if not (text[: len(_FORWARD)].lower() == _FORWARD and text.endswith("]")):
            return BaseSubject(text, is_reply)
        text, is_reply = text[len(_FORWARD) : -1], True


def casemap(text: str) -> str:
    """Give a text as ``i;unicode-casemap`` compares it. Source: RFC 5051 §2."""
    if text.isascii():
        return text.upper()
    return unicodedata.normalize("NFKD", "".join(character.title() for character in text))


class SortKey(Enum):
    """What SORT can order by. Source: RFC 5256 §3, RFC 5957 §3."""

    ARRIVAL = b"ARRIVAL"
    CC = b"CC"
    DATE = b"DATE"
    FROM = b"FROM"
    SIZE = b"SIZE"
    SUBJECT = b"SUBJECT"
    TO = b"TO"
    DISPLAYFROM = b"DISPLAYFROM"
    DISPLAYTO = b"DISPLAYTO"


@dataclass(frozen=True, slots=True)
class SortBy:
    """One criterion."""

    key: SortKey
    reverse: bool = False


def sort_positions(
    positions: Sequence[int], criteria: Sequence[tuple[Callable[[int], object], bool]]
) -> list[int]:
    """Order positions by several criteria, the first the strongest.

    Args:
        positions: ascending.
        criteria: what gives a position's value, and whether the order is reversed.
    """
    ordered = list(positions)
    for value, reverse in reversed(criteria):
        ordered.sort(key=value, reverse=reverse)  # type: ignore[arg-type]  # comparable by contract
    return ordered


@dataclass(frozen=True, slots=True)
class Threaded:
    """What threading needs of one message.

    Attributes:
        number: message number or UID, as the answer names it.
        sent_at: microseconds; the internal date when the message says none.
        references: Message-IDs of the ancestors, the oldest first.
    """

    number: int
    message_id: str
    references: tuple[str, ...]
    sent_at: int
    subject: BaseSubject


@dataclass(slots=True, eq=False)
class Node:
    """A message in its thread; ``message`` is None for one that is not in the folder."""

    message: Threaded | None = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)

    @property
    def sent_at(self) -> int:
        """When it, or its first child, was sent."""
        return self.first.sent_at

    @property
    def first(self) -> Threaded:
        """Its message, or the first below it."""
        node = self
        while node.message is None:
            node = node.children[0]
        return node.message

    def adopt(self, child: "Node") -> None:
        """Take a child away from whom it has and keep it."""
        if child.parent is not None:
            child.parent.children.remove(child)
        child.parent = self
        self.children.append(child)


def ordered_subject(messages: Sequence[Threaded]) -> list[Node]:
    """Thread by base subject and date. Source: RFC 5256 §3 ORDEREDSUBJECT."""
    by_subject: dict[str, list[Threaded]] = {}
    for message in sorted(messages, key=lambda m: (m.sent_at, m.number)):
        by_subject.setdefault(casemap(message.subject.text), []).append(message)
    roots = []
    for first, *rest in by_subject.values():
        root = Node(first)
        for message in rest:
            root.adopt(Node(message))
        roots.append(root)
    return roots


def references(messages: Sequence[Threaded]) -> list[Node]:
    """Thread by References and base subject. Source: RFC 5256 §3 REFERENCES."""
    roots = _pruned(_linked(messages))
    _sort(roots)
    roots = _gathered(roots)
    _sort(roots)
    return roots


def _linked(messages: Sequence[Threaded]) -> list[Node]:
    """Steps 1 and 2: parents and children as the references say; gives the roots."""
    table: dict[str, Node] = {}
    nodes: list[Node] = []

    def node_of(message_id: str) -> Node:
        node = table.get(message_id)
        if node is None:
            node = table[message_id] = Node()
            nodes.append(node)
        return node

    for message in messages:
        node = table.get(message.message_id) if message.message_id else None
        if node is not None and node.message is None:
            node.message = message
        elif node is None and message.message_id:
            node = node_of(message.message_id)
            node.message = message
        else:  # no identifier, or one that another message has already
            node = Node(message)
            nodes.append(node)
        above: Node | None = None
        for reference in message.references:
            here = node_of(reference)
            if above is not None and here.parent is None and not _is_above(here, above):
                above.adopt(here)
            above = here
        if above is not None and above is not node and not _is_above(node, above):
            above.adopt(node)
    return [node for node in nodes if node.parent is None]


def _is_above(node: Node, below: Node) -> bool:
    """Whether ``node`` is ``below`` or an ancestor of it."""
    here: Node | None = below
    for _ in range(ANCESTORS_MAX):
        if here is None:
            return False
        if here is node:
            return True
        here = here.parent
    return True


def _pruned(roots: list[Node]) -> list[Node]:
    """Step 3: leave out who is not in the folder, unless it holds several threads together."""
    kept: list[Node] = []
    for root in roots:
        for node in reversed(_walk(root)):
            children: list[Node] = []
            for child in node.children:
                if child.message is None:
                    children.extend(child.children)
                else:
                    children.append(child)
            for child in children:
                child.parent = node
            node.children = children
        if root.message is not None or len(root.children) > 1:
            kept.append(root)
        elif root.children:
            root.children[0].parent = None
            kept.append(root.children[0])
    return kept


def _walk(root: Node) -> list[Node]:
    """Give a node and everything below it, parents first."""
    found, stack = [], [root]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(node.children)
    return found


def _sort(roots: list[Node]) -> None:
    """Steps 4 and 6: everything by date, children before those that stand for them."""
    for root in roots:
        for node in reversed(_walk(root)):
            node.children.sort(key=lambda child: (child.sent_at, child.first.number))
    roots.sort(key=lambda node: (node.sent_at, node.first.number))


def _gathered(roots: list[Node]) -> list[Node]:
    """Step 5: threads of one subject become one."""
    table: dict[str, Node] = {}
    for node in roots:
        subject = casemap(node.first.subject.text)
        held = table.get(subject)
        if not subject:
            continue
        if held is None or (
            held.message is not None
            and (
                node.message is None
                or (held.first.subject.is_reply and not node.first.subject.is_reply)
            )
        ):
            table[subject] = node
    gathered: list[Node] = []
    instead: dict[int, Node] = {}
    """id of a root -> the new one that holds it and others of its subject."""
    for root in roots:
        node = instead.get(id(root), root)
        held = table.get(casemap(node.first.subject.text))
        if held is None or held is node:
            gathered.append(node)
            continue
        if held.message is None and node.message is None:
            for child in list(node.children):
                held.adopt(child)
        elif held.message is None or (
            node.message is not None
            and node.first.subject.is_reply
            and not held.first.subject.is_reply
        ):
            held.adopt(node)
        else:
            both = instead[id(held)] = Node()
            table[casemap(held.first.subject.text)] = both
            both.adopt(held)
            both.adopt(node)
    # One that was passed before the new root was made stands where it stood.
    return [instead.get(id(node), node) for node in gathered]


def encode_threads(roots: Iterable[Node]) -> bytes:
    """Write the threads as THREAD answers them. Source: RFC 5256 §4 ``thread-list``."""
    out: list[bytes] = []
    for root in roots:
        stack: list[Node | bytes] = [b")", root, b"("]
        while stack:
            item = stack.pop()
            if isinstance(item, bytes):
                out.append(item)
                continue
            if item.message is not None:
                out.append(b"%d" % item.message.number)
            children = item.children
            if len(children) == 1:
                stack.extend((children[0], b" "))
                continue
            for child in reversed(children):
                stack.extend((b")", child, b"("))
            if children and item.message is not None:
                stack.append(b" ")
    return b"".join(out)
