"""A document's narrative as safe HTML: our own allow-list renderer, pure.

Everything written is one of our tags around escaped text; no attribute of the sender survives but
bounded ``colspan`` and ``rowspan``. The sender's HTML, style sheets, links, styles and images are
never used (threats X3, X7): a link shows its text, an image says that there is one. Attached
files (PDF, pictures) come out as octets with a type of our own choosing.
Source: CI-SIS §StructMin; HL7 CDA R2, narrative block; RULES §8.
"""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from lxml import etree

from mailserver.webmail.enclosed import Enclosed, EnclosedFile, body_of, enclosed_in
from record_bridge.formats.cda_header import HL7, load_cda
from record_bridge.formats.safe_xml import local_name, text_of

MAX_HTML_CHARACTERS: Final = 4 * 1024 * 1024
"""Past this the rest is left out, and the page says so."""
MAX_DEPTH: Final = 60
MAX_TITLE: Final = 5000
"""Characters of a title or a caption."""

_MAX_SPAN: Final = 50


@dataclass(frozen=True, slots=True)
class ReadableDocument:
    """What a page shows.

    Attributes:
        html: safe markup of the narrative; "" for a document that is one file.
        files: enclosed files, PDFs first.
        cut: something was left out because of the limits.
        missing: how many enclosed files did not come out: of no known kind, broken or elsewhere.
    """

    html: str
    files: tuple[EnclosedFile, ...]
    cut: bool = False
    missing: int = 0


def read_document(content: bytes) -> ReadableDocument:
    """Render one CDA document.

    Raises:
        MalformedCdaError: it cannot be read safely.
    """
    document = load_cda(content)
    level1 = document.find(f"{HL7}component/{HL7}nonXMLBody/{HL7}text")
    body = body_of(level1)
    enclosed = enclosed_in(document, body)
    renderer = _Renderer(enclosed)
    if isinstance(body, str) and body:
        renderer.preformatted(body)
    for section in document.iterfind(
        f"{HL7}component/{HL7}structuredBody/{HL7}component/{HL7}section"
    ):
        renderer.section(section, 2)
    return ReadableDocument(
        renderer.text(), enclosed.files, renderer.cut or enclosed.cut, enclosed.missing
    )


