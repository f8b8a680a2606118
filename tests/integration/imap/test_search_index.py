"""SEARCH gives the same before and after a message was read into the index, and finds attachments.

Source: RFC 9051 §6.4.4.
"""

import asyncio
import base64
import itertools
import os
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.header import Header

import pytest

from certs.errors import SandboxCrashError
from certs.sandbox import SandboxPool
from mailserver import attachment_text
from mailserver.imap.server import ImapLimits
from mailserver.message.search_text import SearchText, fold
from mailserver.search_indexer import READ_MESSAGE, READ_PLAINLY, SearchIndexer
from tests.support.cda import CdaSpec, cda
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import QUICK, ImapSite, serve
from tests.support.xdm import mail, package

WORDS = [
    "Troponine",
    "élevée",
    "œdème",
    "L’hôpital",
    "d'Aix",
    "compte-rendu",
    "CR",
    "créatinine",
    "100",
    "%",
    '"cité"',
    "a_b",
    "(x)",
    "naïve",
    "Straße",
    "Zoë",
    "Müller",
    "ALLERGIE",
    "pénicilline",
    "\\barre",
    "{accolade}",
    "*étoile*",
    "%pour",
    "1:2",
    "Été",
    "été",
]


@dataclass(frozen=True)
class Letter:
    """A message as it was made up, and as a person reads it."""

    raw: bytes
    sender: str
    subject: str
    body: str


def encoded(text: str) -> str:
    """Write a header's text as encoded words."""
    return Header(text, "utf-8").encode(linesep="\r\n")


