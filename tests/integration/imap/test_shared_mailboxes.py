"""Mailboxes of a team: who sees and does what, over IMAP.

Source: RFC 4314 §2.1, §2.1.1, §3.1, §3.2, §3.3, §3.4, §3.5, §4, §5.2; RFC 2342 §5; RFC 8440 §3;
RFC 9208 §4.1.2; RULES §13.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from mailserver.imap import commands as c
from mailserver.imap.machine import ALLOWED, State
from mailserver.imap.permissions import NAMED, OPEN
from mailserver.store.model import Flag, NewDevice, NewMailbox
from mailserver.store.rights import ALL, LETTERS
from mailserver.store.rights import RightsMode as Mode
from mailserver.store.sharing import FolderWord
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, AT, BOB, SECRET, ImapSite, serve

DESK = "accueil@chu-a.mssante.test"
INBOX = f'"Other Users/{DESK}/INBOX"'
EVENT = AuditEvent("test", AT, "cli:test")
RAW = b"From: <x@y.test>\r\nSubject: s\r\nMessage-ID: <1@y.test>\r\n\r\ntext\r\n"


@pytest.fixture
async def site() -> AsyncIterator[ImapSite]:
    async with serve() as opened:
        desk = await opened.store.accounts.add_mailbox(
            NewMailbox(DESK, MailboxType.ORG, "chu-a", "Accueil", None, False, AT)
        )
        opened.mailboxes = {**opened.mailboxes, DESK: desk}
        for flags in (Flag(0), Flag.DELETED):
            await opened.put(RAW, address=DESK, flags=flags)
        try:
            yield opened
        finally:
            while _PEERS:
                await _PEERS.pop().close()


_PEERS: list[ImapPeer] = []
"""Open clients; the site closes what a test left open."""


async def enter(site: ImapSite, address: str = ALICE) -> ImapPeer:
    """Log in."""
    _PEERS.append(await ImapPeer.login(site, address))
    return _PEERS[-1]


async def share(site: ImapSite, rights: str, person: str = ALICE) -> None:
    """Let a person into the desk's mailbox."""
    ids = [site.mailboxes[each].id for each in (DESK, person)]
    await site.store.sharing.share(ids[0], ids[1], frozenset(rights), EVENT)


async def said(peer: ImapPeer, command: str) -> str:
    """Run a command; give the start of its tagged reply."""
    _, reply = await peer.do(command)
    return " ".join(reply.decode().split()[:2]).rstrip("]")


def events(site: ImapSite, kind: str) -> list[str]:
    """Give who did a thing, as the trail says it."""
    with closing(sqlite3.connect(site.path / "mail.sqlite3")) as connection:
        rows = connection.execute("SELECT actor FROM trail_event WHERE kind = ?", (kind,))
        return [row[0] for row in rows.fetchall()]


def test_every_command_on_folders_has_its_row() -> None:
    after = ALLOWED[State.SELECTED] - ALLOWED[State.AUTHENTICATED]

    assert set(OPEN) == after
    with_name = {kind for kind in ALLOWED[State.SELECTED] if "mailbox" in kind.__annotations__}
    assert with_name - {c.Create} <= set(NAMED) | {c.Append}
    assert set(NAMED) <= ALLOWED[State.SELECTED]


NEEDED = {
    "SELECT {inbox}": "r",
    "EXAMINE {inbox}": "r",
    "STATUS {inbox} (MESSAGES)": "r",
    "GETQUOTAROOT {inbox}": "r",
    "SUBSCRIBE {inbox}": "l|r",
    "UNSUBSCRIBE {inbox}": "",
    "GETACL {inbox}": "a",
    "LISTRIGHTS {inbox} bob@chu-a.mssante.test": "a",
    "SETACL {inbox} bob@chu-a.mssante.test lr": "a",
    "DELETEACL {inbox} bob@chu-a.mssante.test": "a",
    "MYRIGHTS {inbox}": "l|r|i|k|x|a",
    'CREATE "Other Users/{desk}/Neuf"': "k",
    'DELETE "Other Users/{desk}/Vieux"': "xte",
    'RENAME "Other Users/{desk}/Vieux" "Other Users/{desk}/Autre"': "xk",
    "APPEND {inbox} {{3+}}\r\nx: ": "i",
    "open FETCH 1 (FLAGS)": "r",
    "open FETCH 1 (BODY[])": "r",
    "open SEARCH ALL": "r",
    "open UID SEARCH TEXT text": "r",
    "open SORT (DATE) UTF-8 ALL": "r",
    "open THREAD REFERENCES UTF-8 ALL": "r",
    "open STORE 1 +FLAGS (\\Seen)": "s",
    "open STORE 1 +FLAGS (\\Deleted)": "t",
    "open STORE 1 +FLAGS (\\Answered)": "w",
    "open STORE 1 +FLAGS ($Label1)": "w",
    "open EXPUNGE": "e",
    "open COPY 1 INBOX": "r",
    'open COPY 1 "Other Users/{desk}/Vieux"': "ri",
    "open MOVE 1 INBOX": "rte",
    "open CLOSE": "",
}
"""command -> rights it needs: all of them, or one of those between bars; ``open`` is in a folder."""


