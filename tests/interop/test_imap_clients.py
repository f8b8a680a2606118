"""Unmodified clients against a running server; each is skipped by name when it is not there.

Source: RFC 8314 §3.2.
"""

import asyncio
import imaplib
import shutil
from pathlib import Path

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


def mbsync_settings(site: ImapSite, root: Path) -> Path:
    settings = root / "mbsyncrc"
    settings.write_text(
        f"IMAPAccount pli\nHost localhost\nPort {site.tls_port}\nUser {ALICE}\nPass {SECRET}\n"
        f"SSLType IMAPS\nCertificateFile {site.ca_file}\n\n"
        "IMAPStore far\nAccount pli\n\n"
        f"MaildirStore near\nSubFolders Verbatim\nPath {root}/mail/\nInbox {root}/mail/INBOX\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\n"
        "SyncState *\n"
    )
    (root / "mail").mkdir()
    return settings


async def test_mbsync_synchronises_both_ways():
    mbsync = wanted("mbsync")
    async with serve() as site:
        for number in range(120):
            await site.put(message(number))
        settings = mbsync_settings(site, site.path)
        command = (mbsync, "-c", str(settings), "-a")
        await run(*command)
        inbox = site.path / "mail" / "INBOX"
        near = [*(inbox / "cur").iterdir(), *(inbox / "new").iterdir()]
        assert len(near) == 120
        by_uid = {int(file.name.split("U=")[1].split(":")[0]): file for file in near}
        header, _, body = message(0).replace(b"\r\n", b"\n").partition(b"\n\n")
        kept = by_uid[1].read_bytes()
        # mbsync adds a field of its own to what it stores.
        assert kept.startswith(header)
        assert kept.endswith(b"\n\n" + body)

        (inbox / "cur" / "1.new:2,S").write_bytes(message(500).replace(b"\r\n", b"\n"))
        by_uid[2].unlink()
        folder = await site.store.folders.get(site.alice.id, "INBOX")
        assert folder is not None
        await site.put(message(600))
        await run(*command)

        status = await site.store.folders.status(folder.id)
        assert status.messages == 121
        assert status.unseen == 120
        near = [*(inbox / "cur").iterdir(), *(inbox / "new").iterdir()]
        assert len(near) == 121
