"""Looks for a folded text in a stored message; pure, and run in a thread.

For messages that the index has not reached, and for header fields that it does not hold.
Invariants: what is searched is the decoded text, never its transfer encoding, folded like the
needle; the outline says where the text parts lie.

Source: RFC 9051 §6.4.4.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certs.mime import HeaderField, Part, decode_outline, fields_of
from mailserver.message.search_text import body_texts, header_field_has, header_text


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as it is stored; ``body`` is None when only its header is looked at."""

    outline: bytes
    prefix: bytes
    body: bytes | None


def header_matches(messages: Sequence[Stored], field: str, needle: str) -> list[bool]:
    """Say for each message whether a field of that name holds the text (empty: exists)."""
    return [
        header_field_has(header_text(_named(message, field)), field, needle)
        for message in messages
    ]


def text_matches(messages: Sequence[Stored], needle: str, *, headers: bool) -> list[bool]:
    """Say for each message whether its text holds the needle.

    Args:
        messages: with their bodies; prefixes are not looked at.
        needle: what is looked for.
        headers: look in the header too (TEXT), else in the body only (BODY).
    """
    found = []
    for message in messages:
        outline = decode_outline(message.outline)
        hit = headers and needle in header_text(outline.header)
        found.append(
            hit or any(needle in text for text in body_texts(message.body or b"", outline))
        )
    return found


def _named(message: Stored, name: str) -> Iterable[HeaderField]:
    fields = decode_outline(message.outline).header
    if message.prefix:
        part = Part((), 0, len(message.prefix), len(message.prefix))
        fields = (*fields_of(message.prefix, part), *fields)
    return [field for field in fields if field.name.lower() == name]
