"""SMTP's readers on any bytes.

The scanner agrees with a slow one that reads octet by octet, however the stream is cut.
A command line is read, refused with a reply, or ends the connection; nothing else happens.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.outbound.client import stuffed
from mailserver.smtp.address import Extensions, PathError, is_helo_name, parse_mail, parse_rcpt
from mailserver.smtp.conversation import Hangup, _split
from mailserver.smtp.data import DataFault, DataLimits, DataScanner

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\0", b"\r\n.\r\n", b"x" * 40]),
    max_size=40,
).map(b"".join)
LIMITS = DataLimits(message_octets=200)


def slow(stream: bytes) -> tuple[bytes | None, bytes, DataFault | None] | None:
    """Find the end by the definition, judge the message by its lines."""
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")
    if end < 0:
        return None
    wire, rest = stream[:end], stream[end + 3 :]
    bare = wire.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare or b"\0" in bare:
        return None, rest, DataFault.BARE_CONTROL
    lines = wire.split(b"\r\n")[:-1]
    clean = [line[1:] if line.startswith(b".") else line for line in lines]
    message = b"".join(line + b"\r\n" for line in clean)
    if len(message) > LIMITS.message_octets:
        return None, rest, DataFault.TOO_BIG
    return message, rest, None


@settings(max_examples=400, deadline=None)
@given(PIECES, st.lists(st.integers(1, 12), max_size=60))
def test_the_scanner_agrees_with_the_definition(stream: bytes, cuts: list[int]) -> None:
    scanner = DataScanner(LIMITS)
    out, position = b"", 0
    for size in [*cuts, len(stream) + 1]:
        piece, position = stream[position : position + size], position + size
        if piece and not scanner.done:
            out += scanner.feed(piece)
            rest_at = position
    expected = slow(stream)

    assert scanner.done is (expected is not None)
    if expected is not None:
        message, rest, fault = expected
        assert scanner.fault is fault
        assert scanner.rest + stream[min(rest_at, len(stream)) :] == rest
        if message is not None:
            assert (out, scanner.octets) == (message, len(message))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20).map(lambda b: b.translate(None, b"\r\n\0")), max_size=20))
def test_what_the_client_stuffs_the_scanner_gives_back(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    scanner = DataScanner(DataLimits(10_000))

    assert scanner.feed(stuffed(message)) == (message or b"")
    assert (scanner.done, scanner.fault, scanner.rest) == (True, None, b"")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    try:
        verb, argument = _split(line)
    except (PathError, Hangup):
        return
    assert verb == verb.upper()
    assert argument.isascii()


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet='<>@:." ,=%!abcSIZEBODY019\\[]', max_size=60),
    st.sampled_from(["FROM:", "FROM:<", "TO:<", ""]),
)
def test_any_argument_is_read_or_refused(text: str, start: str) -> None:
    for parse in (lambda a: parse_mail(a, Extensions(1000, auth=True)), parse_rcpt):
        try:
            parse(start + text)
        except PathError as error:
            assert error.reply.code >= 500  # noqa: PT017
    is_helo_name(text)
