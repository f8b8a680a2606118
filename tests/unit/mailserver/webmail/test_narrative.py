"""The renderer of narratives: our tags around escaped text, whatever the sender wrote (X7)."""

import base64
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.webmail import enclosed, narrative
from mailserver.webmail.narrative import read_document
from record_bridge.errors import MalformedCdaError
from tests.support.cda import PDF, CdaSpec, cda

ALLOWED = {
    "section": set(), "h2": set(), "h3": set(), "h4": set(), "h5": set(), "h6": set(),
    "div": {"class", "role", "tabindex", "aria-label"}, "p": set(), "span": set(),
    "strong": set(), "em": set(), "sub": set(), "sup": set(), "br": set(), "ul": set(),
    "ol": set(), "li": set(), "table": set(), "caption": set(), "tr": set(),
    "tbody": set(),
    "th": {"scope", "colspan", "rowspan"}, "td": {"colspan", "rowspan"},
}  # fmt: skip


class Checker(HTMLParser):
    """Fails on any tag or attribute that is not ours, and on unbalanced tags."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attrs):
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= ALLOWED[tag], (tag, attrs)
        for name, value in attrs:
            if name == "class":
                assert value in ("narrative", "scroll", "preformatted")
            if name in ("colspan", "rowspan"):
                assert 1 < int(value) <= 50
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def checked(html: str) -> str:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return " ".join("".join(checker.words).split())


def section(text: str, title: str = "Titre", inner: str = "") -> str:
    return (
        f"<component><section><title>{title}</title><text>{text}</text>{inner}</section>"
        "</component>"
    )


def render(text: str, **more: str) -> str:
    return read_document(cda(CdaSpec(narrative="", sections=(section(text, **more),)))).html


PAYLOADS = [
    '<table onmouseover="alert(1)"><tr onclick="x()"><td style="x:expression(1)">a</td></tr></table>',
    '<linkHtml href="javascript:alert(1)">lien</linkHtml>',
    '<linkHtml href="java&#x09;script:alert(1)">lien</linkHtml>',
    '<linkHtml href="data:text/html,&lt;script&gt;alert(1)&lt;/script&gt;">lien</linkHtml>',
    '<linkHtml href="https://evil.test/?c" target="_top">lien</linkHtml>',
    '<renderMultiMedia referencedObject="x"/>',
    '<content styleCode="Bold&quot; onmouseover=&quot;alert(1)">a</content>',
    '<content styleCode="xBackground url(https://evil.test)">a</content>',
    "<paragraph>&lt;script&gt;alert(1)&lt;/script&gt;</paragraph>",
    "<paragraph>&lt;img src=x onerror=alert(1)&gt;</paragraph>",
    "<script>alert(1)</script>",
    '<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>',
    '<img xmlns="http://www.w3.org/1999/xhtml" src="https://evil.test/p.png" onerror="x()"/>',
    '<iframe xmlns="http://www.w3.org/1999/xhtml" src="https://evil.test/"/>',
    '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"><animate attributeName="href"/></svg>',
    '<form xmlns="http://www.w3.org/1999/xhtml" action="https://evil.test"><input name="x"/></form>',
    '<table><tr><td colspan="99999999" rowspan="-1">a</td><th colspan="1e9">b</th></tr></table>',
    '<table><caption>"&gt;&lt;script&gt;x&lt;/script&gt;</caption><tr><td>a</td></tr></table>',
    '<list listType="&quot; onclick=x"><item>a</item></list>',
    "<td>sans table</td><tr><td>b</td></tr><item>c</item>",
    (
        "<paragraph><table><tr><td><list><item><table><tr><td>x</td></tr></table></item></list></td></tr>"
        "</table></paragraph>"
    ),
    '<paragraph xmlns:a="javascript:x" a:href="javascript:alert(1)" ID="x" style="color:red">a</paragraph>',
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_leaves_more_than_our_tags(payload):
    html = render(payload, title="&lt;script&gt;x&lt;/script&gt;")

    checked(html)
    for forbidden in ("<script", "<img", "<svg", "<iframe", "<form", "<a ", "href", "style="):
        assert forbidden not in html
    assert "evil.test" not in html


def test_the_words_and_their_structure_stay():
    html = render(
        "Avant <content styleCode='Bold'>gras</content> puis <content styleCode='Italics'>it</content>"
        "<paragraph>p<sub>2</sub><br/>fin</paragraph>"
        "<list listType='ordered'><caption>Liste</caption><item>un</item><item>deux</item></list>"
        "<table><caption>Bilan</caption><thead><tr><th>Analyse</th><th>Valeur</th></tr></thead>"
        "<tbody><tr><td colspan='2'>Hb</td></tr></tbody></table>"
        "<linkHtml href='#x'>note</linkHtml>"
    )

    for expected in (
        "<h2>Titre</h2>", "Avant <strong>gras</strong> puis <em>it</em>",
        "<p>p<sub>2</sub><br>fin</p>", "<p>Liste</p><ol><li>un</li><li>deux</li></ol>",
        "<caption>Bilan</caption>", '<th scope="col">Analyse</th>', '<td colspan="2">Hb</td>',
        "<span>note</span>", 'role="region" tabindex="0" aria-label="Bilan"',
    ):  # fmt: skip
        assert expected in html
    checked(html)


TAGS = (
    "paragraph", "content", "linkHtml", "sub", "sup", "footnote", "footnoteRef", "caption",
    "renderMultiMedia", "list", "item", "table", "thead", "tbody", "tfoot", "tr", "th", "td",
    "col", "colgroup", "br", "unknown",
)  # fmt: skip


@st.composite
def narratives(draw: st.DrawFn, depth: int = 6) -> str:
    """Narrative elements nested as the schema has them or not, each piece of text with its word."""
    pieces = ["mot"] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        tag = draw(st.sampled_from(TAGS))
        pieces.append(f"<{tag}>{draw(narratives(depth - 1))}</{tag}>")
        pieces.append(draw(st.sampled_from(["mot", "", " "])))
    return " ".join(pieces)


@settings(max_examples=300, deadline=None)
@given(narratives())
def test_no_word_is_lost_wherever_it_stands(text: str):
    numbers = iter(range(10_000))
    text = re.sub("mot", lambda _: f" mot{next(numbers)} ", text)
    shown = Counter(re.findall(r"mot\d+", checked(render(text))))

    assert shown == Counter(re.findall(r"mot\d+", text))


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("https://exemple.test/a?b=1&amp;c", "<span>https://exemple.test/a?b=1&amp;c</span>"),
        ("javascript:alert(1)", ""),
        ("#ancre", ""),
    ],
)
def test_a_link_without_words_shows_its_address(href: str, shown: str):
    html = render(f'<linkHtml href="{href}"/>')

    assert html.endswith(f'<div class="narrative">{shown}</div></section>')


@pytest.mark.parametrize("length", [300, 5000])
def test_titles_and_captions_are_whole(length: int):
    long = " ".join(f"m{n}" for n in range(length // 10))
    html = render(f"<table><caption>{long}</caption><tr><td>x</td></tr></table>", title=long)

    assert f"<h2>{long}</h2>" in html
    assert f"<caption>{long}</caption>" in html


def test_an_empty_heading_cell_heads_nothing():
    assert "<td></td>" in render("<table><thead><tr><th/><th>b</th></tr></thead></table>")


def test_a_cell_that_spans_rows_ends_with_its_group():
    """A heading that reaches too far would push the first row's values under other headings."""
    html = render(
        "<table><thead><tr><th rowspan='3'>Analyse</th><th>Valeur</th></tr></thead>"
        "<tbody><tr><td>Hb</td><td>13</td></tr></tbody></table>"
    )

    assert "<tr><td>Hb</td><td>13</td></tr>" in html.partition("</tbody><tbody>")[2]


