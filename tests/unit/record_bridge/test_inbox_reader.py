"""The bridge's reading of IMAP: the same responses whole, byte by byte, and cut anywhere.

Source: RFC 3501 §7, RFC 2177 §3.
"""

import asyncio
import random
from collections.abc import Iterator

import pytest
from aioimaplib import aioimaplib as library

from record_bridge.inbox import MAX_LINE_OCTETS, MAX_LITERAL_OCTETS, ClientProtocol, Listed
from record_bridge.watcher import batches

BODY = b"Subject: x\r\n\r\nZZ) {3}\r\n* 9 FETCH (UID 9)\r\nT0 OK no\r\n"
STREAM = (
    b"* 3 EXISTS\r\n"
    b"* 1 FETCH (UID 4 BODY[] {%d}\r\n%b)\r\n"
    b"* 2 FETCH (BODY[] {0}\r\n UID 5)\r\n"
    b"* OK still here\r\n"
    b"* 3 FETCH (UID 6 BODY[] {2}\r\nab FLAGS ())\r\n" % (len(BODY), BODY)
)


class _Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


def _cuts(data: bytes, how: str) -> Iterator[bytes]:
    if how == "whole":
        yield data
    elif how == "bytes":
        yield from (data[at : at + 1] for at in range(len(data)))
    else:
        chance = random.Random(int(how))
        at = 0
        while at < len(data):
            size = chance.randint(1, 40)
            yield data[at : at + size]
            at += size


async def _read(how: str) -> tuple[list[bytes], ClientProtocol]:
    protocol = ClientProtocol(asyncio.get_running_loop())
    protocol.transport = _Transport()
    protocol.state = library.SELECTED
    command = library.FetchCommand("T1", "1:*", "(UID BODY.PEEK[])", prefix="UID")
    protocol.pending_async_commands["FETCH"] = command
    for piece in _cuts(STREAM + b"T1 OK done\r\n", how):
        protocol.data_received(piece)
    assert command._event.is_set()
    return [bytes(part) for part in command.response.lines], protocol


@pytest.mark.parametrize("how", ["bytes", *map(str, range(25))])
async def test_responses_are_the_same_however_they_are_cut(how: str) -> None:
    expected, _ = await _read("whole")

    found, protocol = await _read(how)

    assert found == expected
    assert BODY in found
    assert protocol.activity.is_set()


async def test_ten_thousand_lines_in_one_chunk_are_read() -> None:
    protocol = ClientProtocol(asyncio.get_running_loop())
    protocol.state = library.SELECTED
    command = library.FetchCommand("T1", "1:*", "(UID)", prefix="UID")
    protocol.pending_async_commands["FETCH"] = command
    lines = b"".join(b"* %d FETCH (UID %d)\r\n" % (n, n) for n in range(1, 10_001))

    protocol.data_received(lines + b"T1 OK done\r\n")

    assert len(command.response.lines) == 10_001


@pytest.mark.parametrize(
    ("data", "aborted"),
    [
        pytest.param(b"* 1 FETCH (BODY[] {%d}\r\n" % MAX_LITERAL_OCTETS, False, id="at"),
        pytest.param(b"* 1 FETCH (BODY[] {%d}\r\n" % (MAX_LITERAL_OCTETS + 1), True, id="over"),
        pytest.param(b"* 1 FETCH (BODY[] {9999999999}\r\n", True, id="far over"),
        pytest.param(b"x" * MAX_LINE_OCTETS, False, id="line at"),
        pytest.param(b"x" * (MAX_LINE_OCTETS + 1), True, id="line over"),
    ],
)
async def test_what_is_too_long_ends_the_connection(data: bytes, *, aborted: bool) -> None:
    protocol = ClientProtocol(asyncio.get_running_loop())
    transport = _Transport()
    protocol.transport = transport
    protocol.state = library.SELECTED

    protocol.data_received(data)

    assert transport.aborted is aborted


async def test_a_lost_connection_wakes_who_waits() -> None:
    protocol = ClientProtocol(asyncio.get_running_loop())
    command = library.Command("STORE", "T1", untagged_resp_name="FETCH")
    protocol.pending_async_commands["FETCH"] = command

    protocol.connection_lost(None)

    with pytest.raises(library.Abort):
        await command.wait()
    assert protocol.activity.is_set()


async def test_a_command_on_a_lost_connection_fails_at_once() -> None:
    protocol = ClientProtocol(asyncio.get_running_loop())
    protocol.state = library.SELECTED
    protocol.connection_lost(None)

    with pytest.raises(library.Abort):
        async with asyncio.timeout(1):
            await protocol.execute(library.Command("STORE", "T1", untagged_resp_name="FETCH"))


def test_batches_are_bound_by_number_and_by_octets() -> None:
    small = [Listed(uid, 10) for uid in range(1, 70)]
    large = [Listed(1, 10), Listed(2, 16 * 1024 * 1024), Listed(3, 10)]

    assert [len(batch) for batch in batches(small)] == [32, 32, 5]
    assert [[each.uid for each in batch] for batch in batches(large)] == [[1], [2], [3]]
    assert list(batches([])) == []
