"""A patient's browser without JavaScript: cookies, forms, redirects. Standard library only."""

import http.cookiejar
import ssl
import time
import urllib.parse
import urllib.request
from html.parser import HTMLParser

import pyotp

_TIMEOUT_S = 20


class _Forms(HTMLParser):
    """Collects each form's action and the values it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note forms and what can be filled in."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((values.get("action", ""), {}))
        elif tag in {"input", "textarea"} and self.forms and "name" in values:
            self.forms[-1][1][values["name"]] = values.get("value", "")


class Browser:
    """One person's browser on one site."""

    def __init__(self, base: str, context: ssl.SSLContext) -> None:
        self.base = base
        self.url = base + "/"
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )

    def get(self, path: str) -> str:
        """Fetch a page; raises urllib.error.HTTPError on 4xx and 5xx."""
        return self._open(urllib.request.Request(urllib.parse.urljoin(self.url, path)))

    def submit(self, page: str, values: dict[str, str]) -> str:
        """Fill and send the page's form that has all the fields named."""
        forms = _Forms()
        forms.feed(page)
        action, held = next(form for form in forms.forms if values.keys() <= form[1].keys())
        body = urllib.parse.urlencode(held | values).encode()
        request = urllib.request.Request(
            urllib.parse.urljoin(self.url, action), data=body, headers={"Origin": self.base}
        )
        return self._open(request)

    def sign_in(self, login: str, password: str, totp_secret: str) -> str:
        """Sign in with both factors; give the page that follows."""
        totp = pyotp.TOTP(totp_secret)
        if totp.interval - time.time() % totp.interval < 1:
            time.sleep(1)
        return self.submit(
            self.get("/connexion"), {"login": login, "password": password, "code": totp.now()}
        )

    def _open(self, request: urllib.request.Request) -> str:
        with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
            self.url = answer.geturl()
            return str(answer.read().decode())