def test_a_row_without_cells_counts_for_the_cell_that_spans_it():
    html = render(
        "<table><tbody><tr><td rowspan='2'>A</td><td>1</td></tr><tr/><tr><td>B</td><td>2</td></tr>"
        "</tbody></table>"
    )

    assert '<td rowspan="2">A</td><td>1</td></tr><tr></tr><tr><td>B</td>' in html
    assert "<table>" not in render("<table><tbody><tr/><tr/></tbody></table>")


def test_the_foot_stands_last_though_it_is_written_first():
    html = render(
        "<table><thead><tr><th>h</th></tr></thead><tfoot><tr><td>total</td></tr></tfoot>"
        "<tbody><tr><td>un</td></tr></tbody></table>"
    )

    assert re.findall("h<|un|total", html) == ["h<", "un", "total"]


@pytest.mark.parametrize(
    ("row", "scope"),
    [
        ("<tr><th>Préférence</th><th>Précision</th></tr>", "col"),
        ("<tr><th>Préférence</th><td>aucune</td></tr>", "row"),
    ],
)
def test_a_row_of_headings_heads_columns_in_whatever_group(row: str, scope: str):
    html = render(f"<table><tbody>{row}</tbody></table>")

    assert f'<th scope="{scope}">Préférence</th>' in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "<table><tr><td styleCode='Bold'>12,5</td><td>x</td></tr></table>",
            "<td><strong>12,5</strong></td><td>x</td>",
        ),
        (
            "<table><tr><th styleCode='Bold'>Hb</th><td styleCode='xRed italics'>9</td></tr></table>",
            '<th scope="row">Hb</th><td><em>9</em></td>',
        ),
        ("<paragraph styleCode='bold'>À revoir</paragraph>", "<p><strong>À revoir</strong></p>"),
        (
            "<paragraph styleCode='Bold'>a<list><item>b</item></list></paragraph>",
            "<div>a<ul><li>b</li></ul></div>",
        ),
        ("<table><tr><td styleCode='Bold'/><td>x</td></tr></table>", "<td></td><td>x</td>"),
    ],
)
def test_a_cell_or_paragraph_in_bold_stays_so(text: str, shown: str):
    html = render(text)

    assert shown in html
    checked(html)


