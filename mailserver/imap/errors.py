"""What can go wrong between an IMAP client and us.

    ImapError
    ├── FatalWireError            the connection cannot go on: BYE, then close
    │   ├── LineTooLongError
    │   └── LiteralTooLongError
    ├── BadCommandError           the command cannot be read: BAD
    ├── RefusedError              the command was read and is refused: NO [CODE]
    │   └── UnsavedSearchError
    ├── ConnectionGoneError       nobody is there to be answered
    └── StoppingError             the server stops, and this session waited for its client

Texts are fixed: no octet that a client sent ever stands in one.
"""

from enum import Enum


class Code(Enum):
    """Response codes of a tagged NO or BAD. Source: RFC 5530 §3, RFC 9051 §7.1."""

    NONE = ""
    ALREADYEXISTS = "ALREADYEXISTS"
    AUTHENTICATIONFAILED = "AUTHENTICATIONFAILED"
    BADEVENT = "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"
    BADCHARSET = "BADCHARSET (US-ASCII UTF-8)"
    CANNOT = "CANNOT"
    CLIENTBUG = "CLIENTBUG"
    EXPUNGEISSUED = "EXPUNGEISSUED"
    INUSE = "INUSE"
    LIMIT = "LIMIT"
    NONEXISTENT = "NONEXISTENT"
    NOTIFICATIONOVERFLOW = "NOTIFICATIONOVERFLOW"
    NOPERM = "NOPERM"
    OVERQUOTA = "OVERQUOTA"
    PRIVACYREQUIRED = "PRIVACYREQUIRED"
    READ_ONLY = "READ-ONLY"
    SERVERBUG = "SERVERBUG"
    TOOBIG = "TOOBIG"
    TOOFEW = "TOOFEW"
    TOOMANY = "TOOMANY"
    TRYCREATE = "TRYCREATE"
    UIDREQUIRED = "UIDREQUIRED"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN_CTE = "UNKNOWN-CTE"
    USEATTR = "USEATTR"
    COMPRESSIONACTIVE = "COMPRESSIONACTIVE"


class ImapError(Exception):
    """The root of this package's errors."""


class FatalWireError(ImapError):
    """The byte stream cannot be trusted to be in step any more."""


class LineTooLongError(FatalWireError):
    """A line passed its limit before its end was seen."""


class LiteralTooLongError(FatalWireError):
    """A literal that is already on its way is larger than we are willing to read and discard."""


class BadCommandError(ImapError):
    """The command breaks the grammar or comes in the wrong state."""

    def __init__(self, text: str = "Syntax error", code: Code = Code.NONE) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class RefusedError(ImapError):
    """The command was understood and is refused."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class UnsavedSearchError(RefusedError):
    """A search that was to be saved is refused: ``$`` is empty from now on (RFC 5182 §2.1)."""


class ConnectionGoneError(ImapError):
    """The peer closed, or did not take what we wrote in time."""


class StoppingError(ImapError):
    """The server stops; the session was between two commands."""
