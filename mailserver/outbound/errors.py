"""What can go wrong when a message is handed to another server.

SendError
├── UnreachableError   nobody answers, or the connection ended in the middle
├── TlsError           no STARTTLS, a handshake that fails, octets before the handshake
├── PeerReplyError     an answer that is not SMTP
├── LookupFailedError  DNS does not answer
└── NoMailError        the domain takes no mail

Texts are fixed; what the peer said is a fact of a ``ServerReply``, never of an exception.
"""


class SendError(Exception):
    """Root: the message was not handed over, or it is not known that it was."""


class UnreachableError(SendError):
    """Nobody answers, or the connection ended in the middle."""

    def __init__(self) -> None:
        super().__init__("the server cannot be reached")


class TlsError(SendError):
    """There is no TLS to be had, so nothing is sent."""

    def __init__(self) -> None:
        super().__init__("no mutual TLS with the server")


class PeerReplyError(SendError):
    """The server answers something that is not SMTP."""

    def __init__(self) -> None:
        super().__init__("the server does not answer as an SMTP server does")


class LookupFailedError(SendError):
    """DNS does not answer, or answers without an address."""

    def __init__(self) -> None:
        super().__init__("the servers of the domain cannot be looked up")


class NoMailError(SendError):
    """The domain takes no mail; ``reply`` is what its sender is told."""

    def __init__(self, reply: str) -> None:
        super().__init__("the domain takes no mail")
        self.reply = reply