def test_subsections_are_headings_below():
    inner = "<component><section><title>Sous</title><text>x</text></section></component>"

    assert "<h3>Sous</h3>" in render("y", inner=inner)


def test_a_pdf_comes_out_and_the_page_has_no_text():
    readable = read_document(cda(CdaSpec(pdf=PDF)))

    assert readable.html == ""
    assert [(file.type, file.content, file.active) for file in readable.files] == [
        ("application/pdf", PDF, False)
    ]


@pytest.mark.parametrize("name", [b"/JavaScript", b"/OpenAction", b"/Launch", b"/EmbeddedFile"])
def test_an_active_pdf_is_flagged(name):
    (file,) = read_document(cda(CdaSpec(pdf=PDF + name))).files

    assert file.active


@pytest.mark.parametrize(
    "content", [b"<html><script>x</script>", b"MZ\x90", b"<svg onload=x>", b""]
)
def test_what_is_no_known_kind_of_file_does_not_come_out(content):
    assert read_document(cda(CdaSpec(pdf=content))).files == ()


RTF = b"{\\rtf1\\ansi texte}"


def level1(attributes: str, text: str) -> narrative.ReadableDocument:
    """A level 1 document with its text element as given."""
    before, _, rest = cda(CdaSpec(pdf=PDF)).partition(b"<nonXMLBody>")
    body = f"<nonXMLBody><text {attributes}>{text}</text></nonXMLBody>"
    return read_document(before + body.encode() + rest.partition(b"</nonXMLBody>")[2])


def packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("attributes", "text", "extension"),
    [
        ('mediaType="application/pdf" representation="B64"', packed(PDF), "pdf"),
        ('mediaType="application/pdf" representation="b64"', packed(PDF), "pdf"),
        ('mediaType="application/pdf"', packed(PDF), "pdf"),
        ('representation="B64"', packed(PDF), "pdf"),
        ('mediaType="APPLICATION/PDF; x=y" representation="B64"', packed(PDF).rstrip("="), "pdf"),
        ('mediaType="text/plain" representation="B64"', packed(PDF), "pdf"),
        ('mediaType="application/pdf" representation="B64"', packed(b"\r\n" + PDF), "pdf"),
        ('mediaType="text/rtf" representation="B64"', packed(RTF), "rtf"),
        ('mediaType="text/rtf"', RTF.decode(), "rtf"),
        ('mediaType="application/rtf"', packed(RTF), "rtf"),
        ('mediaType="image/jpeg" representation="B64"', packed(b"\xff\xd8\xff\xe0"), "jpg"),
        ('mediaType="image/tiff" representation="B64"', packed(b"II*\x00aa"), "tif"),
        ('mediaType="image/gif" representation="B64"', packed(b"GIF89a"), "gif"),
    ],
)
def test_a_level_1_file_comes_out_however_it_is_announced(
    attributes: str, text: str, extension: str
):
    readable = level1(attributes, text)

    assert [file.extension for file in readable.files] == [extension]
    assert (readable.html, readable.missing) == ("", 0)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ('mediaType="text/plain"', "Été &lt;b&gt;"),
        ("", "Été &lt;b&gt;"),
        ('mediaType="TEXT/PLAIN; charset=utf-8"', "<![CDATA[Été <b>]]>"),
        ('mediaType="text/plain" representation="TXT"', "Été &lt;b&gt;"),
        ('mediaType="text/plain" representation="B64"', packed("Été <b>".encode())),
        ('mediaType="text/plain" representation="B64"', packed("\ufeffÉté <b>".encode())),
        ('mediaType="text/plain" representation="B64"', packed("Été <b>".encode("latin-1"))),
        ('mediaType="text/html"', "Été &lt;b&gt;"),
    ],
)
def test_a_level_1_text_is_shown_as_it_is(attributes: str, text: str):
    readable = level1(attributes, text)

    assert readable.html == '<div class="preformatted">Été &lt;b&gt;</div>'
    assert (readable.files, readable.missing) == ((), 0)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ('mediaType="application/pdf" representation="B64"', "JVBERi0*"),
        ('mediaType="application/msword" representation="B64"', packed(b"\xd0\xcf\x11\xe0")),
        ('mediaType="image/jpeg"', '<reference value="https://evil.test/i.jpg"/>'),
    ],
)
def test_a_file_that_does_not_come_out_is_said_to_be_missing(attributes: str, text: str):
    readable = level1(attributes, text)

    assert (readable.html, readable.files, readable.missing) == ("", (), 1)


def test_a_picture_inside_an_entry_comes_out_as_what_it_is():
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
    entry = (
        "<entry><observationMedia classCode='OBS' moodCode='EVN'>"
        f"<value mediaType='text/html' representation='B64'>{png}</value></observationMedia></entry>"
    )
    spec = CdaSpec(sections=(section("x", inner=entry),))

    assert [file.type for file in read_document(cda(spec)).files] == ["image/png"]


def test_the_pdf_copy_comes_before_the_pictures():
    def media(content: bytes) -> str:
        packed = base64.b64encode(content).decode()
        return (
            "<entry><observationMedia classCode='OBS' moodCode='EVN'>"
            f"<value representation='B64'>{packed}</value></observationMedia></entry>"
        )

    inner = media(b"\x89PNG\r\n\x1a\n0000") + media(PDF)
    readable = read_document(cda(CdaSpec(sections=(section("x", inner=inner),))))

    assert [file.extension for file in readable.files] == ["pdf", "png"]