def enough(needed: str, rights: frozenset[str]) -> bool:
    if "|" in needed:
        return bool(set(needed.split("|")) & rights)
    return set(needed) <= rights


@pytest.mark.parametrize("pattern", NEEDED, ids=lambda text: text.split(" {")[0][:40])
async def test_command_by_command_and_right_by_right(site: ImapSite, pattern: str) -> None:
    desk = site.mailboxes[DESK]
    needed, in_folder = NEEDED[pattern], pattern.startswith("open ")
    command = pattern.removeprefix("open ").format(inbox=INBOX, desk=DESK)
    told: dict[str, bool] = {}
    for letter in LETTERS:
        await share(site, LETTERS)
        if await site.store.folders.get(desk.id, "Vieux") is None:
            await site.store.folders.create(desk.id, "Vieux")
        for name in ("Neuf", "Autre"):
            if await site.store.folders.get(desk.id, name) is not None:
                await site.store.folders.delete(desk.id, name)
        peer = await enter(site)
        if in_folder:
            await site.put(RAW, address=DESK)
            await peer.ok(f"SELECT {INBOX}")
        await share(site, LETTERS.replace(letter, ""))
        reply = await said(peer, command)
        told[letter] = reply.startswith("OK")
        if not told[letter]:
            assert reply == "NO [NOPERM", letter

    assert told == {letter: enough(needed, ALL - {letter}) for letter in LETTERS}


@pytest.mark.parametrize(
    "pattern", [each for each in NEEDED if "open" not in each and "UNSUB" not in each]
)
async def test_without_any_right_the_folder_does_not_exist(site: ImapSite, pattern: str) -> None:
    peer = await enter(site)
    there = pattern.format(inbox=INBOX, desk=DESK)
    nowhere = there.replace(DESK, "rien@chu-a.mssante.test")

    for rights in (None, "", "p"):
        if rights is not None:
            await share(site, rights)
        if pattern.startswith("CREATE"):
            continue
        first, second = await peer.do(there), await peer.do(nowhere)
        assert first[1] == second[1], rights
        assert first[1].startswith(b"NO [")
    assert await peer.ok('LIST "" "Other*"') == []


