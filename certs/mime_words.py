"""The words inside header fields: RFC 2047 encoded words, parameters, charsets.

Invariants: reading never raises and never gives back a control character, so that a decoded
header can be written into another header or a page without opening a new line; work is linear in
the input; charsets come from an allow-list (no utf-7, no codec that is not a charset).

Source: RFC 2047 §2, RFC 2231 §3, RFC 2045 §5.1.
"""

import binascii
import re
from typing import Final

import pybase64

MAX_PARAMETERS: Final = 64
"""Parameters read from one field; 10^5 of them stopped Dovecot (CVE-2026-27859)."""

_CHARSETS: Final = re.compile(
    r"(?:us-?ascii|ascii|utf-?8|utf-?16(?:le|be)?|iso-?8859-?\d{1,2}(?:-[ei])?|latin-?\d{1,2}"
    r"|(?:windows-|cp-?)(?:125\d|437|850|852|858|866|932|936|949|950)|koi8-[rut]|macintosh"
    r"|gb2312|gbk|gb18030|big5(?:-hkscs)?|euc-(?:jp|kr)|shift_jis|iso-2022-(?:jp|kr)|tis-620)"
)
_ENCODED_WORD: Final = re.compile(rb"=\?([!-<>@-~]{1,60})\?([bBqQ])\?([!->@-~]*)\?=")
_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BIDI: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def decode_charset(data: bytes, charset: str | None) -> str:
    """Decode text by its charset's name; an unknown one is tried as UTF-8, then windows-1252."""
    name = (charset or "us-ascii").strip().lower().partition("*")[0]
    if name not in {"us-ascii", "ascii", "utf-8", "utf8"} and _CHARSETS.fullmatch(name):
        try:
            return data.decode(name, "replace")
        except (LookupError, UnicodeError):
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if name in {"utf-8", "utf8"}:
            return data.decode("utf-8", "replace")
        return data.decode("cp1252", "replace")


def clean(text: str) -> str:
    """Replace control characters by spaces and drop those that reorder or hide text."""
    return _BIDI.sub("", _CONTROLS.sub(" ", text))


def unfold(value: bytes) -> bytes:
    """Join the folded lines of a field's value.

    Source: RFC 5322 §2.2.3.
    """
    return _FOLD.sub(b"", value) if b"\n" in value else value


def decode_header(value: bytes) -> str:
    """Give an unstructured field's text: unfolded, encoded words decoded, controls removed.

    Source: RFC 2047 §6.1.
    """
    text = unfold(value).strip(b" \t\r\n")
    if b"=?" not in text:
        return clean(decode_charset(text, "utf-8" if not text.isascii() else None))
    pieces: list[tuple[str | None, bytes]] = []
    at = 0
    for match in _ENCODED_WORD.finditer(text):
        between = text[at : match.start()]
        follows_word = bool(pieces) and pieces[-1][0] is not None
        if between and not (follows_word and not between.strip(b" \t")):
            pieces.append((None, between))
        charset = match[1].decode("ascii").lower().partition("*")[0]
        octets = _word_octets(match[2], match[3])
        if pieces and pieces[-1][0] == charset:
            # A character may have been cut between two words of one charset.
            pieces[-1] = (charset, pieces[-1][1] + octets)
        else:
            pieces.append((charset, octets))
        at = match.end()
    if at < len(text):
        pieces.append((None, text[at:]))
    return clean("".join(decode_charset(octets, charset) for charset, octets in pieces))