def pictures(*contents: tuple[str, bytes]) -> str:
    return "".join(
        f'<entry><observationMedia classCode="OBS" moodCode="EVN" ID="{name}">'
        f'<value representation="B64">{packed(content)}</value></observationMedia></entry>'
        for name, content in contents
    )


LEFT, RIGHT = b"\x89PNG\r\n\x1a\nleft", b"\x89PNG\r\n\x1a\nright"
SHOW = '<renderMultiMedia referencedObject="{}"/>'


def said(text: str, inner: str) -> list[str]:
    readable = read_document(cda(CdaSpec(sections=(section(text, inner=inner),))))
    return re.findall(r"<p>\[Fichier joint(.*?)\]</p>", readable.html)


def test_each_picture_is_named_by_the_number_of_its_button():
    inner = pictures(("og", LEFT), ("od", RIGHT), ("copie", PDF))
    readable = read_document(cda(CdaSpec(sections=(section("x", inner=inner),))))

    assert [file.content for file in readable.files] == [PDF, LEFT, RIGHT]
    assert said(SHOW.format("od") + SHOW.format("og") + SHOW.format("#od copie"), inner) == [
        " 3\u00a0: il se télécharge plus haut",
        " 2\u00a0: il se télécharge plus haut",
        " 3, 1\u00a0: il se télécharge plus haut",
    ]


def test_the_only_picture_needs_no_number():
    assert said(SHOW.format("og"), pictures(("og", LEFT))) == [
        "\u00a0: il se télécharge plus haut"
    ]


def test_a_picture_that_did_not_come_out_is_not_promised():
    inner = pictures(("og", LEFT), ("svg", b"<svg/>"))

    assert (
        said(SHOW.format("svg") + SHOW.format("none") + SHOW.format(""), inner)
        == ["\u00a0: il ne peut pas être ouvert ici"] * 3
    )


def test_a_picture_is_known_by_its_region_too():
    inner = (
        "<entry><regionOfInterest ID='zone' classCode='ROIOVL' moodCode='EVN'><entryRelationship>"
        + pictures(("og", LEFT)).replace("<entry>", "").replace("</entry>", "")
        + "</entryRelationship></regionOfInterest></entry>"
    )

    assert said(SHOW.format("zone"), inner) == ["\u00a0: il se télécharge plus haut"]


def test_only_so_many_files_come_out():
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
    entry = (
        "<entry><observationMedia classCode='OBS' moodCode='EVN'>"
        f"<value representation='B64'>{png}</value></observationMedia></entry>"
    )
    for count, cut in ((20, False), (21, True), (100, True)):
        readable = read_document(cda(CdaSpec(sections=(section("x", inner=entry * count),))))
        assert len(readable.files) == min(count, enclosed.MAX_FILES)
        assert readable.cut is cut


def test_a_huge_narrative_is_cut_and_stays_balanced(monkeypatch):
    monkeypatch.setattr(narrative, "MAX_HTML_CHARACTERS", 10_000)

    readable = read_document(
        cda(CdaSpec(sections=(section("<paragraph>mot</paragraph>" * 5000),)))
    )

    assert readable.cut
    assert len(readable.html) < 20_000
    checked(readable.html)


def test_a_deep_narrative_is_cut_and_stays_balanced():
    readable = read_document(
        cda(CdaSpec(sections=(section("<list><item>" * 80 + "x" + "</item></list>" * 80),)))
    )

    assert readable.cut
    checked(readable.html)


def test_a_wrapper_of_the_sender_is_never_used():
    html = read_document(cda(CdaSpec(wrapped=True))).html

    assert "alert" not in html
    assert "Résultats" in html


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<a/>",
        b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>",
        b"%PDF-1.4",
    ],
)
def test_what_is_no_safe_cda_is_refused(content):
    with pytest.raises(MalformedCdaError):
        read_document(content)
