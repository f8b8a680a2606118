"""Looks for a folded text in a stored message; pure, and run in a thread.

For messages that the index has not reached, and for header fields that it does not hold.
Invariants: what is searched is the decoded text, never its transfer encoding, folded like the
needle; the outline says where the text parts lie.

Source: RFC 9051 §6.4.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from certs.mime import (
    Outline,
    Part,
    decode_header,
    decode_outline,
    decode_text,
    fields_of,
    walk,
)
from mailserver.message.search_text import fold


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as it is stored; ``body`` is None when only its header is looked at."""

    outline: bytes
    prefix: bytes
    body: bytes | None


def header_matches(messages: Sequence[Stored], field: str, needle: str) -> list[bool]:
    """Say for each message whether a field of that name holds the text (empty: exists)."""
    return [_header_has(message, field, needle) for message in messages]


def text_matches(messages: Sequence[Stored], needle: str, *, headers: bool) -> list[bool]:
    """Say for each message whether its text holds the needle.

    Args:
        messages: with their bodies.
        needle: what is looked for.
        headers: look in the header too (TEXT), else in the body only (BODY).
    """
    found = []
    for message in messages:
        outline = decode_outline(message.outline)
        raw = message.body or b""
        hit = headers and (
            any(needle in fold(decode_header(value)) for value in _values(message, outline))
            or any(needle in fold(field.name) for field in outline.header)
        )
        found.append(hit or _body_has(raw, outline, needle))
    return found


def _prefix_fields(prefix: bytes) -> list[tuple[str, bytes]]:
    if not prefix:
        return []
    part = Part((), 0, len(prefix), len(prefix))
    return [(field.name.lower(), field.value) for field in fields_of(prefix, part)]


def _values(message: Stored, outline: Outline) -> list[bytes]:
    values = [value for _, value in _prefix_fields(message.prefix)]
    values.extend(field.value for field in outline.header)
    return values


def _header_has(message: Stored, name: str, needle: str) -> bool:
    outline = decode_outline(message.outline)
    for field in outline.header:
        if field.name.lower() == name and needle in fold(decode_header(field.value)):
            return True
    return any(
        field_name == name and needle in fold(decode_header(value))
        for field_name, value in _prefix_fields(message.prefix)
    )


def _body_has(raw: bytes, outline: Outline, needle: str) -> bool:
    return any(_part_has(raw, part, needle) for part in walk(outline))


def _part_has(raw: bytes, part: Part, needle: str) -> bool:
    if part.is_message:
        inner = part.children[0]
        return any(needle in fold(decode_header(f.value)) for f in fields_of(raw, inner))
    if not part.type.startswith("text/") or part.children:
        return False
    return needle in fold(decode_text(raw, part))
