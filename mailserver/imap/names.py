"""Folder names: modified UTF-7 both ways, what a name may be, LIST patterns.

Invariants: a name is unicode in NFC with '/' between levels, and only ever a key in a table,
never a path (threat I7); matching a pattern costs O(name) steps on one integer (threat I4).

Source: RFC 3501 §5.1.3, RFC 9051 §5.1, §6.3.9.
"""

import base64
import binascii
import unicodedata

from mailserver.imap.errors import BadCommandError, Code, RefusedError

SEPARATOR = "/"
OTHERS = "Other Users/"
"""The namespace of the mailboxes that others let one into; see DECISIONS for the name."""
NAME_MAX = 255
"""Characters of a whole name; Dovecot's default is 255 octets a level."""
LEVELS_MAX = 20


def decode_mutf7(raw: bytes) -> str:
    """Decode modified UTF-7. UTF-8 is taken too, as Dovecot does for clients that forget.

    Raises:
        BadCommandError: neither of the two.
    """
    if raw.isascii() and b"&" not in raw:
        return raw.decode("ascii")
    if not raw.isascii():
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BadCommandError("Invalid mailbox name") from None
    parts: list[str] = []
    rest = raw
    while rest:
        plain, shift, rest = rest.partition(b"&")
        parts.append(plain.decode("ascii"))
        if not shift:
            break
        encoded, dash, rest = rest.partition(b"-")
        if not dash:
            raise BadCommandError("Invalid mailbox name")
        parts.append(_decode_run(encoded) if encoded else "&")
    name = "".join(parts)
    if encode_mutf7(name) != raw:
        # Two spellings of one name would be two keys in a client's cache.
        raise BadCommandError("Invalid mailbox name")
    return name


def _decode_run(encoded: bytes) -> str:
    try:
        octets = base64.b64decode(
            encoded.replace(b",", b"/") + b"=" * (-len(encoded) % 4), validate=True
        )
        return octets.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError):
        raise BadCommandError("Invalid mailbox name") from None


def decode_utf8(raw: bytes) -> str:
    """Decode a name of a client that enabled UTF-8: ``&`` is only a letter.

    Raises:
        BadCommandError: not UTF-8.

    Source: RFC 6855 §3, RFC 9051 §5.1.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadCommandError("Invalid mailbox name") from None


def encode_mutf7(name: str) -> bytes:
    """Encode a name in modified UTF-7."""
    out: list[str] = []
    run: list[str] = []

    def flush() -> None:
        if run:
            octets = "".join(run).encode("utf-16-be")
            text = base64.b64encode(octets).decode("ascii").rstrip("=").replace("/", ",")
            out.append(f"&{text}-")
            run.clear()

    for character in name:
        if " " <= character <= "~":
            flush()
            out.append("&-" if character == "&" else character)
        else:
            run.append(character)
    flush()
    return "".join(out).encode("ascii")


def canonical(decoded: str) -> str:
    """Give the name that a mailbox argument stands for; INBOX in any case is INBOX."""
    name = unicodedata.normalize("NFC", decoded)
    head, slash, tail = name.partition(SEPARATOR)
    if head.upper() == "INBOX":
        return f"INBOX{slash}{tail}"
    return name


def require_creatable(name: str) -> None:
    """Refuse a name that cannot become a folder.

    Raises:
        RefusedError: CANNOT.

    Source: RFC 9051 §5.1, threats I7.
    """
    levels = name.split(SEPARATOR)
    bad = (
        not name
        or len(name) > NAME_MAX
        or len(levels) > LEVELS_MAX
        or any(not level or level in {".", ".."} or level != level.strip() for level in levels)
        or name.startswith(("~", "#"))
        or any(
            character in '*%\\"'
            or unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
            for character in name
        )
    )
    if bad:
        raise RefusedError(Code.CANNOT, "No folder can have this name")


class Pattern:
    """A LIST pattern: ``*`` is any run, ``%`` any run without the separator."""

    __slots__ = ("_accept", "_percent", "_star", "_steps", "_wild")

    def __init__(self, pattern: str) -> None:
        parts = _collapse(pattern)
        self._accept = 1 << len(parts)
        self._star = 0
        self._percent = 0
        self._steps: dict[str, int] = {}
        for index, part in enumerate(parts):
            bit = 1 << index
            if part == "*":
                self._star |= bit
            elif part == "%":
                self._percent |= bit
            else:
                self._steps[part] = self._steps.get(part, 0) | bit
        self._wild = self._star | self._percent

    def matches(self, name: str) -> bool:
        """Say whether the whole name matches."""
        wild, star, percent, steps = self._wild, self._star, self._percent, self._steps
        state = 1
        state |= (state & wild) << 1
        for character in name:
            stay = star if character == SEPARATOR else star | percent
            state = ((state & steps.get(character, 0)) << 1) | (state & stay)
            state |= (state & wild) << 1
            if not state:
                return False
        return bool(state & self._accept)


def _collapse(pattern: str) -> list[str]:
    steps: list[str] = []
    for character in pattern:
        if character in "*%" and steps and steps[-1] in "*%":
            if character == "*":
                steps[-1] = "*"
            continue
        steps.append(character)
    return steps
