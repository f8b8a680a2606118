"""Every command in every state of a connection, against a running server.

Source: RFC 9051 §3, §6.
"""

import pytest

from mailserver.imap.grammar import READERS, read_command, read_tag
from mailserver.imap.machine import ALLOWED, State
from mailserver.imap.wire import RawCommand
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ImapSite, serve

ARGUMENTS = {
    b"AUTHENTICATE": b"PLAIN =",
    b"LOGIN": b"a b",
    b"ID": b"NIL",
    b"ENABLE": b"CONDSTORE",
    b"SELECT": b"INBOX",
    b"EXAMINE": b"INBOX",
    b"CREATE": b"New",
    b"DELETE": b"Gone",
    b"RENAME": b"Archive New",
    b"SUBSCRIBE": b"INBOX",
    b"UNSUBSCRIBE": b"INBOX",
    b"LIST": b'"" %',
    b"LSUB": b'"" %',
    b"COMPRESS": b"DEFLATE",
    b"GETQUOTA": b'""',
    b"GETQUOTAROOT": b"INBOX",
    b"GETACL": b"INBOX",
    b"MYRIGHTS": b"INBOX",
    b"SETACL": b"INBOX bob@chu-a.mssante.test lr",
    b"DELETEACL": b"INBOX bob@chu-a.mssante.test",
    b"LISTRIGHTS": b"INBOX alice@chu-a.mssante.test",
    b"NOTIFY": b"NONE",
    b"STATUS": b"INBOX (MESSAGES)",
    b"APPEND": b"INBOX {3+}\r\nx\r\n",
    b"REPLACE": b"1 INBOX {3+}\r\nx\r\n",
    b"UID REPLACE": b"1 INBOX {3+}\r\nx\r\n",
    b"UID EXPUNGE": b"1",
    b"FETCH": b"1 FLAGS",
    b"UID FETCH": b"1 FLAGS",
    b"STORE": b"1 +FLAGS (x)",
    b"UID STORE": b"1 +FLAGS (x)",
    b"COPY": b"1 Archive",
    b"UID COPY": b"1 Archive",
    b"MOVE": b"1 Archive",
    b"UID MOVE": b"1 Archive",
    b"SEARCH": b"ALL",
    b"UID SEARCH": b"ALL",
    b"ESEARCH": b"IN (personal) ALL",
    b"UIDBATCHES": b"500",
    b"SORT": b"(DATE) UTF-8 ALL",
    b"UID SORT": b"(DATE) UTF-8 ALL",
    b"THREAD": b"REFERENCES UTF-8 ALL",
    b"UID THREAD": b"REFERENCES UTF-8 ALL",
}
STATES = [State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED]


def written(name: bytes) -> bytes:
    return name + (b" " + ARGUMENTS[name] if name in ARGUMENTS else b"")


def kind_of(name: bytes) -> type:
    text, _, literal = written(name).partition(b"}\r\n")
    raw = RawCommand(b"t " + text + (b"}\r\n" if literal else b""), (literal,) if literal else ())
    return type(read_command(read_tag(raw)[1]))


async def in_state(site: ImapSite, state: State) -> ImapPeer:
    if state is State.NOT_AUTHENTICATED:
        return await ImapPeer.connect(site.tls_port, site.client_tls)
    peer = await ImapPeer.login(site)
    if state is State.SELECTED:
        await peer.ok("SELECT INBOX")
    return peer


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
async def test_each_command_is_run_or_refused_as_the_table_says(state):
    refused = set()
    async with serve() as site:
        await site.put(b"Subject: x\r\n\r\ny")
        for name in READERS:
            peer = await in_state(site, state)
            tag = peer.start(written(name))
            if name == b"IDLE" and state is not State.NOT_AUTHENTICATED:
                assert (await peer.line()).startswith(b"+")
                peer.send(b"DONE\r\n")
            _, reply = await peer.until(tag)
            if reply.startswith(b"BAD Not in this state"):
                refused.add(name)
            await peer.close()

    assert refused == {name for name in READERS if kind_of(name) not in ALLOWED[state]}


async def test_after_logout_nothing_is_read():
    async with serve() as site:
        for name in READERS:
            peer = await ImapPeer.login(site)
            peer.send(b"a LOGOUT\r\nb " + written(name) + b"\r\n")
            said = await peer.eof()
            assert said.startswith(b"* BYE")
            assert said.splitlines()[-1].startswith(b"a OK")
