"""How an exchange can end without a claim that somebody could grant.

    SaslError
    ├── MalformedError            not base64, too long or not of its mechanism's shape
    ├── AbortedError              the client cancelled
    ├── UnknownMechanismError     no such mechanism here, or not on this connection
    └── ForbiddenError            well formed, and granted to nobody: it counts as a wrong login

Texts are fixed: no octet that a client sent ever stands in one.
"""


class SaslError(Exception):
    """The root of this package's errors."""


class MalformedError(SaslError):
    """A response cannot be read."""

    def __init__(self) -> None:
        super().__init__("not a well-formed response")


class AbortedError(SaslError):
    """The client sent the one line that cancels."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class UnknownMechanismError(SaslError):
    """The mechanism is not offered on this connection."""

    def __init__(self) -> None:
        super().__init__("mechanism not offered")


class ForbiddenError(SaslError):
    """It asks for what no secret opens: another's name, a weaker channel than was offered.

    Attributes:
        login: whom it spoke for; never printed.
    """

    def __init__(self, login: str) -> None:
        super().__init__("refused whatever the secret")
        self.login = login
