"""Every page as a person reads it: French, one title, no break before a colon."""

import re
from html.parser import HTMLParser

import pytest

from tests.support.furnished import furnish, furnish_care
from tests.support.webmail import webmail

LOGINS = ("patient", "other", "doctor", "colleague")
FILES = ("/piece/", "/fichier", "/archive", "/preuves", "/contenu", "/admission/", "/static/")
STARTS = (
    "/accueil", "/prevenir", "/messagerie", "/dossier", "/dossier/droits", "/famille",
    "/dossier/profil", "/dossier/volontes", "/dossier/urgence", "/dossier/fichiers",
    "/dossier/admission", "/dossier/recherche", "/dossier/historique", "/dossier/acces",
    "/dossier/applications", "/agenda", "/agenda/calendriers", "/patients", "/quarantaine",
    "/rien",
)  # fmt: skip
ENGLISH = re.compile(
    r"(?<!['’])\b(?:"
    r"the|and|of|with|from|your|you|this|that|these|has|have|been|are|was|were|not"
    r"|found|error|failed|unknown|password|login|logout|submit|cancel|delete|remove"
    r"|save|search|settings|home|inbox|sent|draft|trash|folder|back|next|previous|yes"
    r"|close|open|read|unread|write|file|files|upload|download|record|records|request"
    r"|missing|invalid|required|please|try|again|welcome|nothing|none|null|true|false"
    r"|undefined|patient_id|who|what|when|why|january|february|march|april|june|july"
    r"|august|september|october|november|december|monday|tuesday"
    r")\b",
    re.IGNORECASE,
)
NOT_OURS = ("ZZCANARY", "Message avec mise en forme")
"""What the people of the tests wrote."""


class Page(HTMLParser):
    """What a page shows, and what its tags say."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.lang, self.title = "", ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in {"input", "img", "meta", "link", "br", "hr"}:
            self._inside.append(tag)
        if tag == "html":
            self.lang = values.get("lang", "")
        if tag == "a":
            self.links.append(values.get("href", ""))
        self.ids += [values["id"]] if "id" in values else []
        told = [values[name] for name in ("aria-label", "alt", "placeholder") if values.get(name)]
        self.words += [*told, values["title"]] if tag == "iframe" else told

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "title" in self._inside:
            self.title += data
        elif "textarea" not in self._inside:
            self.words.append(data)


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        await furnish(opened)
        await furnish_care(opened)
        yield opened


async def walk(client):
    """Give every page that can be reached by links, by its address."""
    found, waiting = {}, list(STARTS)
    while waiting:
        path = waiting.pop()
        if path in found or any(each in path for each in FILES if not path.endswith("/fichiers")):
            continue
        answer = await client.get(path)
        if answer.status_code == 303:
            waiting.append(answer.headers["location"])
        elif answer.headers["content-type"].startswith("text/html"):
            page = found[path] = Page(answer.text)
            waiting += [link.partition("#")[0] for link in page.links if link.startswith("/")]
    return found


@pytest.mark.parametrize("login", LOGINS)
async def test_every_page_is_one_page_in_french(site, login):
    async with site.signed_in(login) as client:
        pages = await walk(client)
    assert len(pages) > 8
    for path, page in pages.items():
        assert page.lang == "fr", path
        assert page.title.endswith("Pli santé"), path
        assert len(page.title) > len(" – Pli santé"), path
        assert page.tags.count("h1") == 1, path
        assert len(page.ids) == len(set(page.ids)), path
        assert "script" not in page.tags, path
        for text in page.words:
            if any(each in text for each in NOT_OURS):
                continue
            assert not ENGLISH.search(text), (path, text)


@pytest.mark.parametrize("login", LOGINS)
async def test_nothing_breaks_before_a_colon_or_inside_quotes(site, login):
    async with site.signed_in(login) as client:
        pages = await walk(client)
    for path, page in pages.items():
        for text in page.words:
            if "continuez ainsi" not in text:
                assert not re.search(r" [:;?!»]|« ", text), (path, text)
                assert not re.search(r"\w[;?!»](?!\w)", text), (path, text)
