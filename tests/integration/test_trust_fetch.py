"""The list is fetched over TLS that one pinned authority vouches for, and from nobody else."""

import http.server
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.issue import Branch, PracticePki
from certs.tls import server_context
from directory import fetch
from directory.errors import TrustListError, TrustListReason
from directory.fetch import fetch_list

LIST = b"<list/>" * 50_000
FIELDS = {"CN": "liste.test", "O": "LISTE", "C": "FR"}


class Publisher(http.server.BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self):
        match self.path:
            case "/list.xml?v=1":
                self._say(200, LIST, len(LIST))
            case "/short":
                self._say(200, LIST, len(LIST) + 1)
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/list.xml?v=1")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self._say(404, b"none", 4)

    def _say(self, status: int, body: bytes, octets: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(octets))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Quiet(http.server.ThreadingHTTPServer):
    """Speaks TLS, and keeps quiet about clients that do not believe it."""

    tls: ssl.SSLContext

    def finish_request(self, request, address):
        with self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, address)

    def handle_error(self, *_):
        pass


class Published:
    """A publisher on loopback; ``names`` are those of its certificate."""

    def __init__(self, root: Path, names: list[str]) -> None:
        at = datetime.now(UTC)
        pki = PracticePki.create(at, "EDITEUR")
        issued = pki.issue_server(at, names, FIELDS)
        self.anchors = root / "https.pem"
        self.anchors.write_bytes(pki.authorities[Branch.ROOT].pem)
        (root / "c.pem").write_bytes(issued.bundle)
        (root / "c.key").write_bytes(issued.key)
        self.server = Quiet(("127.0.0.1", 0), Publisher)
        self.server.tls = server_context(root / "c.pem", root / "c.key")
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.server.server_port}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    opened = Published(tmp_path_factory.mktemp("published"), ["127.0.0.1"])
    yield opened
    opened.close()


def refusal(url: str, anchors: Path) -> TrustListReason:
    with pytest.raises(TrustListError) as caught:
        fetch_list(url, anchors)
    return caught.value.reason


def test_the_list_is_fetched_whole(published):
    assert fetch_list(published.url("/list.xml?v=1"), published.anchors) == LIST


@pytest.mark.parametrize("path", ["/moved", "/short", "/other", ""])
def test_what_is_not_the_whole_list_is_refused(published, path):
    assert refusal(published.url(path), published.anchors) is TrustListReason.NOT_FETCHED


def test_nobody_but_the_pinned_authority_is_believed(published, tmp_path):
    other = tmp_path / "other.pem"
    pki = PracticePki.create(datetime.now(UTC), "AUTRE")
    other.write_bytes(pki.authorities[Branch.ROOT].pem)

    for anchors in (other, tmp_path / "none.pem"):
        assert refusal(published.url("/list.xml?v=1"), anchors) is TrustListReason.NOT_FETCHED


def test_a_server_of_another_name_is_refused(tmp_path):
    opened = Published(tmp_path, ["liste.test"])
    try:
        refused = refusal(opened.url("/list.xml?v=1"), opened.anchors)
    finally:
        opened.close()

    assert refused is TrustListReason.NOT_FETCHED


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/list.xml", "https:///list.xml", "file:///etc/passwd"]
)
def test_only_https_is_spoken(published, url):
    assert refusal(url, published.anchors) is TrustListReason.NOT_FETCHED


@pytest.mark.parametrize(("limit", "refused"), [(len(LIST), False), (len(LIST) - 1, True)])
def test_no_more_is_read_than_a_list_may_measure(published, monkeypatch, limit, refused):
    monkeypatch.setattr(fetch, "MAX_LIST_BYTES", limit)
    url = published.url("/list.xml?v=1")
    if refused:
        assert refusal(url, published.anchors) is TrustListReason.TOO_LARGE
    else:
        assert fetch_list(url, published.anchors) == LIST


def test_a_server_that_drips_is_given_up(published, monkeypatch):
    monkeypatch.setattr(fetch, "DEADLINE_S", -1.0)

    assert (
        refusal(published.url("/list.xml?v=1"), published.anchors) is TrustListReason.NOT_FETCHED
    )
