"""The first words of a message, as a list of messages shows them.

Invariants: at most PREVIEW_MAX characters on one line, from the first part that a person reads,
however large the message is; an encrypted message, or one without such a part, has an empty
preview.

Source: RFC 8970 §3.2, §3.3.
"""

import re
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from typing import Final

from certs.mime import Outline, Part, decode_text

PREVIEW_MAX: Final = 200
"""Characters; RFC 8970 §3.2 wants 200 and allows no more than 256."""
READ_OCTETS: Final = 8192
"""Of the encoded part: enough for the first words behind a quotation or a style sheet."""
_BLANKS: Final = re.compile(r"[\s\x00-\x1f\x7f\u200b\ufeff\ufffd]+")
_QUOTED: Final = re.compile(r"^>.*$", re.MULTILINE)
_SILENT: Final = frozenset({"head", "script", "style", "title"})


def shown_part(outline: Outline) -> Part | None:
    """Give the part that a preview is taken from: the first plain text, else the first HTML."""
    html: Part | None = None
    waiting = [outline.root]
    while waiting:
        part = waiting.pop()
        if part.disposition == "attachment" or part.is_message:
            continue
        if part.type == "text/plain":
            return part
        if part.type == "text/html" and html is None:
            html = part
        waiting.extend(reversed(part.children))
    return html


def preview(octets: bytes, part: Part) -> str:
    """Give the preview of a part, from its first octets as they are stored."""
    cut = replace(part, header_start=0, body_start=0, body_end=len(octets))
    if len(octets) < part.octets:
        octets = _without_half_a_token(octets, part)
        cut = replace(cut, body_end=len(octets))
    text = decode_text(octets, cut)
    text = _words(text) if part.type == "text/html" else _QUOTED.sub("", text)
    return _BLANKS.sub(" ", text).strip()[:PREVIEW_MAX].rstrip()


def _without_half_a_token(octets: bytes, part: Part) -> bytes:
    """Drop what the cut may have halved: a quoted-printable line, else a character of UTF-8."""
    if part.encoding == "quoted-printable":
        return octets[: octets.rfind(b"\n") + 1] or octets
    end = len(octets)
    while end > len(octets) - 3 and 0x80 <= octets[end - 1] < 0xC0:
        end -= 1
    return octets[: end - 1] if octets[end - 1] >= 0xC0 else octets


def _words(html: str) -> str:
    """Give the text of HTML, up to where the library's reader gives up."""
    reader = _Words()
    with suppress(AssertionError):  # what Python 3.11 has for "<![x" and the like
        reader.feed(html)
    return "".join(reader.words)


class _Words(HTMLParser):
    """The text of HTML, less what no reader sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag separates words; some begin what is not shown."""
        del attrs
        self.words.append(" ")
        self._silent += tag in _SILENT

    def handle_endtag(self, tag: str) -> None:
        """The other end."""
        self.words.append(" ")
        self._silent = max(0, self._silent - (tag in _SILENT))

    def handle_data(self, data: str) -> None:
        """Keep what is shown."""
        if not self._silent:
            self.words.append(data)
