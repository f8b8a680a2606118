"""What can go wrong in the server's shell; the packages below have trees of their own.

MailServerError
├── SettingsError       the site's settings cannot be used; the text says what to do
├── SiteError           a site cannot be made or opened; the text says what to do
├── CommandError        a command was refused; ``code`` is stable, the text is for the person
└── RelayError          a notification was not taken; ``refused`` says that it never will be
"""


class MailServerError(Exception):
    """Root of the shell's errors."""


class SettingsError(MailServerError):
    """The site's settings cannot be used."""


class SiteError(MailServerError):
    """A site cannot be made or opened."""


class CommandError(MailServerError):
    """A command was refused.

    Args:
        code: a stable word for programs, such as ``exists``.
        text: one sentence for the person, with what to do; never personal data.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class RelayError(MailServerError):
    """The relay of notifications did not take one.

    Attributes:
        refused: it refused the recipient for good.
        reply: its code, 0 without one.
    """

    def __init__(self, *, refused: bool = False, reply: int = 0) -> None:
        super().__init__("the relay did not take the message")
        self.refused = refused
        self.reply = reply


class DavRequestError(MailServerError):
    """A request of a calendar client is not one that can be answered.

    Attributes:
        reason: a constant of this program.
        precondition: the XML element that says so, in Clark notation; "" for none.
    """

    def __init__(self, reason: str, precondition: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.precondition = precondition

    def __str__(self) -> str:
        return f"the calendar request cannot be answered: {self.reason}"
