"""Plays a conversation written in a text file against a server, line by line.

    # a comment
    @ deliver NAME           the test's hook does something, e.g. stores a message
    C: a NOOP                what the client sends, CRLF added; C2: for a second connection
    S: a OK <<.*>>           the next line must match; <<...>> is a regular expression

Every response line must be written down: one that is not expected fails at its place.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tests.support.imap_peer import ImapPeer

_STEP = re.compile(r"(?P<side>[CS])(?P<number>\d?): ?(?P<text>.*)\Z")
Hook = Callable[[str], Awaitable[None]]


class TranscriptError(AssertionError):
    """The server said something else."""


def pattern(text: str) -> re.Pattern[bytes]:
    """Compile an expected line."""
    parts = re.split(r"<<(.*?)>>", text)
    joined = "".join(part if at % 2 else re.escape(part) for at, part in enumerate(parts))
    return re.compile(joined.encode() + rb"\r\n\Z", re.DOTALL)


async def play(file: Path, peers: Mapping[str, ImapPeer], hook: Hook) -> None:
    """Play a file; ``peers`` by their number, "" being the first."""
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("@ "):
            await hook(line[2:])
            continue
        step = _STEP.match(line)
        if step is None:
            raise TranscriptError(f"{file.name}:{number}: not a step")
        peer = peers[step["number"]]
        if step["side"] == "C":
            peer.send(step["text"].encode() + b"\r\n")
            continue
        said = await peer.raw_line()
        if pattern(step["text"]).match(said) is None:
            raise TranscriptError(f"{file.name}:{number}: expected {step['text']!r}, got {said!r}")
