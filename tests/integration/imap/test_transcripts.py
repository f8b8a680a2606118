"""Conversations as written down in tests/transcripts, against a running server.

The clients without a number and 2 are logged in, 3 is not (``@ open``, then ``@ tls``).

Source: RFC 2177 §3, RFC 2342 §5, RFC 3691 §2, RFC 4315 §3,
RFC 5032 §3, RFC 5182 §2.1, RFC 5256 §3, RFC 5258 §3, RFC 5267 §3.1, RFC 5530 §3, RFC 5819 §2,
RFC 5957 §3, RFC 6154 §2, §3, RFC 6851 §3, RFC 6855 §3, RFC 7162 §3.1, §3.2, RFC 9051 §6.3.2, §6.4.4.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from mailserver.store.model import Flag
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, AT, serve
from tests.support.transcript import play

FILES = sorted((Path(__file__).parents[2] / "transcripts" / "imap").glob("*.txt"))
MESSAGE = (
    b"From: Alice <alice@chu-a.mssante.test>\r\nTo: bob@chu-a.mssante.test\r\n"
    b"Subject: hello\r\nDate: Mon, 2 Mar 2026 10:00:00 +0100\r\n"
    b"Message-ID: <1@chu-a.mssante.test>\r\n\r\nHello you.\r\n"
)


def letter(hours: int, facts: str) -> bytes:
    """A message of so many hours; facts: From|Subject|Message-ID|References|Cc.

    The one that came last was sent first.
    """
    names = ("From", "Subject", "Message-ID", "References", "Cc")
    said = [
        f"{name}: {value}" for name, value in zip(names, facts.split("|"), strict=True) if value
    ]
    said.append(f"Date: Mon, 2 Mar 2026 0{hours}:00:00 +0000")
    return "\r\n".join((*said, "", "text")).encode()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_the_conversation_goes_as_written(file):
    async with serve() as site:
        peers = {"": await ImapPeer.login(site), "2": await ImapPeer.login(site, ALICE)}

        async def hook(action: str) -> None:
            word, _, rest = action.partition(" ")
            if word == "letter":
                hours, facts = rest.split(" ", 1)
                await site.put(letter(int(hours), facts), at=AT - timedelta(hours=int(hours)))
            elif word == "open":
                peers["3"] = await ImapPeer.connect(site.port)
            elif word == "tls":
                await peers["3"].writer.start_tls(site.client_tls, server_hostname="localhost")
            else:
                await site.put(MESSAGE, flags=Flag.SEEN if rest == "seen" else Flag(0))

        await play(file, peers, hook)
        for peer in peers.values():
            await peer.close()


def test_there_are_conversations():
    assert len(FILES) >= 8
