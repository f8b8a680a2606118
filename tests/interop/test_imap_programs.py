"""Mail programs as their users run them, against a running server; skipped by name when missing.

Each does what it is for (synchronise, read and file, take away), and what it did is read back
from the store and from the files it wrote.
"""

import asyncio
import mailbox
import os
import pty
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import imapclient
import pytest

from mailserver.store.model import EntryRow, Flag, FlagChange, FlagMode
from tests.support.imap_site import ALICE, SECRET, ImapSite, serve

pytestmark = pytest.mark.timeout(180)
BOTH_WAYS = 2000
MESSAGE = (
    b"From: Docteur <a@b.test>\r\nTo: c@d.test\r\nSubject: number %d\r\nMessage-ID: <%d@b.test>\r\n"
    b"Date: Mon, 2 Mar 2026 10:00:00 +0100\r\n\r\nbody %d\r\n"
)


def message(number: int) -> bytes:
    return MESSAGE % (number, number, number)


@pytest.fixture
async def site() -> AsyncIterator[ImapSite]:
    async with serve() as served:
        yield served


def wanted(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


async def run(*command: str | Path, home: Path) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")
    return said


async def fill(site: ImapSite, numbers: Iterable[int], folder: str = "INBOX") -> None:
    """Store messages, all at once: their commits are shared."""
    await asyncio.gather(*(site.put(message(number), folder=folder) for number in numbers))


async def entries(site: ImapSite, folder: str = "INBOX") -> list[EntryRow]:
    found = await site.store.folders.get(site.alice.id, folder)
    assert found is not None
    return await site.store.messages.entries(found.id)


async def by_number(site: ImapSite, folder: str = "INBOX") -> dict[int, EntryRow]:
    """Give a folder's entries by the number in their subject."""
    rows = await entries(site, folder)
    indexes = await site.store.messages.indexes([row.blob_id for row in rows])
    return {int(indexes[row.blob_id].subject.rpartition(" ")[2]): row for row in rows}


def maildir(folder: Path) -> dict[int, Path]:
    """Give a Maildir's files by the number in their subject."""
    return {
        int(file.read_bytes().partition(b"Subject: number ")[2].partition(b"\n")[0]): file
        for part in ("cur", "new")
        for file in (folder / part).iterdir()
    }


def flag_file(file: Path, flags: str) -> None:
    """Give a Maildir file these flags, as a client of it does."""
    base = file.name.partition(":")[0]
    file.rename(file.parent.parent / "cur" / f"{base}:2,{flags}")


# --- imapclient -----------------------------------------------------------------------------


def use_imapclient(site: ImapSite) -> None:
    with imapclient.IMAPClient(
        "localhost", site.tls_port, ssl=True, ssl_context=site.client_tls
    ) as client:
        client.login(ALICE, SECRET)
        folders = {name for _, _, name in client.list_folders()}
        assert client.find_special_folder(imapclient.imapclient.SENT) in folders
        client.create_folder("Été & hiver")
        assert "Été & hiver" in {name for _, _, name in client.list_folders()}
        for number in range(1, 6):
            flags = [rb"\Seen"] if number < 3 else []
            client.append("INBOX", message(number), flags, datetime(2026, 3, number, tzinfo=UTC))
        assert client.select_folder("INBOX")[b"EXISTS"] == 5
        assert client.search(["UNSEEN"]) == [3, 4, 5]
        assert client.search(["BODY", "body 4"]) == [4]
        assert client.sort(["REVERSE ARRIVAL"]) == [5, 4, 3, 2, 1]
        assert client.thread() == tuple((uid,) for uid in range(1, 6))
        fetched = client.fetch([1, 5], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "BODY.PEEK[]"])
        assert fetched[1][b"FLAGS"] == (rb"\Seen",)
        assert fetched[5][b"ENVELOPE"].subject == b"number 5"
        assert fetched[5][b"ENVELOPE"].from_[0].mailbox == b"a"
        assert fetched[5][b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
        assert fetched[5][b"BODY[]"] == message(5)
        assert client.add_flags([3], [rb"\Flagged", "suivi"])[3] == (rb"\Flagged", b"suivi")
        assert client.get_flags([3]) == {3: (rb"\Flagged", b"suivi")}
        client.move([1, 2], "Été & hiver")
        client.copy([3], "Été & hiver")
        assert client.folder_status("Été & hiver", ["MESSAGES", "UIDNEXT"]) == {
            b"MESSAGES": 3,
            b"UIDNEXT": 4,
        }
        client.delete_messages([4])
        client.uid_expunge([4])
        assert client.search() == [3, 5]
        assert client.get_quota_root("INBOX")[1][0].resource == "STORAGE"
        assert client.namespace().personal[0] == ("", "/")


def wait_in_idle(site: ImapSite, loop: asyncio.AbstractEventLoop) -> list[object]:
    with imapclient.IMAPClient("localhost", site.port, ssl=False) as client:
        client.starttls(site.client_tls)
        client.login(ALICE, SECRET)
        client.select_folder("INBOX")
        client.idle()
        asyncio.run_coroutine_threadsafe(site.put(message(1)), loop).result(10)
        pushed = client.idle_check(timeout=10)
        client.idle_done()
    return pushed


async def test_imapclient_files_searches_sorts_and_expunges(site: ImapSite) -> None:
    await asyncio.to_thread(use_imapclient, site)

    assert list(await by_number(site)) == [3, 5]
    assert sorted(await by_number(site, "Été & hiver")) == [1, 2, 3]


async def test_imapclient_is_pushed_what_arrives_while_it_idles(site: ImapSite) -> None:
    pushed = await asyncio.to_thread(wait_in_idle, site, asyncio.get_running_loop())

    assert pushed[0] == (1, b"EXISTS")


# --- mbsync ---------------------------------------------------------------------------------


def mbsync_settings(site: ImapSite, root: Path) -> Path:
    (root / "mail").mkdir()
    settings = root / "mbsyncrc"
    settings.write_text(
        f"FSync no\n\nIMAPAccount pli\nHost localhost\nPort {site.tls_port}\nUser {ALICE}\n"
        f"Pass {SECRET}\nSSLType IMAPS\nCertificateFile {site.ca_file}\n\n"
        "IMAPStore far\nAccount pli\n\n"
        f"MaildirStore near\nSubFolders Verbatim\nPath {root}/mail/\nInbox {root}/mail/INBOX\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\n"
        "SyncState *\n"
    )
    return settings


async def test_mbsync_synchronises_2000_messages_and_then_the_changes_of_both_sides(
    site: ImapSite, tmp_path: Path
) -> None:
    mbsync = wanted("mbsync")
    await fill(site, range(BOTH_WAYS))
    sync = (mbsync, "-c", mbsync_settings(site, tmp_path), "-a")
    await run(*sync, home=tmp_path)
    inbox = tmp_path / "mail" / "INBOX"
    near, far = maildir(inbox), await by_number(site)
    assert near.keys() == far.keys() == set(range(BOTH_WAYS))
    for number in (0, 1, 1000, BOTH_WAYS - 1):
        header, _, body = message(number).replace(b"\r\n", b"\n").partition(b"\n\n")
        kept = near[number].read_bytes()
        # mbsync adds a field of its own to what it stores.
        assert kept.startswith(header)
        assert kept.endswith(b"\n\n" + body)

    # On the near side: 0-99 read, 100-199 deleted, 100 new ones.
    for number in range(100):
        flag_file(near[number], "FS")
    for number in range(100, 200):
        near[number].unlink()
    for number in range(3000, 3100):
        file = inbox / "cur" / f"{number}.new:2,S"
        file.write_bytes(message(number).replace(b"\r\n", b"\n"))
    # On the far side: 200-299 answered, 300-399 expunged, 100 new ones, 50 in another folder.
    folder = await site.store.folders.get(site.alice.id, "INBOX")
    assert folder is not None
    await far_changes(site, folder.id, far)
    await run(*sync, home=tmp_path)

    near, far = maildir(inbox), await by_number(site)
    left = {*range(100), *range(200, 300), *range(400, BOTH_WAYS)}
    assert near.keys() == far.keys() == left | set(range(3000, 3100)) | set(range(4000, 4100))
    for number in range(100):
        assert far[number].flags == Flag.SEEN | Flag.FLAGGED
    for number in range(200, 300):
        assert near[number].name.endswith(":2,R")
    for number in range(3000, 3100):
        assert far[number].flags == Flag.SEEN
    archive = await by_number(site, "Archive")
    assert (
        maildir(tmp_path / "mail" / "Archive").keys() == archive.keys() == set(range(5000, 5050))
    )
    before = [row.uid for row in await entries(site)]

    await run(*sync, home=tmp_path)

    assert [row.uid for row in await entries(site)] == before
    assert maildir(inbox).keys() == near.keys()


async def far_changes(site: ImapSite, folder_id: int, far: dict[int, EntryRow]) -> None:
    def change(numbers: Iterable[int], flag: Flag) -> FlagChange:
        uids = tuple(sorted(far[number].uid for number in numbers))
        return FlagChange(folder_id, uids, FlagMode.ADD, flag, frozenset())

    await site.store.messages.store_flags(change(range(200, 300), Flag.ANSWERED))
    await site.store.messages.store_flags(change(range(300, 400), Flag.DELETED))
    assert len(await site.store.messages.expunge(folder_id)) == 100
    await fill(site, range(4000, 4100))
    await fill(site, range(5000, 5050), folder="Archive")


# --- offlineimap ----------------------------------------------------------------------------


async def test_offlineimap_synchronises_both_ways(site: ImapSite, tmp_path: Path) -> None:
    offlineimap = wanted("offlineimap")
    await fill(site, range(60))
    settings = tmp_path / "offlineimaprc"
    settings.write_text(
        f"[general]\naccounts = pli\nmetadata = {tmp_path}/state\nui = basic\nfsync = false\n"
        "[Account pli]\nlocalrepository = near\nremoterepository = far\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {tmp_path}/mail\n"
        f"[Repository far]\ntype = IMAP\nremotehost = localhost\nremoteport = {site.tls_port}\n"
        f"remoteuser = {ALICE}\nremotepass = {SECRET}\nssl = yes\nsslcacertfile = {site.ca_file}\n"
        "maxconnections = 3\n"
    )
    sync = (offlineimap, "-o", "-c", settings)
    await run(*sync, home=tmp_path)
    inbox = tmp_path / "mail" / "INBOX"
    near = maildir(inbox)
    assert near.keys() == set(range(60))
    assert near[7].read_bytes().endswith(b"body 7\n")

    flag_file(near[1], "FRS")
    near[2].unlink()
    (inbox / "new" / "500.own").write_bytes(message(500).replace(b"\r\n", b"\n"))
    await fill(site, [600])
    await run(*sync, home=tmp_path)

    far, near = await by_number(site), maildir(inbox)
    assert far.keys() == near.keys() == {*range(60), 500, 600} - {2}
    assert far[1].flags == Flag.SEEN | Flag.FLAGGED | Flag.ANSWERED


# --- mutt and neomutt -----------------------------------------------------------------------


def in_a_terminal(*command: str | Path, home: Path) -> bytes:
    """Run a full-screen program on a terminal of its own; gives what it drew."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        env={**os.environ, "HOME": str(home), "TERM": "vt100", "LC_ALL": "C.UTF-8"},
    )
    os.close(its)
    drawn = b""
    try:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # what Linux says when the other side was closed
                break
            drawn += piece
        assert process.wait(30) == 0, drawn[-2000:]
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return drawn


KEYS = (
    "<tag-pattern>~s number\\ 1$<enter><tag-prefix><flag-message>",
    "<untag-pattern>~A<enter>",
    "<tag-pattern>~s number\\ 3$<enter><tag-prefix><copy-message>{kept}<enter>",
    "<untag-pattern>~A<enter>",
    "<delete-pattern>~b body\\ 4$<enter>",
    "<tag-pattern>~s number\\ 5$<enter><tag-prefix><save-message>=Archive<enter>",
    "<untag-pattern>~A<enter>",
    "<sync-mailbox><quit>",
)


@pytest.mark.parametrize("program", ["mutt", "neomutt"])
@pytest.mark.parametrize("scheme", ["imaps", "imap"])
async def test_mutt_flags_copies_searches_deletes_and_files(
    site: ImapSite, tmp_path: Path, program: str, scheme: str
) -> None:
    mutt = wanted(program)
    await fill(site, range(1, 9))
    kept = tmp_path / "kept"
    keys = "".join(KEYS).format(kept=kept)
    port = site.tls_port if scheme == "imaps" else site.port
    settings = tmp_path / "muttrc"
    settings.write_text(
        f'set folder="{scheme}://localhost:{port}/" spoolfile="+INBOX"\n'
        f'set imap_user="{ALICE}" imap_pass="{SECRET}"\n'
        f'set certificate_file="{site.ca_file}" ssl_force_tls=yes ssl_starttls=yes\n'
        "set sort=mailbox-order quit=yes delete=yes confirmcreate=no confirmappend=no\n"
        "set mark_old=no wait_key=no sleep_time=0 mbox_type=mbox wrap_search=yes\n"
        f'set header_cache="{tmp_path}/cache"\n'
        f"push '{keys}'\n"
    )

    await asyncio.wait_for(
        asyncio.to_thread(in_a_terminal, mutt, "-n", "-F", settings, home=tmp_path), 60
    )

    far = await by_number(site)
    assert sorted(far) == [1, 2, 3, 6, 7, 8]
    assert far[1].flags & Flag.FLAGGED
    assert list(await by_number(site, "Archive")) == [5]
    with closing(mailbox.mbox(kept)) as local:
        assert [each["Subject"] for each in local] == ["number 3"]


# --- fetchmail ------------------------------------------------------------------------------


async def test_fetchmail_takes_the_unseen_away(site: ImapSite, tmp_path: Path) -> None:
    fetchmail = wanted("fetchmail")
    await fill(site, range(1, 21))
    taken = tmp_path / "taken"
    settings = tmp_path / "fetchmailrc"
    settings.write_text(
        f"set no bouncemail\npoll localhost protocol IMAP port {site.tls_port} timeout 30\n"
        f'user "{ALICE}" password "{SECRET}" ssl sslcertck sslcertfile "{site.ca_file}"\n'
        f'fetchall mda "cat >> {taken}"\n'
    )
    settings.chmod(0o600)

    command = (
        fetchmail,
        "-f",
        settings,
        "--pidfile",
        tmp_path / "pid",
        "--nodetach",
        "--nosyslog",
    )
    await run(*command, home=tmp_path)

    assert await entries(site) == []
    for number in range(1, 21):
        assert taken.read_bytes().count(b"Message-ID: <%d@b.test>" % number) == 1
