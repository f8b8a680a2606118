"""Addresses that name nothing: every route with a number in it says 404, never 500."""

import re

import pytest
from starlette.routing import Route

from tests.support.furnished import furnish, furnish_care
from tests.support.webmail import token_of, webmail

NUMBERS = (
    "0", "-1", str(2**63 - 1), str(2**63), str(2**64), "9" * 18, "9" * 5000, "٣", "²", "1.5", "1%00"
)  # fmt: skip
WORDS = ("x", "é", "%00", "%ff", "a" * 5000, "..%2f..%2fetc", "'")
QUERIES = ("page", "avant", "forme", "refus", "fait", "adresse", "acces", "dit", "_count", "date")
NOT_PAGES = ("/static", "/healthz", "/metrics")


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        await furnish(opened)
        await furnish_care(opened)
        yield opened


def addresses(path):
    """Give the route's addresses with one parameter replaced at a time."""
    for wrong in re.findall(r"\{\w+(?::\w+)?\}", path):
        for value in NUMBERS if wrong.endswith(":int}") else WORDS:
            yield re.sub(r"\{\w+(?::\w+)?\}", "1", path.replace(wrong, value))


TOLD = {"GET": "Page introuvable", "POST": "Déjà fait, ou plus là"}
"""A form about what is not there was mostly sent twice."""


@pytest.mark.parametrize("login", ["patient", "doctor"])
async def test_a_number_that_names_nothing_is_a_page_not_found(site, login):
    seen = 0
    async with site.signed_in(login) as client:
        token = token_of((await client.get("/accueil")).text)
        for route in site.app.routes:
            if not isinstance(route, Route) or ":int}" not in route.path:
                continue
            for method in sorted(route.methods - {"HEAD"}):
                for address in dict.fromkeys(addresses(route.path)):
                    answer = await client.request(
                        method, address, data={"csrf": token} if method == "POST" else None
                    )
                    told = (method, address[:120], answer.status_code)
                    assert answer.status_code in {200, 303, 400, 404}, told
                    if answer.status_code == 404:
                        assert TOLD[method] in answer.text, told
                    seen += answer.status_code == 404
    assert seen > 300


@pytest.mark.parametrize("login", ["patient", "doctor"])
async def test_words_and_questions_of_any_kind_never_fail(site, login):
    async with site.signed_in(login) as client:
        for route in site.app.routes:
            if not isinstance(route, Route) or route.path.startswith(NOT_PAGES):
                continue
            if "GET" not in route.methods:
                continue
            plain = re.sub(r"\{\w+(?::\w+)?\}", "1", route.path)
            asked = [
                plain + "?" + "&".join(f"{name}={value}" for name in QUERIES)
                for value in (*NUMBERS, *WORDS)
            ]
            if "{" in route.path and ":int}" not in route.path:
                asked += list(addresses(route.path))
            for address in asked:
                answer = await client.get(address)
                assert answer.status_code < 500, (address[:120], answer.status_code)
