"""A document's narrative as safe HTML: our own allow-list renderer, pure.

Everything written is one of our tags around escaped text; no attribute of the sender survives but
bounded ``colspan`` and ``rowspan``. The sender's HTML, style sheets, links, styles and images are
never used (threats X3, X7): a link shows its text, an image says that there is one. Attached
files (PDF, pictures) come out as octets with a type of our own choosing.
Source: CI-SIS §StructMin; HL7 CDA R2, narrative block; RULES §8.
"""

import base64
import binascii
import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lxml import etree

from record_bridge.formats.cda_header import HL7, load_cda
from record_bridge.formats.safe_xml import local_name, text_of

MAX_HTML_CHARACTERS: Final = 4 * 1024 * 1024
"""Past this the rest is left out, and the page says so."""
MAX_DEPTH: Final = 60
MAX_FILES: Final = 20
MAX_FILE_OCTETS: Final = 25 * 1024 * 1024
_MAX_SPAN: Final = 50

_SIGNATURES: Final = (
    (b"%PDF-", "application/pdf", "pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
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
class ReadableDocument:
    """What a page shows.

    Attributes:
        html: safe markup of the narrative; "" for a document that is one file.
        files: enclosed files, PDFs first.
        cut: something was left out because of the limits.
    """

    html: str
    files: tuple[EnclosedFile, ...]
    cut: bool = False


def read_document(content: bytes) -> ReadableDocument:
    """Render one CDA document.

    Raises:
        MalformedCdaError: it cannot be read safely.
    """
    document = load_cda(content)
    renderer = _Renderer()
    files: list[EnclosedFile] = []
    for component in document.iterfind(f"{HL7}component"):
        for body in component:
            if body.tag == f"{HL7}nonXMLBody":
                _enclosed(body.find(f"{HL7}text"), files)
                _plain_text(body.find(f"{HL7}text"), renderer)
            elif body.tag == f"{HL7}structuredBody":
                for section in body.iterfind(f"{HL7}component/{HL7}section"):
                    renderer.section(section, 2)
    for value in document.iter(f"{HL7}observationMedia"):
        _enclosed(value.find(f"{HL7}value"), files)
    cut = renderer.cut or len(files) > MAX_FILES
    files.sort(key=lambda file: file.extension != "pdf")
    return ReadableDocument(renderer.text(), tuple(files[:MAX_FILES]), cut)


def _enclosed(element: etree._Element | None, files: list[EnclosedFile]) -> None:
    if element is None or element.get("representation") != "B64" or len(files) > MAX_FILES:
        return
    packed = "".join(str(text) for text in element.itertext())
    if len(packed) * 3 // 4 > MAX_FILE_OCTETS:
        return
    try:
        content = base64.b64decode("".join(packed.split()), validate=True)
    except (binascii.Error, ValueError):
        return
    for signature, media_type, extension in _SIGNATURES:
        if content.startswith(signature):
            active = media_type == "application/pdf" and any(name in content for name in _ACTIVE)
            files.append(EnclosedFile(media_type, extension, content, active))
            return


def _plain_text(element: etree._Element | None, renderer: "_Renderer") -> None:
    if element is None or (element.get("mediaType") or "") != "text/plain":
        return
    text = "".join(str(piece) for piece in element.itertext())
    if element.get("representation") == "B64":
        try:
            text = base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return
    renderer.preformatted(text)


class _Renderer:
    """Writes allowed tags around escaped text, within the limits."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._size = 0
        self._tables = 0
        self.cut = False

    def text(self) -> str:
        return "".join(self._out)

    def preformatted(self, text: str) -> None:
        self._wrap("div", lambda: self._write(text), ' class="preformatted"')

    def section(self, section: etree._Element, level: int) -> None:
        """Write one section and its subsections, the title as a heading of its level."""
        if level > MAX_DEPTH:
            self.cut = True
            return
        title = text_of(section.find(f"{HL7}title"), 300)
        text = section.find(f"{HL7}text")
        self._raw("<section>")
        if title:
            heading = f"h{min(level, 6)}"
            self._wrap(heading, lambda: self._write(title))
        if text is not None:
            self._raw('<div class="narrative">')
            self._children(text, 0)
            self._raw("</div>")
        for child in section.iterfind(f"{HL7}component/{HL7}section"):
            self.section(child, level + 1)
        self._raw("</section>")

    def _raw(self, markup: str) -> None:
        # Tags are always written, so that what was opened is closed.
        self._out.append(markup)

    def _write(self, text: str) -> None:
        if self._size > MAX_HTML_CHARACTERS:
            self.cut = True
            return
        escaped = html.escape(text)
        self._size += len(escaped)
        self._out.append(escaped)

    def _wrap(self, tag: str, inner: Callable[[], None], attributes: str = "") -> None:
        if self._size > MAX_HTML_CHARACTERS:
            self.cut = True
            return
        self._size += 2 * len(tag) + 5
        self._raw(f"<{tag}{attributes}>")
        inner()
        self._raw(f"</{tag}>")

    def _children(self, element: etree._Element, depth: int) -> None:
        if depth > MAX_DEPTH or self._size > MAX_HTML_CHARACTERS:
            self.cut = True
            return
        if element.text:
            self._write(str(element.text))
        for child in element:
            self._element(child, depth)
            if child.tail:
                self._write(str(child.tail))

    def _element(self, element: etree._Element, depth: int) -> None:
        name = local_name(element)

        def inside() -> None:
            self._children(element, depth + 1)

        match name:
            case "paragraph":
                self._wrap("p" if _phrasing_only(element) else "div", inside)
            case "content" | "linkHtml" | "footnote" | "caption":
                self._inline(element, inside)
            case "sub" | "sup":
                self._wrap(name, inside)
            case "br":
                self._raw("<br>")
                inside()
            case "list":
                self._list(element, depth)
            case "table":
                self._table(element, depth)
            case "renderMultiMedia":
                self._wrap(
                    "p", lambda: self._write("[Fichier joint : il se télécharge plus haut]")
                )
            case "footnoteRef":
                self._wrap("sup", lambda: self._write("note"))
            case _:
                # Unknown or forbidden (html, script, a cell without table): its words only.
                inside()

    def _inline(self, element: etree._Element, inside: Callable[[], None]) -> None:
        styles = {style.lower() for style in (element.get("styleCode") or "").split()}
        tag = (
            "strong" if "bold" in styles else "em" if styles & {"italics", "emphasis"} else "span"
        )
        if tag == "span" and local_name(element) == "caption":
            tag = "strong"
        if _phrasing_only(element):
            self._wrap(tag, inside)
        else:
            inside()

    def _list(self, element: etree._Element, depth: int) -> None:
        items = [child for child in element if local_name(child) == "item"]
        caption = element.find(f"{HL7}caption")
        if caption is not None:
            self._wrap("p", lambda: self._children(caption, depth + 1))
        if not items:
            self._children(element, depth + 1)
            return

        def write_items() -> None:
            for item in items:
                self._wrap("li", lambda item=item: self._children(item, depth + 2))  # type: ignore[misc]

        self._wrap("ol" if element.get("listType") == "ordered" else "ul", write_items)

    def _table(self, element: etree._Element, depth: int) -> None:
        rows = _rows(element)
        if not rows:
            return
        self._tables += 1
        caption = text_of(element.find(f"{HL7}caption"), 200)
        label = html.escape(caption or f"Tableau {self._tables}", quote=True)
        self._raw(f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>')
        if caption:
            self._wrap("caption", lambda: self._write(caption))
        for group, cells in rows:
            self._raw("<tr>")
            for cell in cells:
                self._cell(cell, group, depth)
            self._raw("</tr>")
        self._raw("</table></div>")

    def _cell(self, cell: etree._Element, group: str, depth: int) -> None:
        spans = "".join(
            f' {name}="{value}"'
            for name in ("colspan", "rowspan")
            if (value := _span(cell.get(name))) > 1
        )
        # An empty header cell heads nothing: assistive technology would announce it for each cell.
        header = (local_name(cell) == "th" or group == "thead") and bool(text_of(cell, 1))
        if header:
            scope = "col" if group == "thead" else "row"
            self._wrap("th", lambda: self._children(cell, depth + 3), f' scope="{scope}"{spans}')
        else:
            self._wrap("td", lambda: self._children(cell, depth + 3), spans)


_BLOCKS: Final = frozenset({"paragraph", "list", "table", "renderMultiMedia"})


def _phrasing_only(element: etree._Element) -> bool:
    return not any(local_name(child) in _BLOCKS for child in element.iterdescendants())


def _span(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 3:
        return 1
    return min(int(value), _MAX_SPAN)


def _rows(table: etree._Element) -> list[tuple[str, list[etree._Element]]]:
    found: list[tuple[str, list[etree._Element]]] = []
    for child in table:
        name = local_name(child)
        lines = [child] if name == "tr" else list(child) if name in _GROUPS else []
        for line in lines:
            cells = [cell for cell in line if local_name(cell) in ("td", "th")]
            if local_name(line) == "tr" and cells:
                found.append((name, cells))
    return found


_GROUPS: Final = frozenset({"thead", "tbody", "tfoot"})
