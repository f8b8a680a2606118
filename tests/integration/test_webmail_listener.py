"""The listener itself: real TLS, no delay, no signal taken, nobody waited for without end."""

import asyncio
import signal
import ssl
import time

import httpx2
import pytest

from certs.issue import PracticePki
from mailserver.webmail import http
from mailserver.webmail.http import WebBind, serve_web
from tests.support.mailsite import AT
from tests.support.webmail import webmail


@pytest.fixture
async def listener(tmp_path):
    pki = PracticePki.create(AT, "PRATIQUE")
    issued = pki.issue_server(AT, ["127.0.0.1"], {"CN": "pli.test"})
    (tmp_path / "server.pem").write_bytes(issued.bundle)
    (tmp_path / "server.key").write_bytes(issued.key)
    async with (
        webmail(tmp_path) as site,
        serve_web(
            site.app, WebBind("127.0.0.1", 0), tmp_path / "server.pem", tmp_path / "server.key"
        ) as port,
    ):
        yield port, tmp_path


def trusting_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_it_answers_over_tls_without_the_delay_of_nagle(listener):
    port, _ = listener
    async with httpx2.AsyncClient(verify=trusting_nobody()) as client:
        await client.get(f"https://127.0.0.1:{port}/healthz")
        started = time.perf_counter()
        for _ in range(20):
            answer = await client.get(f"https://127.0.0.1:{port}/healthz")
        elapsed = time.perf_counter() - started

    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert elapsed < 20 * 0.03  # each request took 44 ms with Nagle's algorithm on


async def test_old_tls_is_refused(listener):
    port, _ = listener
    context = trusting_nobody()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def test_no_signal_handler_is_taken(listener):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "uvicorn" not in repr(signal.getsignal(signal.SIGINT))


async def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch, listener):
    monkeypatch.setattr(http, "REQUEST_WITHIN_S", 0.2)
    port, _ = listener
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_body_that_never_ends_is_answered(monkeypatch, listener):
    monkeypatch.setattr(http, "BODY_WITHIN_S", 0.2)
    port, _ = listener
    async with httpx2.AsyncClient(verify=trusting_nobody()) as client:
        await client.get(f"https://127.0.0.1:{port}/connexion")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting_nobody())
    writer.write(
        b"POST /connexion HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nCookie: %b\r\n\r\ncsrf="
        % cookie.encode()
    )
    async with asyncio.timeout(5):
        status = await reader.readline()
    writer.close()
    assert b" 408 " in status
