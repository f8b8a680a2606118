"""Unmodified clients against a running server; each is skipped by name when it is not there.

Source: RFC 8314 §3.2.
"""

import asyncio
import imaplib
import shutil

import pytest
from aioimaplib import aioimaplib

from tests.support.imap_site import ALICE, SECRET, ImapSite, serve

MESSAGE = (
    b"From: a@b.test\r\nTo: c@d.test\r\nSubject: number %d\r\nMessage-ID: <%d@b.test>\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0100\r\n\r\nbody %d\r\n"
)


def message(number: int) -> bytes:
    return MESSAGE % (number, number, number)


async def run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said


def wanted(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def use_imaplib(site: ImapSite) -> None:
    with imaplib.IMAP4("127.0.0.1", site.port) as client:
        client.starttls(site.client_tls)
        client.login(ALICE, SECRET)
        client.select("INBOX")
        assert client.append("INBOX", "\\Seen", None, message(1))[0] == "OK"
        assert client.search(None, "SEEN") == ("OK", [b"1"])
        _, parts = client.uid("fetch", "1:*", "(FLAGS BODY[])")
        assert parts[0][1] == message(1)
        assert client.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK"
        assert client.expunge() == ("OK", [b"1"])


async def test_imaplib_appends_reads_and_expunges_over_starttls():
    async with serve() as site:
        await asyncio.to_thread(use_imaplib, site)


async def test_aioimaplib_is_pushed_what_arrives_and_fetches_it_by_uid():
    async with serve() as site:
        client = aioimaplib.IMAP4_SSL("127.0.0.1", site.tls_port, ssl_context=site.client_tls)
        await client.wait_hello_from_server()
        assert (await client.login(ALICE, SECRET)).result == "OK"
        assert (await client.select("INBOX")).result == "OK"
        idle = await client.idle_start(timeout=10)
        await site.put(message(1))
        assert await client.wait_server_push() == [b"1 EXISTS"]
        client.idle_done()
        await asyncio.wait_for(idle, 5)
        fetched = await client.uid("fetch", "1:*", "(UID FLAGS BODY.PEEK[])")
        assert bytes(fetched.lines[1]) == message(1)
        stored = await client.uid("store", "1", "+FLAGS", "(done)")
        assert b"done" in stored.lines[-2]
        assert (await client.logout()).result == "OK"


async def test_curl_lists_uploads_and_reads():
    curl = wanted("curl")
    async with serve() as site:
        base = [curl, "-sS", "--cacert", str(site.ca_file), "--user", f"{ALICE}:{SECRET}"]
        url = f"imaps://localhost:{site.tls_port}"
        file = site.path / "message.eml"
        file.write_bytes(message(7))
        assert b"\\Sent" in await run(*base, f"{url}/")
        await run(*base, "-T", str(file), f"{url}/INBOX")
        assert await run(*base, f"{url}/INBOX;MAILINDEX=1") == message(7)
        assert await run(*base, f"{url}/INBOX;UID=1;SECTION=TEXT") == b"body 7\r\n"
        assert b"* SEARCH 1" in await run(*base, f"{url}/INBOX?SUBJECT%20number")
        plain = f"imap://localhost:{site.port}"
        assert await run(*base, "--ssl-reqd", f"{plain}/INBOX;UID=1") == message(7)
