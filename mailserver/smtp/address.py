"""Read what follows MAIL FROM: and RCPT TO:, strictly.

An address here is what authority is judged on, so it is the strict one of ``certs.addresses``:
nothing that two servers could read as two mailboxes passes. Each refusal knows the reply that
tells it. An address outside ASCII needs the SMTPUTF8 of its MAIL; its domain is kept as A-labels.
Not supported on purpose: source routes (RFC 5321 appendix F.2 lets us refuse them), domain
literals, addresses without their angle brackets.

Source: RFC 5321 §4.1.2, RFC 5321 §4.1.1.2, RFC 5321 §4.1.1.3, RFC 1870 §3, RFC 6152 §3,
RFC 3461 §4, RFC 6531 §3.4, RFC 8689 §3.
"""

from dataclasses import dataclass
from enum import Enum

from certs.addresses import Address, parse_domain, parse_utf8_addr_spec
from certs.errors import MalformedAddressError
from mailserver.delivery.errors import Reply
from mailserver.message.envelope import (
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    POSTMASTER,
    EnvelopeError,
    MailOptions,
    RecipientOptions,
    parse_mail_options,
    parse_recipient_options,
    parse_submitter,
)
from mailserver.smtp import replies

MAX_SIZE_DIGITS = 20  # RFC 1870 §3
MAX_PARAMETERS = 10


class PathError(ValueError):
    """A path or its parameters cannot be taken; ``reply`` is what to tell the peer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("the command's arguments cannot be taken")
        self.reply = reply


class BodyType(Enum):
    """What the client says of the content. Source: RFC 6152 §3."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@dataclass(frozen=True, slots=True)
class MailCommand:
    """MAIL FROM; ``reverse_path`` is None for the null sender, ``size`` is what is announced."""

    reverse_path: Address | None
    size: int | None
    body: BodyType
    options: MailOptions = PLAIN_MAIL

    @property
    def wire_path(self) -> str:
        """The reverse path as it is kept: '<>' for the null sender."""
        return "<>" if self.reverse_path is None else self.reverse_path.text


@dataclass(frozen=True, slots=True)
class BarePostmaster:
    """RCPT TO:<postmaster>, without a domain. Source: RFC 5321 §4.5.1."""


@dataclass(frozen=True, slots=True)
class RcptCommand:
    """RCPT TO."""

    forward_path: Address | BarePostmaster
    options: RecipientOptions = PLAIN_RECIPIENT


@dataclass(frozen=True, slots=True)
class Extensions:
    """Which parameters of MAIL this listener takes beside BODY, RET, ENVID and SMTPUTF8.

    Args:
        size_limit: the SIZE announced.
        auth: AUTH=... is taken and not believed. Source: RFC 4954 §5.
        require_tls: REQUIRETLS is offered: TLS stands. Source: RFC 8689 §3.
    """

    size_limit: int
    auth: bool
    require_tls: bool = False


def parse_mail(argument: str, extensions: Extensions) -> MailCommand:
    """Read ``FROM:<path> [parameters]``.

    Raises:
        PathError: with the reply to give.
    """
    path, parameters = _split(argument, "FROM:")
    size: int | None = None
    body = BodyType.SEVEN_BIT
    for name, value in parameters.items():
        match name:
            case "SIZE":
                size = _size(value, extensions.size_limit)
            case "BODY":
                try:
                    body = BodyType(value.upper())
                except ValueError:
                    raise PathError(replies.BAD_ARGUMENTS) from None
            case "AUTH" if extensions.auth:
                _submitter(value)
            case "RET" | "ENVID" | "SMTPUTF8":
                continue
            case "REQUIRETLS" if extensions.require_tls:
                continue
            case _:
                raise PathError(replies.BAD_PARAMETER)
    try:
        options = parse_mail_options(parameters)
    except EnvelopeError:
        raise PathError(replies.BAD_ARGUMENTS) from None
    if not path:
        return MailCommand(None, size, body, options)
    _judge_utf8(argument, options)
    return MailCommand(_address(path, replies.BAD_SENDER_ADDRESS), size, body, options)


def parse_rcpt(argument: str, mail: MailOptions = PLAIN_MAIL) -> RcptCommand:
    """Read ``TO:<path> [NOTIFY=...] [ORCPT=...]``, with what MAIL said before.

    Raises:
        PathError: with the reply to give.
    """
    _judge_utf8(argument, mail)
    path, parameters = _split(argument, "TO:")
    if parameters.keys() - {"NOTIFY", "ORCPT"}:
        raise PathError(replies.BAD_PARAMETER)
    try:
        options = parse_recipient_options(parameters)
    except EnvelopeError:
        raise PathError(replies.BAD_ARGUMENTS) from None
    if path.lower() == POSTMASTER:
        return RcptCommand(BarePostmaster(), options)
    return RcptCommand(_address(path, replies.BAD_RECIPIENT_ADDRESS), options)


def is_helo_name(name: str) -> bool:
    """Say whether a HELO name is one: a host name or an address literal.

    Windows machines have underscores in theirs, and mail programs say so.

    Source: RFC 5321 §4.1.1.1.
    """
    if name.startswith("[") and name.endswith("]"):
        inner = name[1:-1]
        return bool(inner) and all(c.isalnum() or c in ".:-" for c in inner) and inner.isascii()
    try:
        plain = name.replace("_", "x")
        parse_domain(plain if "." in plain else plain + ".invalid")
    except MalformedAddressError:
        return False
    return True


def _split(argument: str, keyword: str) -> tuple[str, dict[str, str]]:
    """Take a command's argument apart into the path between its angles and its parameters."""
    if argument[: len(keyword)].upper() != keyword:
        raise PathError(replies.BAD_ARGUMENTS)
    # RFC 5321 §3.3 forbids the blank that Outlook and scripts put here; it harms nobody.
    rest = argument[len(keyword) :].lstrip(" ")
    if not rest.startswith("<"):
        raise PathError(replies.BAD_ARGUMENTS)
    # A '>' in a quoted local part needs its quotes: such an address is refused anyway.
    path, closing, tail = rest[1:].partition(">")
    if not closing or (tail and not tail.startswith(" ")):
        raise PathError(replies.BAD_ARGUMENTS)
    # Not str.split(): it parts at blanks of Unicode, which are no blanks of a command.
    words = [word for word in tail.replace("\t", " ").split(" ") if word]
    if len(words) > MAX_PARAMETERS:
        raise PathError(replies.BAD_ARGUMENTS)
    parameters: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name.replace("-", "a").isalnum() or name.upper() in parameters:
            raise PathError(replies.BAD_ARGUMENTS)
        parameters[name.upper()] = value
    return path, parameters


def _address(path: str, refusal: Reply) -> Address:
    if path.startswith("@"):
        raise PathError(replies.SOURCE_ROUTE)
    try:
        return parse_utf8_addr_spec(path)
    except MalformedAddressError:
        raise PathError(refusal) from None


def _judge_utf8(argument: str, options: MailOptions) -> None:
    """Refuse what is not ASCII in a transaction without SMTPUTF8. Source: RFC 6531 §3.5."""
    if not argument.isascii() and not options.smtputf8:
        raise PathError(replies.NEEDS_SMTPUTF8)


def _submitter(value: str) -> None:
    try:
        parse_submitter(value)
    except EnvelopeError:
        raise PathError(replies.BAD_ARGUMENTS) from None


def _size(value: str, limit: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > MAX_SIZE_DIGITS:
        raise PathError(replies.BAD_ARGUMENTS)
    size = int(value)
    if size > limit:
        raise PathError(replies.TOO_BIG)
    return size