class _Renderer:
    """Writes allowed tags around escaped text, within the limits."""

    def __init__(self, enclosed: Enclosed) -> None:
        self._enclosed = enclosed
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
        title = text_of(section.find(f"{HL7}title"), MAX_TITLE)
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
                tag = "p" if _phrasing_only(element) else "div"
                self._wrap(tag, lambda: self._emphasised(element, inside))
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
                said = self._picture(element.get("referencedObject") or "")
                self._wrap("p", lambda: self._write(said))
                inside()
            case "footnoteRef":
                self._wrap("sup", lambda: self._write("note"))
                inside()
            case _:
                # Unknown or forbidden (html, script, a cell without table): its words only.
                inside()

    def _picture(self, names: str) -> str:
        """What stands for pictures: the numbers of their download buttons."""
        numbers = [
            self._enclosed.places[name] + 1
            for name in names.replace("#", " ").split()
            if name in self._enclosed.places
        ]
        if not numbers:
            return "[Fichier joint\u00a0: il ne peut pas être ouvert ici]"
        if len(self._enclosed.files) == 1:
            return "[Fichier joint\u00a0: il se télécharge plus haut]"
        return f"[Fichier joint {', '.join(map(str, numbers))}\u00a0: il se télécharge plus haut]"

    def _inline(self, element: etree._Element, inside: Callable[[], None]) -> None:
        tag = _emphasis(element) or "span"
        if tag == "span" and local_name(element) == "caption":
            tag = "strong"
        if local_name(element) == "linkHtml" and not text_of(element, 1):
            # an address is shown, never followed: without it nothing would be seen
            address = element.get("href") or ""
            if address.lower().startswith(_SHOWN_ADDRESSES):
                self._wrap(tag, lambda: self._write(address))
            inside()
        elif _phrasing_only(element):
            self._wrap(tag, inside)
        else:
            inside()

    def _emphasised(self, element: etree._Element, inside: Callable[[], None]) -> None:
        """Bold or italics of a whole cell or paragraph: what a laboratory marks as abnormal."""
        tag = _emphasis(element) if _phrasing_only(element) and text_of(element, 1) else ""
        if tag:
            self._wrap(tag, inside)
        else:
            inside()

    def _list(self, element: etree._Element, depth: int) -> None:
        for caption in element.iterfind(f"{HL7}caption"):
            self._wrap("p", lambda caption=caption: self._children(caption, depth + 1))  # type: ignore[misc]
        items = [child for child in element if local_name(child) != "caption"]
        if not items:
            self._stray(element.text)
        else:
            tag = "ol" if element.get("listType") == "ordered" else "ul"
            self._wrap(tag, lambda: self._items(element, items, depth))
        for caption in element.iterfind(f"{HL7}caption"):
            self._stray(caption.tail)

    def _items(self, element: etree._Element, items: list[etree._Element], depth: int) -> None:
        """Each item, and what stands between items though nothing should."""
        self._stray(element.text, "li")
        for item in items:
            if local_name(item) == "item":
                self._wrap("li", lambda item=item: self._children(item, depth + 2))  # type: ignore[misc]
            else:
                self._wrap("li", lambda item=item: self._element(item, depth + 2))  # type: ignore[misc]
            self._stray(item.tail, "li")

    def _stray(self, text: object, tag: str = "p") -> None:
        """Words where the schema has none: senders write them, so they are read."""
        words = str(text or "").strip()
        if words:
            self._wrap(tag, lambda: self._write(words))

    def _table(self, element: etree._Element, depth: int) -> None:
        groups = _groups(element)
        captions = [text_of(each, MAX_TITLE) for each in element.iterfind(f"{HL7}caption")]
        caption = " ".join(filter(None, captions))
        for words in _between_rows(element):
            self._stray(words)
        if not groups:
            self._stray(caption)
            return
        self._tables += 1
        label = html.escape(caption[:200] or f"Tableau {self._tables}", quote=True)
        self._raw(f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>')
        if caption:
            self._wrap("caption", lambda: self._write(caption))
        for group, rows in groups:
            self._raw("<tbody>")  # a cell that spans rows ends with its group
            for cells in rows:
                self._wrap("tr", lambda cells=cells, group=group: self._row(cells, group, depth))  # type: ignore[misc]
            self._raw("</tbody>")
        self._raw("</table></div>")

    def _row(self, cells: list[etree._Element], group: str, depth: int) -> None:
        is_head = group == "thead" or all(local_name(cell) == "th" for cell in cells)
        for cell in cells:
            self._cell(cell, depth, "col" if is_head else "row", forced=group == "thead")

    def _cell(self, cell: etree._Element, depth: int, scope: str, *, forced: bool) -> None:
        spans = "".join(
            f' {name}="{value}"'
            for name in ("colspan", "rowspan")
            if (value := _span(cell.get(name))) > 1
        )
        # An empty header cell heads nothing: assistive technology would announce it for each cell.
        header = (local_name(cell) == "th" or forced) and bool(text_of(cell, 1))

        def inside() -> None:
            self._children(cell, depth + 3)

        if header:
            self._wrap("th", inside, f' scope="{scope}"{spans}')
        else:
            self._wrap("td", lambda: self._emphasised(cell, inside), spans)


_SHOWN_ADDRESSES: Final = ("http://", "https://", "mailto:", "tel:")
_BLOCKS: Final = frozenset({"paragraph", "list", "table", "renderMultiMedia"})


def _emphasis(element: etree._Element) -> str:
    """The tag for what an element says of its own weight; "" for none."""
    styles = {style.lower() for style in (element.get("styleCode") or "").split()}
    return "strong" if "bold" in styles else "em" if styles & {"italics", "emphasis"} else ""


def _phrasing_only(element: etree._Element) -> bool:
    return not any(local_name(child) in _BLOCKS for child in element.iterdescendants())


def _span(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 3:
        return 1
    return min(int(value), _MAX_SPAN)


def _groups(table: etree._Element) -> list[tuple[str, list[list[etree._Element]]]]:
    """The rows by group, those of no group together; the foot last, where readers show it.

    A row without cells stays: a cell above may reach over it. A group without any cell goes.
    """
    found: list[tuple[str, list[list[etree._Element]]]] = []
    for child in table:
        name = local_name(child)
        if name in _GROUPS:
            found.append((name, [_cells(line) for line in child if _is_row(line)]))
        elif name == "tr":
            if not found or found[-1][0]:
                found.append(("", []))
            found[-1][1].append(_cells(child))
    kept = [(name, rows) for name, rows in found if any(rows)]
    feet = [name for name, _ in kept].count("tfoot")
    return sorted(kept, key=lambda group: group[0] == "tfoot") if feet == 1 else kept


def _is_row(line: etree._Element) -> bool:
    return local_name(line) == "tr" or bool(text_of(line, 1))


def _cells(line: etree._Element) -> list[etree._Element]:
    """A cell is what stands in a row and says something; words beside the rows are a row's."""
    if local_name(line) != "tr":
        return [line]
    return [cell for cell in line if local_name(cell) in ("td", "th") or text_of(cell, 1)]


def _between_rows(table: etree._Element) -> Iterator[str]:
    """Words of a table that are in no cell and no caption."""
    yield str(table.text or "")
    for child in table:
        name = local_name(child)
        if name in _GROUPS:
            yield str(child.text or "")
        elif name not in ("tr", "caption"):
            yield text_of(child, MAX_HTML_CHARACTERS)
        for line in [child] if name == "tr" else list(child) if name in _GROUPS else []:
            if local_name(line) == "tr":
                yield str(line.text or "")
                yield from (str(cell.tail or "") for cell in line)
            if line is not child:
                yield str(line.tail or "")
        yield str(child.tail or "")


_GROUPS: Final = frozenset({"thead", "tbody", "tfoot"})