def letter(number: int) -> Letter:
    """Make a message up: charsets, encodings and structures by turns."""
    chance = random.Random(number)
    subject = " ".join(chance.choices(WORDS, k=3))
    sender = f"{chance.choice(WORDS)} Nom{number % 7} <s{number % 5}@labo.test>"
    text = " ".join(chance.choices(WORDS, k=chance.randint(1, 30)))
    charset = ("utf-8", "iso-8859-15", "windows-1252")[number % 3]
    words = text.replace("’", "'") if charset == "iso-8859-15" else text
    octets = words.encode(charset)
    encoding, body = (
        ("8bit", octets),
        ("base64", base64.encodebytes(octets).replace(b"\n", b"\r\n")),
        ("quoted-printable", b"".join(b"=%02X" % octet for octet in octets[:20]) + b"=\r\n"),
    )[number // 3 % 3]
    if encoding == "quoted-printable":
        words = octets[:20].decode(charset)
    name, _, address = sender.rpartition(" ")
    head = (
        f"From: {encoded(name)} {address}\r\nSubject: {encoded(subject)}\r\nX-Number: {number}\r\n"
    )
    part = (
        f"Content-Type: text/plain; charset={charset}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + body
    match number % 4:
        case 0:
            head += "Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\n"
            part += b"\r\n--zz\r\nContent-Type: text/html\r\n\r\n<p>Annexe</p>\r\n--zz--\r\n"
            words += "\n<p>Annexe</p>"
        case 1:
            head += "Content-Type: message/rfc822\r\n\r\nSubject: Transmis\r\n"
            words = (
                f"Subject: Transmis\nContent-Type: text/plain; charset={charset}\n"
                f"Content-Transfer-Encoding: {encoding}\n{words}"
            )
    return Letter(head.encode() + part, sender, subject, words)


def needles() -> Iterable[str]:
    """Give pieces of the letters, of one character and of many, and what is in none of them."""
    chance = random.Random(3)
    for number in range(24):
        source = letter(chance.randrange(60))
        text = chance.choice([source.body, source.subject, source.sender])
        start = chance.randrange(len(text))
        yield text[start : start + chance.choice([1, 2, 3, 5, 12, 40])].replace("\n", " ")
        yield fold(text[start : start + 4]).upper() if number % 2 else f"{text[start:]}absent"


async def run_here(function: str, raw: bytes) -> SearchText:
    """Read a message in this process."""
    return {
        READ_MESSAGE: attachment_text.read_message,
        READ_PLAINLY: attachment_text.read_plainly,
    }[function](raw)


async def index_all(site: ImapSite, run=run_here) -> None:
    """Let the indexer read what is there."""
    indexer = SearchIndexer(site.store, run)
    while await indexer.step():
        pass


async def found(peer: ImapPeer, key: str, needle: str) -> list[int]:
    """Run one SEARCH with the needle as a literal; give the numbers."""
    octets = needle.encode()
    command = b"SEARCH CHARSET UTF-8 %b {%d+}\r\n%b" % (key.encode(), len(octets), octets)
    (line,) = await peer.ok(command)
    return [int(word) for word in line.split()[2:]]


def expected(letters: list[Letter], key: str, needle: str) -> list[int]:
    """Look at what a person reads, plainly."""
    sought = fold(needle)

    def has(one: Letter) -> bool:
        match key:
            case "FROM":
                return sought in fold(one.sender)
            case "SUBJECT" | "HEADER Subject":
                return sought in fold(one.subject)
            case "BODY":
                return any(sought in fold(text) for text in one.body.split("\n"))
            case _:
                raise AssertionError(key)

    return [number for number, one in enumerate(letters, 1) if has(one)]


async def test_a_search_gives_the_same_before_amid_and_after_the_index():
    letters = [letter(number) for number in range(60)]
    async with serve() as site:
        for one in letters[:30]:
            await site.put(one.raw)
        await index_all(site)
        for one in letters[30:]:
            await site.put(one.raw)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        keys = ("BODY", "TEXT", "FROM", "SUBJECT", "HEADER Subject", "HEADER X-Number")
        asked = [*itertools.product(keys, needles()), ("HEADER X-Number", ""), ("TEXT", "from: ")]
        half = {pair: await found(peer, *pair) for pair in asked}
        await index_all(site)
        after = {pair: await found(peer, *pair) for pair in asked}

        plain = {pair: expected(letters, *pair) for pair in asked if pair[0][0] in "BFS"}
        assert {pair: after[pair] for pair in plain} == plain
        assert half == after
        assert sum(map(bool, after.values())) > 50
        assert after["HEADER X-Number", ""] == list(range(1, 61))
        assert after["TEXT", "from: "] == list(range(1, 61))
        for pair, numbers in after.items():
            if pair[0] == "TEXT" and ("BODY", pair[1]) in after:
                inside = {*after["BODY", pair[1]], *after["FROM", pair[1]]}
                assert inside <= set(numbers)
        await peer.close()


def pdf(text: str) -> bytes:
    """Write a PDF of one page with one line of text."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 400 200]/Contents 4 0 R"
        "/Resources<</Font<</F1 5 0 R>>>>>>endobj\n"
        f"4 0 obj<</Length {len(stream)}>>stream\n{stream}\nendstream endobj\n"
        "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\n"
        "trailer<</Root 1 0 R>>\n%%EOF\n"
    ).encode()


def with_file(content: bytes, kind: str = "application/pdf") -> bytes:
    """A letter with one attachment."""
    return (
        b"Subject: Bilan\r\nContent-Type: multipart/mixed; boundary=zz\r\n\r\n"
        b"--zz\r\n\r\nVoir la piece jointe\r\n--zz\r\nContent-Type: " + kind.encode() + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(content).replace(b"\n", b"\r\n")
        + b"--zz--\r\n"
    )


@pytest.mark.parametrize(
    ("raw", "needle"),
    [
        pytest.param(with_file(pdf("Ferritine basse")), "ferritine BASSE", id="PDF"),
        pytest.param(
            mail(package(cda(CdaSpec(pdf=pdf("Ferritine basse"))))),
            "ferritine",
            id="CDA around PDF",
        ),
        pytest.param(
            mail(package(cda(CdaSpec(narrative="Calcémie stable")))),
            "calcemie STABLE",
            id="CDA narrative",
        ),
    ],
)
async def test_what_an_attachment_says_is_found_once_it_was_read(raw: bytes, needle: str):
    async with serve() as site, SandboxPool(1, functions=[READ_MESSAGE, READ_PLAINLY]) as pool:
        await site.put(raw)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")

        before = await found(peer, "BODY", needle)
        await index_all(site, pool.run)

        assert (before, await found(peer, "BODY", needle)) == ([], [1])
        assert await found(peer, "TEXT", needle) == [1]
        assert await found(peer, "SUBJECT", needle) == []
        await peer.close()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"%PDF-1.4 not one at all", id="no PDF"),
        pytest.param(b"%PDF-1.4\n" + os.urandom(2000), id="noise"),
        pytest.param(pdf("x").replace(b"Count 1", b"Count 99999999"), id="a wrong count"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_an_attachment_that_cannot_be_read_hides_nothing_else(content: bytes):
    async with serve() as site, SandboxPool(1, functions=[READ_MESSAGE, READ_PLAINLY]) as pool:
        await site.put(with_file(content))
        await index_all(site, pool.run)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")

        assert await found(peer, "BODY", "piece jointe") == [1]
        await peer.close()


@pytest.mark.parametrize("broken", [{READ_MESSAGE}, {READ_MESSAGE, READ_PLAINLY}])
async def test_a_message_that_breaks_its_worker_is_still_found_by_its_text(broken: set[str]):
    async def run(function: str, raw: bytes) -> SearchText:
        if function in broken and b"Bilan" in raw:
            raise SandboxCrashError
        return await run_here(function, raw)

    async with serve() as site:
        await site.put(with_file(pdf("Ferritine")))
        await site.put(letter(3).raw)
        await index_all(site, run)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")

        assert await found(peer, "BODY", "piece jointe") == [1]
        assert await found(peer, "SUBJECT", "bilan") == [1]
        assert await found(peer, "SUBJECT", letter(3).subject) == [2]
        await peer.close()


async def test_a_narrower_key_first_keeps_the_search_from_the_other_messages():
    async with serve() as site:
        for number in range(20):
            await site.put(letter(number).raw)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        words = fold(letter(4).body)[:8]

        every = await found(peer, "BODY", words)
        assert await found(peer, "5:6 BODY", words) == [n for n in every if n in (5, 6)]
        assert await found(peer, "NOT BODY", words) == [n for n in range(1, 21) if n not in every]
        await peer.close()


async def test_i8_a_dear_search_has_a_budget_and_others_are_answered_meanwhile():
    needle = "a" * 1000 + "b"
    limits = ImapLimits(login_delay_s=0.01, stop_grace_s=2.0, search_deadline_s=1.0)
    async with serve(limits) as site:
        body = b"Subject: x\r\nContent-Type: text/html\r\n\r\n" + b"<a" * 1_500_000 + b"\r\n"
        for _ in range(12):
            await site.put(body)
        searcher, other = await ImapPeer.login(site), await ImapPeer.login(site)
        await searcher.ok("SELECT INBOX")
        await other.ok("SELECT INBOX")
        started = time.monotonic()
        tag = searcher.start(f"SEARCH OR BODY {needle} OR BODY {needle}c BODY {needle}d")
        slowest = 0.0
        ended = asyncio.create_task(searcher.until(tag))
        while not ended.done():
            before = time.monotonic()
            await other.ok("NOOP")
            slowest = max(slowest, time.monotonic() - before)
            await asyncio.sleep(0.01)
        _, reply = await ended

        assert reply.startswith((b"NO [LIMIT]", b"OK"))
        assert time.monotonic() - started < 5
        assert slowest < 0.5
        await searcher.ok("NOOP")
        for peer in (searcher, other):
            await peer.close()


async def test_i8_many_dear_searches_leave_room_for_what_others_read():
    limits = ImapLimits(login_delay_s=0.01, stop_grace_s=0.1, search_deadline_s=3.0)
    async with serve(limits) as site:
        for _ in range(4):
            await site.put(b"Subject: x\r\n\r\n" + b"<a" * 1_500_000 + b"\r\n")
        await site.put(letter(1).raw)
        searchers = [await ImapPeer.login(site) for _ in range(20)]
        for peer in searchers:
            await peer.ok("SELECT INBOX")
            peer.start("SEARCH BODY " + "a" * 500)
        other = await ImapPeer.login(site)
        await other.ok("SELECT INBOX")
        async with asyncio.timeout(2):
            await other.ok("FETCH 5 BODY.PEEK[]")
            await other.append("INBOX", letter(2).raw)
        for peer in (*searchers, other):
            await peer.close()


async def test_a_session_that_goes_away_takes_its_search_along():
    async with serve(QUICK) as site:
        body = b"Subject: x\r\n\r\n" + b"<a" * 1_500_000 + b"\r\n"
        for _ in range(4):
            await site.put(body)
        searcher = await ImapPeer.login(site)
        await searcher.ok("SELECT INBOX")
        searcher.start("SEARCH BODY " + "a" * 50)
        await searcher.close()
        other = await ImapPeer.login(site)
        await other.ok("SELECT INBOX")
        assert await found(other, "SUBJECT", "x") == [1, 2, 3, 4]
        await other.close()