async def test_the_namespace_and_the_folders_are_listed(site: ImapSite) -> None:
    await share(site, "lr")
    peer = await enter(site)

    assert await peer.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL\r\n']
    listed = await peer.ok(f'LIST "" "Other Users/{DESK}/%"')
    assert b"".join(listed).count(b"* LIST (") == 6
    assert not any(b"\\Sent" in line for line in listed)
    assert any(b"Sent" in line for line in listed)
    levels = await peer.ok('LIST "" "Other Users"')
    assert levels == [b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" "Other Users"\r\n']
    lines = await peer.ok(f'LIST "" {INBOX} RETURN (MYRIGHTS STATUS (MESSAGES))')
    assert lines[1:] == [
        f"* STATUS {INBOX} (MESSAGES 2)\r\n".encode(),
        f"* MYRIGHTS {INBOX} lr\r\n".encode(),
    ]
    assert await peer.ok('LSUB "" "Other*"') == []
    await peer.ok(f"SUBSCRIBE {INBOX}")
    assert await peer.ok('LSUB "" "Other*"') == [f'* LSUB () "/" {INBOX}\r\n'.encode()]
    other = await enter(site, BOB)
    assert await other.ok('LSUB "" "Other*"') == []


async def test_the_rights_are_shown_and_changed(site: ImapSite) -> None:
    await share(site, LETTERS)
    peer = await enter(site)
    bob = await enter(site, BOB)
    assert await said(bob, f"STATUS {INBOX} (MESSAGES)") == "NO [NONEXISTENT"

    await peer.ok(f"SETACL {INBOX} {BOB} lrs")
    await peer.ok(f"SETACL {INBOX} {BOB} +i")
    await peer.ok(f"SETACL {INBOX} {BOB} -s")

    assert await peer.ok(f"GETACL {INBOX}") == [
        f'* ACL {INBOX} "{ALICE}" lrswipkxteacd "{BOB}" lri\r\n'.encode()
    ]
    assert await bob.ok(f"MYRIGHTS {INBOX}") == [f"* MYRIGHTS {INBOX} lri\r\n".encode()]
    assert await peer.ok(f"LISTRIGHTS {INBOX} {BOB}") == [
        f'* LISTRIGHTS {INBOX} "{BOB}" "" l r s w i p k x t e a c d\r\n'.encode()
    ]
    assert await said(bob, f"GETACL {INBOX}") == "NO [NOPERM"
    await peer.ok(f"DELETEACL {INBOX} {BOB}")
    assert await said(bob, f"MYRIGHTS {INBOX}") == "NO [NONEXISTENT"
    assert len(events(site, "folder_shared")) == 4


async def test_rights_go_to_people_of_the_structure_only(site: ImapSite) -> None:
    await share(site, LETTERS)
    peer = await enter(site)
    patient = await site.store.accounts.add_mailbox(
        NewMailbox("1@p.test", MailboxType.PAT, "chu-a", "", None, True, AT)
    )
    stranger = await site.store.accounts.add_mailbox(
        NewMailbox("dr@b.test", MailboxType.PER, "b", "", None, True, AT)
    )
    names = (patient.address, stranger.address, DESK, "anyone", "nobody@x.test", "\u00e9")
    replies = {(await peer.do(f'SETACL {INBOX} "{name}" lr'.encode()))[1] for name in names}

    assert replies == {b"NO [CANNOT] Nobody here can be given rights under this name\r\n"}
    assert await said(peer, f"SETACL {INBOX} -{BOB} lr") == "BAD Negative"
    assert await said(peer, f"SETACL {INBOX} {BOB} lrz") == "BAD Unknown"
    assert await said(peer, f"SETACL INBOX {BOB} lr") == "NO [CANNOT"
    assert await peer.ok("GETACL INBOX") == [f'* ACL INBOX "{ALICE}" lrswipkxteacd\r\n'.encode()]


async def test_a_readers_folder_opens_read_only(site: ImapSite) -> None:
    await share(site, "lr")
    peer = await enter(site)

    lines, reply = await peer.do(f"SELECT {INBOX}")

    assert reply.startswith(b"OK [READ-ONLY]")
    assert any(b"PERMANENTFLAGS ()" in line for line in lines)
    await share(site, "lrs")
    lines, reply = await peer.do(f"SELECT {INBOX}")
    assert reply.startswith(b"OK [READ-WRITE]")
    assert any(b"PERMANENTFLAGS (\\Seen)" in line for line in lines)
    await peer.ok("STORE 1 FLAGS (\\Seen \\Deleted $x)")
    assert await peer.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Seen))\r\n"]


async def test_what_one_reads_and_answers_the_others_see_at_once_and_the_trail_keeps(
    site: ImapSite,
) -> None:
    for person in (ALICE, BOB):
        await share(site, "lrswite", person)
    alice, bob = await enter(site), await enter(site, BOB)
    for peer in (alice, bob):
        await peer.ok(f"SELECT {INBOX}")
    tag = bob.start("IDLE")
    await bob.line()

    await alice.ok("FETCH 1 BODY[]")
    assert b"\\Seen" in await bob.line()
    await alice.ok("STORE 1 +FLAGS (\\Answered)")
    assert b"\\Answered" in await bob.line()
    await site.put(RAW, address=DESK)
    assert await bob.line() == b"* 3 EXISTS\r\n"

    bob.send(b"DONE\r\n")
    await bob.until(tag)
    actor = f"mailbox:{site.alice.id}"
    assert events(site, "imap_read") == events(site, "imap_answered") == [actor]


