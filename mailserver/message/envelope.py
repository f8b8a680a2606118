"""What an SMTP envelope asks for beside its paths: parameters of MAIL and of RCPT, as values.

The listeners read them, the queue keeps them, the client passes them on: one type for all three.
Invariants: ``encode`` and ``parse_xtext`` are each other's inverse; a value that stands in a
command holds printable ASCII without blank, ``+`` or ``=`` (RFC 3461 §4), so that nothing a
peer wrote can end a command of ours.

Source: RFC 3461 §4, RFC 8689 §3, RFC 6531 §3.4.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

POSTMASTER: Final = "postmaster"
"""Reads mail in every domain. Source: RFC 5321 §4.5.1."""
MAX_ENVID: Final = 100  # RFC 3461 §4.4
MAX_ORCPT: Final = 500  # RFC 3461 §4.2
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR: Final = re.compile(r"\+([0-9A-F]{2})")
_ADDR_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,40}")


class EnvelopeError(ValueError):
    """A parameter's value is not one; the text says no more."""

    def __init__(self) -> None:
        super().__init__("a parameter of the envelope has no such value")


class Notify(Enum):
    """When a sender wants to be told. Source: RFC 3461 §4.1."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Return(Enum):
    """How much of the message a notification returns. Source: RFC 3461 §4.3."""

    FULL = "FULL"
    HEADERS = "HDRS"


UNSAID: Final = frozenset({Notify.FAILURE, Notify.DELAY})
"""What a sender is told who did not say. Source: RFC 3461 §4.1 (DELAY is ours to choose)."""


@dataclass(frozen=True, slots=True)
class MailOptions:
    """Parameters of MAIL.

    Attributes:
        envid: the sender's own name for the transaction, decoded, at most 100 characters; "" when
            there is none.
        require_tls: REQUIRETLS was asked for. Source: RFC 8689 §3.
        smtputf8: SMTPUTF8 was asked for. Source: RFC 6531 §3.4.
    """

    ret: Return | None = None
    envid: str = ""
    require_tls: bool = False
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class RecipientOptions:
    """Parameters of RCPT.

    Attributes:
        notify: None when nothing was said; empty for NEVER.
        orcpt: ``type;address`` as the sender knows the recipient, decoded; "" when not given.
    """

    notify: frozenset[Notify] | None = None
    orcpt: str = ""

    def wants(self, kind: Notify) -> bool:
        """Say whether the sender wants to be told of that."""
        return kind in (UNSAID if self.notify is None else self.notify)

    @property
    def stored(self) -> str:
        """The NOTIFY value as one word for a column; "" when nothing was said."""
        if self.notify is None:
            return ""
        return ",".join(sorted(each.value for each in self.notify)) or "NEVER"


PLAIN_MAIL: Final = MailOptions()
PLAIN_RECIPIENT: Final = RecipientOptions()


def parse_mail_options(parameters: Mapping[str, str]) -> MailOptions:
    """Read RET, ENVID, REQUIRETLS and SMTPUTF8 among a command's parameters, upper-case names.

    Others are not looked at. Raises:
        EnvelopeError: a value that is none.
    """
    ret = None
    if "RET" in parameters:
        try:
            ret = Return(parameters["RET"].upper())
        except ValueError:
            raise EnvelopeError from None
    envid = ""
    if "ENVID" in parameters:
        envid = parse_xtext(parameters["ENVID"], MAX_ENVID)
    for flag in ("REQUIRETLS", "SMTPUTF8"):
        if parameters.get(flag):
            raise EnvelopeError
    return MailOptions(ret, envid, "REQUIRETLS" in parameters, "SMTPUTF8" in parameters)


def parse_recipient_options(parameters: Mapping[str, str]) -> RecipientOptions:
    """Read NOTIFY and ORCPT among a command's parameters, upper-case names.

    Raises:
        EnvelopeError: a value that is none.
    """
    notify = None
    if "NOTIFY" in parameters:
        notify = parse_notify(parameters["NOTIFY"])
    orcpt = ""
    if "ORCPT" in parameters:
        kind, separator, address = parameters["ORCPT"].partition(";")
        if not separator or not _ADDR_TYPE.fullmatch(kind):
            raise EnvelopeError
        if kind.lower() == "utf-8":
            address = embedded(address)
        orcpt = f"{kind.lower()};{parse_xtext(address, MAX_ORCPT)}"
    return RecipientOptions(notify, orcpt)


def embedded(unitext: str) -> str:
    """Give UTF-8 in ASCII, as every server carries it: escaped code points.

    Source: RFC 6533 §3.
    """
    return "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in unitext)


def parse_submitter(value: str) -> str:
    """Read AUTH=, ``<>`` or an address in xtext; nobody here believes it.

    Source: RFC 4954 §5.
    """
    if value == "<>":
        return ""
    submitter = parse_xtext(value, MAX_ORCPT)
    if "@" not in submitter:
        raise EnvelopeError
    return submitter


def parse_notify(value: str) -> frozenset[Notify]:
    """Read ``NEVER``, or a list of SUCCESS, FAILURE and DELAY.

    Raises:
        EnvelopeError: another word, or NEVER beside others.
    """
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return frozenset()
    try:
        found = frozenset(Notify(word) for word in words)
    except ValueError:
        raise EnvelopeError from None
    if len(found) != len(words):
        raise EnvelopeError
    return found


def parse_xtext(value: str, limit: int) -> str:
    """Decode xtext: at most ``limit`` characters as written, printable ASCII once decoded.

    Source: RFC 3461 §4.
    """
    if not value or len(value) > limit or not _XTEXT.fullmatch(value):
        raise EnvelopeError
    text = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), value)
    if not all(" " <= c <= "~" for c in text):
        raise EnvelopeError
    return text


def xtext(text: str) -> str:
    """Encode printable ASCII as xtext. Source: RFC 3461 §4."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def mail_parameters(options: MailOptions) -> list[str]:
    """Give RET and ENVID as they are said to a server that offers DSN."""
    words = [] if options.ret is None else [f"RET={options.ret.value}"]
    return words + ([f"ENVID={xtext(options.envid)}"] if options.envid else [])


def recipient_parameters(options: RecipientOptions) -> list[str]:
    """Give NOTIFY and ORCPT as they are said to a server that offers DSN."""
    words = [] if options.notify is None else [f"NOTIFY={options.stored}"]
    kind, _, address = options.orcpt.partition(";")
    return words + ([f"ORCPT={kind};{xtext(address)}"] if options.orcpt else [])


def stored_recipient(notify: str, orcpt: str) -> RecipientOptions:
    """Give back what ``RecipientOptions.stored`` and ``orcpt`` kept."""
    return RecipientOptions(parse_notify(notify) if notify else None, orcpt)
