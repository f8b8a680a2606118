"""Files that a document carries: pulled out as octets with a type of our own choosing, pure.

The type comes from the octets, never from what the sender says; what is of no known kind does not
come out, and is counted. Base64 is read also where its sender forgot to say so or to pad it.
Source: CI-SIS §StructMin; HL7 CDA R2 §3.3 (ED); threats X7 and X8.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from lxml import etree

from record_bridge.formats.cda_header import HL7

MAX_FILES: Final = 20
MAX_FILE_OCTETS: Final = 25 * 1024 * 1024

_SIGNATURES: Final = (
    (b"%PDF-", "application/pdf", "pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (b"GIF87a", "image/gif", "gif"),
    (b"GIF89a", "image/gif", "gif"),
    (b"{\\rtf", "application/rtf", "rtf"),
    (b"II*\x00", "image/tiff", "tif"),
    (b"MM\x00*", "image/tiff", "tif"),
)
_ACTIVE: Final = (b"/JS", b"/JavaScript", b"/Launch", b"/OpenAction", b"/EmbeddedFile")
"""Names in a PDF that make a reader do something by itself (threat X8)."""


@dataclass(frozen=True, slots=True)
class EnclosedFile:
    """A file that the document carries.

    Attributes:
        type: from the octets themselves, never from what the sender says.
        extension: without dot.
        active: a PDF that asks its reader to run or open something.
    """

    type: str
    extension: str
    content: bytes
    active: bool = False


@dataclass(frozen=True, slots=True)
class Enclosed:
    """The files of a document, PDFs first.

    Attributes:
        files: at most MAX_FILES.
        cut: there were more.
        missing: how many did not come out: of no known kind, broken or elsewhere.
        places: from the ID of a picture in the document to its place in ``files``.
    """

    files: tuple[EnclosedFile, ...]
    cut: bool
    missing: int
    places: dict[str, int]


def body_of(element: etree._Element | None) -> str | EnclosedFile | None:
    """A level 1 body: text to show, a file, or None when neither comes out.

    What says that it is text, or says nothing and is not packed, is text; any other is base64.
    """
    if element is None:
        return ""
    kind = (element.get("mediaType") or "").partition(";")[0].strip().lower()
    packed = (element.get("representation") or "").upper() == "B64"
    is_text = kind.startswith("text/") or not (kind or packed)
    octets = _octets(element) if packed or not is_text else _words(element).encode()
    file = _file(octets)
    if file is not None or octets is None:
        return file
    if is_text or (not octets and element.find(f"{HL7}reference") is None):
        return _text(octets)
    return None


def enclosed_in(document: etree._Element, body: str | EnclosedFile | None) -> Enclosed:
    """Every file: that of the body, and the pictures and copies among the entries."""
    found: list[tuple[EnclosedFile | None, set[str]]] = []
    if not isinstance(body, str):
        found.append((body, set()))
    for media in document.iter(f"{HL7}observationMedia"):
        value = media.find(f"{HL7}value")
        if len(found) <= MAX_FILES and value is not None:
            found.append((_file(_octets(value)), _names(media)))
    came = [(file, names) for file, names in found if file is not None]
    came.sort(key=lambda each: each[0].extension != "pdf")
    places = {name: place for place, (_, names) in enumerate(came[:MAX_FILES]) for name in names}
    files = tuple(file for file, _ in came)
    return Enclosed(files[:MAX_FILES], len(files) > MAX_FILES, len(found) - len(came), places)


def _names(media: etree._Element) -> set[str]:
    """The IDs under which a narrative shows a picture: its own, its region's."""
    region = next(media.iterancestors(f"{HL7}regionOfInterest"), None)
    return {each.get("ID") or "" for each in (media, region) if each is not None} - {""}


def _words(element: etree._Element) -> str:
    return "".join(str(text) for text in element.itertext())


def _text(octets: bytes) -> str:
    """Text of a sender who does not say in which encoding."""
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        return octets.decode("windows-1252", "replace")


def _octets(element: etree._Element) -> bytes | None:
    """What an element holds in base64, its padding or not; None when it is too much or none."""
    packed = "".join(_words(element).split())
    if len(packed) * 3 // 4 > MAX_FILE_OCTETS:
        return None
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _file(octets: bytes | None) -> EnclosedFile | None:
    """A file of a known kind; None for any other."""
    if octets is None:
        return None
    start = octets[:64].lstrip(b"\xef\xbb\xbf\x00 \t\r\n")
    for signature, media_type, extension in _SIGNATURES:
        if start.startswith(signature):
            active = media_type == "application/pdf" and any(name in octets for name in _ACTIVE)
            return EnclosedFile(media_type, extension, octets, active)
    return None
