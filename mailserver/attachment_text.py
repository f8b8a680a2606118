"""Read a stored message for searching, attachments included: PDF, and IHE_XDM's documents.

Run in a worker of the sandbox: these are strangers' bytes. What cannot be read is left out; the
message is found by the rest of it.

Source: DESIGN §5, RFC 9051 §6.4.4, threats X1 to X4.
"""

import binascii
from collections.abc import Iterator
from typing import Final

import pypdfium2
from lxml import etree

from certs.mime import Outline, decode_body, find_named, scan, walk
from mailserver.message.index import PACKAGE_NAME
from mailserver.message.search_text import MAX_BODY, SearchText, search_text
from record_bridge.cda_body import copies, level1_file, sections
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats.cda_header import load_cda
from record_bridge.formats.xdm import open_package

MAX_PDF_OCTETS: Final = 25 * 1024 * 1024
MAX_PDF_PAGES: Final = 200
MAX_FILES: Final = 20


def read_message(raw: bytes) -> SearchText:
    """Read a whole message with its attachments."""
    outline = scan(raw)
    return search_text(raw, outline, _attached(raw, outline))


def read_plainly(raw: bytes) -> SearchText:
    """Read a message without opening its attachments: for one that broke ``read_message``."""
    return search_text(raw, scan(raw))


def _attached(raw: bytes, outline: Outline) -> Iterator[str]:
    room = MAX_FILES
    packages = {id(part) for part in find_named(outline, PACKAGE_NAME)}
    for part in walk(outline):
        if room <= 0:
            return
        if id(part) in packages:
            room -= 1
            yield from _package(decode_body(raw, part))
        elif part.type == "application/pdf":
            room -= 1
            yield from _pdf(decode_body(raw, part))


def _package(archive: bytes) -> Iterator[str]:
    try:
        documents = open_package(archive).documents
    except MalformedDocumentError:
        return
    for file in documents[:MAX_FILES]:
        if file.content.startswith(b"%PDF-"):
            yield from _pdf(file.content)
            continue
        try:
            yield from _document(load_cda(file.content))
        except MalformedDocumentError:
            continue


def _document(document: etree._Element) -> Iterator[str]:
    for section in sections(document):
        yield section.title
        yield section.text
    if not sections(document):
        file = level1_file(document)
        if file is not None and file.media_type == "application/pdf":
            yield from _pdf(file.content)
        elif file is not None and file.media_type.startswith("text/"):
            yield file.content.decode("utf-8", "replace")
    else:
        for copy in copies(document):
            if copy.media_type == "application/pdf":
                yield from _pdf(copy.content)


def _pdf(content: bytes) -> Iterator[str]:
    """Give the text of each page; nothing of what is no PDF, or locked."""
    if not content.startswith(b"%PDF-") or len(content) > MAX_PDF_OCTETS:
        return
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError:
        return
    try:
        room = MAX_BODY
        for number in range(min(len(document), MAX_PDF_PAGES)):
            page = document[number]
            try:
                text = page.get_textpage().get_text_bounded()
            finally:
                page.close()
            yield text
            room -= len(text)
            if room <= 0:
                return
    except (pypdfium2.PdfiumError, binascii.Error):
        return
    finally:
        document.close()