def _word_octets(kind: bytes, text: bytes) -> bytes:
    if kind in b"bB":
        try:
            return pybase64.b64decode(text + b"=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            return text
    return binascii.a2b_qp(text.replace(b"_", b"=20"), header=False)


_WORD_OCTETS: Final = 45
"""UTF-8 octets in one base64 word: 60 characters of base64 and 12 of frame, within 75."""
_LINE: Final = 76


def encode_header(text: str) -> bytes:
    """Write text as the value of an unstructured field, folded; no line break can pass.

    Plain ASCII stays as it is; other text becomes UTF-8 encoded words of at most 75 characters.

    Source: RFC 2047 §2, RFC 5322 §2.2.3.
    """
    text = " ".join(_CONTROLS.sub(" ", text).split(" ")).strip()
    if text.isascii() and "=?" not in text and all(len(w) < _LINE for w in text.split(" ")):
        return _fold_words(text.encode("ascii").split(b" "))
    words = [b"=?utf-8?b?%b?=" % pybase64.b64encode(piece) for piece in _utf8_pieces(text)]
    return b"\r\n ".join(words)


def _fold_words(words: list[bytes]) -> bytes:
    lines = [words[0]]
    room = _LINE - 20  # the field's own name stands on the first line
    for word in words[1:]:
        if word and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
            room = _LINE
        else:
            lines[-1] += b" " + word
    return b"\r\n ".join(lines)


def _utf8_pieces(text: str) -> list[bytes]:
    pieces = [b""]
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(pieces[-1]) + len(octets) > _WORD_OCTETS:
            pieces.append(b"")
        pieces[-1] += octets
    return pieces


# parameter := attribute "=" value ; value := token / quoted-string (RFC 2045 §5.1)
_PARAMETER: Final = re.compile(
    rb'[ \t\r\n]*;[ \t\r\n]*([^\x00-\x20()<>@,;:\\"/\[\]?=\x7f]{1,128})[ \t\r\n]*=[ \t\r\n]*'
    rb'(?:"((?:[^"\\]|\\.)*)"|([^\x00-\x20;"\x7f]*))',
    re.DOTALL,
)
_EMPTY: Final = re.compile(rb"[ \t\r\n;]*")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT: Final = re.compile(rb"[ \t\r\n]*\([^()\\]*\)[ \t\r\n]*")


def parse_parameters(value: bytes, at: int) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Read ``;name=value`` pairs from an offset.

    Returns:
        The pairs (names in lower case, quotes removed, one character per octet), and whether all
        of the value was read.
    """
    pairs: list[tuple[str, str]] = []
    while len(pairs) <= MAX_PARAMETERS:
        match = _PARAMETER.match(value, at)
        if match is None:
            comment = _COMMENT.match(value, at)
            if comment is None:
                break
            at = comment.end()
            continue
        quoted = match[2]
        if quoted is None:
            octets = match[3]
        else:
            octets = quoted.replace(b"\r\n", b"")
            if b"\\" in octets:
                octets = _QUOTED_PAIR.sub(rb"\1", octets)
        pairs.append((match[1].decode("latin-1").lower(), octets.decode("latin-1")))
        at = match.end()
    rest = _EMPTY.match(value, at)
    complete = rest is not None and rest.end() == len(value)
    return tuple(pairs), complete


def decode_parameter(params: tuple[tuple[str, str], ...], name: str) -> str | None:
    """Give one parameter decoded; the extended and continued forms win over the plain one.

    Source: RFC 2231 §3, RFC 2231 §4.
    """
    plain: str | None = None
    pieces: dict[int, tuple[bool, str]] = {}
    for key, value in params:
        base, star, rest = key.partition("*")
        if base != name:
            continue
        if not star:
            plain = value if plain is None else plain
        elif not rest:
            pieces.setdefault(0, (True, value))
        else:
            number, extended, tail = rest.partition("*")
            if number.isascii() and number.isdigit() and len(number) < 4 and not tail:
                pieces.setdefault(int(number), (bool(extended), value))
    if 0 in pieces:
        return clean(_join_pieces(pieces))
    if plain is None:
        return None
    octets = plain.encode("latin-1")
    # Encoded words inside quotes are forbidden and common; readers decode them.
    return decode_header(octets)


def _join_pieces(pieces: dict[int, tuple[bool, str]]) -> str:
    charset = "utf-8"
    octets = b""
    for number in range(len(pieces)):
        if number not in pieces:
            break
        extended, value = pieces[number]
        if extended and number == 0 and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets += _percent(value) if extended else value.encode("latin-1")
    return decode_charset(octets, charset or "utf-8")


_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def _percent(value: str) -> bytes:
    return _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), value.encode("latin-1"))


def encode_parameter(name: str, value: str) -> bytes:
    """Write ``name=value`` for a Content-Type or Content-Disposition, extended when not ASCII.

    Source: RFC 2231 §4.
    """
    value = clean(value)
    key = name.encode("ascii")
    if value.isascii():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return b'%b="%b"' % (key, escaped.encode("ascii"))
    octets = "".join(
        character
        if character.isascii() and (character.isalnum() or character in "-._~")
        else "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "replace"))
        for character in value
    ).encode("ascii")
    return b"%b*=utf-8''%b" % (key, octets)
