"""PLAIN and LOGIN: a name and a password, told as they are.

Source: RFC 4616 §2; LOGIN has no RFC: as Outlook and Exchange speak it, also with the name as an
initial response.
"""

from mailserver.sasl.errors import ForbiddenError, MalformedError
from mailserver.sasl.steps import (
    Challenge,
    Claim,
    Mechanism,
    PasswordClaim,
    name,
    same_name,
)


class Plain(Mechanism):
    """PLAIN.

    ``message = [authzid] UTF8NUL authcid UTF8NUL passwd`` (RFC 4616 §2)
    """

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the one message."""
        if response is None:
            return Challenge(b"")
        pieces = response.split(b"\0")
        if len(pieces) != 3:
            raise MalformedError
        authzid = name(pieces[0]) if pieces[0] else ""
        claim = PasswordClaim(name(pieces[1]), name(pieces[2]))
        if not same_name(authzid, claim.login):
            raise ForbiddenError(claim.login)
        return claim


class Login(Mechanism):
    """LOGIN."""

    def __init__(self) -> None:
        self._login = ""

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the name, then the password."""
        if response is None:
            return Challenge(b"Username:")
        if not self._login:
            self._login = name(response)
            return Challenge(b"Password:")
        return PasswordClaim(self._login, name(response))
