"""HL7's Minimal Lower Layer Protocol: messages on a stream of octets; pure.

A block is ``0x0B message 0x1C 0x0D``. Octets between blocks are no message of anybody's: they are
an error, never skipped.

Source: HL7, Transport Specification: MLLP, release 1.
"""

from typing import Final

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Hl7Code

START: Final = b"\x0b"
END: Final = b"\x1c\r"


def block(message: bytes) -> bytes:
    """Give a message as it goes over the wire."""
    return START + message + END


class Blocks:
    """Takes octets as they come, gives whole messages.

    Args:
        limit: the most octets a message may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()

    @property
    def amid(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._held)

    def feed(self, octets: bytes) -> list[bytes]:
        """Take octets; give the messages they complete, in order.

        Raises:
            MalformedHl7Error: octets outside a block, or a message over the limit.
        """
        looked = max(0, len(self._held) - 1)
        self._held += octets
        found: list[bytes] = []
        while self._held:
            if self._held[0] != START[0]:
                raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "octets outside a block")
            end = self._held.find(END, looked)
            if end - 1 > self._limit or (end < 0 and len(self._held) - 2 > self._limit):
                raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "too large")
            if end < 0:
                break
            found.append(bytes(self._held[1:end]))
            del self._held[: end + len(END)]
            looked = 0
        return found
