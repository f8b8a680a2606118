"""Make every part of a message seven-bit before it is signed.

A relay may change the transfer encoding of eight-bit parts, which would break the signature. Only
what needs it is encoded again: text as quoted-printable, the rest as base64. What lies inside a
``multipart/signed`` of someone else is left alone.

Source: RFC 8551 §3.1.3, RFC 1847 §2.1, RFC 2045 §6.
"""

import binascii
import re

import pybase64

from certs.mime import Outline, Part, fields_of

_MAX_LINE = 998  # RFC 5322 §2.1.1
_IDENTITY = frozenset({"7bit", "8bit", "binary"})
_BARE_LF = re.compile(rb"(?<!\r)\n")
_Edit = tuple[int, int, bytes]


def seven_bit(raw: bytes, outline: Outline) -> bytes:
    """Encode again the parts that are not seven-bit.

    Args:
        raw: the whole message, CRLF line ends.
        outline: its tree.

    Returns:
        The message itself when nothing had to change. Raw eight-bit octets in header fields stay.
    """
    edits: list[_Edit] = []
    _visit(raw, outline.root, edits)
    if not edits:
        return raw
    pieces: list[bytes] = []
    at = 0
    for start, end, replacement in sorted(edits):
        pieces += (raw[at:start], replacement)
        at = end
    pieces.append(raw[at:])
    return b"".join(pieces)


def _visit(raw: bytes, part: Part, edits: list[_Edit]) -> None:
    if part.type == "multipart/signed":
        return
    if part.children:
        if part.encoding in {"8bit", "binary"}:
            _set_encoding(raw, part, b"7bit", edits)
        for child in part.children:
            _visit(raw, child, edits)
        return
    if part.encoding not in _IDENTITY or part.type.startswith(("multipart/", "message/")):
        return
    body = raw[part.body_start : part.body_end]
    if body.isascii() and part.encoding != "binary" and not _has_long_line(body):
        if part.encoding == "8bit":
            _set_encoding(raw, part, b"7bit", edits)
        return
    if part.type.startswith("text/"):
        encoded = _BARE_LF.sub(b"\r\n", binascii.b2a_qp(body, istext=True))
        _set_encoding(raw, part, b"quoted-printable", edits)
    else:
        encoded = pybase64.encodebytes(body).replace(b"\n", b"\r\n")
        _set_encoding(raw, part, b"base64", edits)
    edits.append((part.body_start, part.body_end, encoded))


def _set_encoding(raw: bytes, part: Part, name: bytes, edits: list[_Edit]) -> None:
    line = b"Content-Transfer-Encoding: " + name + b"\r\n"
    for field in fields_of(raw, part):
        if field.name.lower() == "content-transfer-encoding":
            edits.append((field.start, field.end, line))
            return
    edits.append((part.header_start, part.header_start, line))


def _has_long_line(body: bytes) -> bool:
    if len(body) <= _MAX_LINE:
        return False
    return any(len(line) > _MAX_LINE for line in body.split(b"\r\n"))