async def test_who_is_put_out_loses_the_open_folder_at_once(site: ImapSite) -> None:
    await share(site, LETTERS)
    peer = await enter(site)
    await peer.ok(f"SELECT {INBOX}")
    peer.start("IDLE")
    await peer.line()

    ids = [site.mailboxes[each].id for each in (DESK, ALICE)]
    await site.store.sharing.unshare(ids[0], ids[1], EVENT)

    assert await asyncio.wait_for(peer.line(), 5) == b"* BYE The mailbox is gone\r\n"


async def test_a_password_of_the_teams_mailbox_is_its_holders(site: ImapSite) -> None:
    desk = site.mailboxes[DESK]
    await share(site, "lrs")
    await site.store.accounts.add_device(
        NewDevice(desk.id, "poste", AT, None, site.alice.id), SECRET
    )
    sent = await site.store.folders.get(desk.id, "Sent")
    assert sent is not None
    word = FolderWord(sent.id, site.alice.id, Mode.REPLACE, frozenset())
    await site.store.sharing.set_word(word, EVENT)
    peer = await enter(site, DESK)

    assert await peer.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL NIL\r\n']
    names = b"".join(await peer.ok('LIST "" *'))
    assert b"INBOX" in names
    assert b"Sent" not in names
    assert await said(peer, "SELECT Sent") == "NO [NONEXISTENT"
    assert await said(peer, "CREATE Neuf") == "NO [NOPERM"
    assert await said(peer, f'SELECT "Other Users/{DESK}/INBOX"') == "NO [NONEXISTENT"
    await peer.ok("SELECT INBOX")
    await peer.ok("FETCH 1 BODY[]")
    assert await said(peer, "EXPUNGE") == "NO [NOPERM"
    actor = f"mailbox:{site.alice.id}"
    assert events(site, "imap_read") == [actor]
    assert events(site, "imap_login")[-1:] in ([actor], [])


async def test_what_is_taken_out_of_a_teams_mailbox_is_in_its_trail_and_counts(
    site: ImapSite,
) -> None:
    await share(site, LETTERS)
    peer = await enter(site)
    await peer.ok(f"SELECT {INBOX}")
    await peer.ok("COPY 1 INBOX")
    await peer.ok("MOVE 1 INBOX")

    actor = f"mailbox:{site.alice.id}"
    assert events(site, "imap_copied") == events(site, "imap_moved") == [actor]
    used = [
        (await site.store.messages.usage(site.mailboxes[each].id)).messages
        for each in (DESK, ALICE)
    ]
    assert used == [1, 2]
    assert await peer.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 2)\r\n"]


async def test_the_namespace_is_not_ones_own(site: ImapSite) -> None:
    peer = await enter(site)

    for name in ("Other Users", f"Other Users/{DESK}", "Other Users/x"):
        assert await said(peer, f'CREATE "{name}"') == "NO [CANNOT"
    await peer.ok("CREATE Anciens")
    assert await said(peer, 'RENAME Anciens "Other Users/x"') == "NO [CANNOT"


@pytest.mark.parametrize("how", ["EXPUNGE", "CLOSE", "UID EXPUNGE 2"])
async def test_what_one_of_a_team_takes_away_is_in_the_trail(site: ImapSite, how: str) -> None:
    await share(site, "lrste")
    peer = await enter(site)
    await peer.ok(f"SELECT {INBOX}")

    await peer.ok(how)

    assert events(site, "imap_expunged") == [f"mailbox:{site.alice.id}"]
    own = await enter(site, BOB)
    await site.put(RAW, address=BOB, flags=Flag.DELETED)
    await own.ok("SELECT INBOX")
    await own.ok("EXPUNGE")
    assert len(events(site, "imap_expunged")) == 1


async def test_a_folder_that_one_of_a_team_deletes_is_in_the_trail(site: ImapSite) -> None:
    await share(site, "lrswitekx")
    await site.store.folders.create(site.mailboxes[DESK].id, "Archives")
    peer = await enter(site)
    assert await said(peer, f'DELETE "Other Users/{DESK}/Sent"') == "NO [CANNOT"
    assert events(site, "folder_deleted") == []

    await peer.ok(f'DELETE "Other Users/{DESK}/Archives"')

    assert events(site, "folder_deleted") == [f"mailbox:{site.alice.id}"]
