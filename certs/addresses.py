"""Mail addresses, read strictly: identity is an address, so nothing is guessed.

Invariants: an address that two readers could read as two people is refused; so are quoted local
parts that need their quotes, domain literals, source routes, trailing dots, and (where identity is
asked) groups. An address that is not ASCII is read only where the protocol lets it be one: in NFC,
of visible characters, in one alphabet (threat C15). Domains are A-labels in lower case. Comments
are allowed between the pieces of a mailbox, never inside its address.

Source: RFC 5321 §4.1.2, RFC 5322 §3.4, RFC 6531 §3.3, RFC 6532 §3.2.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from certs.errors import MalformedAddressError
from certs.mime_outline import Outline
from certs.mime_words import clean, decode_header, unfold

MAX_ADDRESSES: Final = 1000
"""Addresses read from one field; 10^6 of them stopped Dovecot (CVE-2024-23184)."""
MAX_FIELD_OCTETS: Final = 256 * 1024
MAX_LOCAL: Final = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN: Final = 253  # RFC 1035 §2.3.4, less the root's octets
MAX_ADDRESS: Final = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets

_LOCAL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
)
_UTF8_LOCAL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*"
)
_LOOK_ALIKE: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE"})
"""Alphabets whose letters pass for each other's."""
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")


@dataclass(frozen=True, slots=True)
class Address:
    """One address: its local part as written, its domain as lower-case A-labels."""

    local: str
    domain: str

    @property
    def text(self) -> str:
        """The address as it is written."""
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The form under which two addresses of one mailbox compare: lower case."""
        return f"{self.local.lower()}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name ("" when there is none) and an address."""

    display: str
    address: Address


def parse_domain(text: str) -> str:
    """Give a domain as lower-case A-labels.

    Raises:
        MalformedAddressError: it is not a host name of at least two labels.
    """
    lowered = text.lower()
    if not text.isascii() or len(text) > MAX_DOMAIN or _DOMAIN.fullmatch(lowered) is None:
        raise MalformedAddressError
    return lowered


def parse_addr_spec(text: str | bytes) -> Address:
    """Read a bare address.

    A quoted local part is accepted only when its quotes were not needed: ``"a"@b.c`` is
    ``a@b.c``; ``"a@x"@b.c`` is what relays are fooled with, and refused.

    Raises:
        MalformedAddressError: anything else than exactly one address.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not text.isascii() or len(text) > MAX_ADDRESS + 2:
        raise MalformedAddressError
    local, at, domain = text.rpartition("@")
    if local.startswith('"') and local.endswith('"') and len(local) > 2:
        local = local[1:-1]
    if not at or len(local) > MAX_LOCAL or _LOCAL.fullmatch(local) is None:
        raise MalformedAddressError
    if len(local) + 1 + len(domain) > MAX_ADDRESS:
        raise MalformedAddressError
    return Address(local, parse_domain(domain))


def a_labels(domain: str) -> str:
    """Give a domain of U-labels as lower-case A-labels, when no other name could be meant.

    Raises:
        MalformedAddressError: a label that IDNA maps to another, or cannot encode.

    Source: RFC 6531 §3.3, RFC 3490 §4.1.
    """
    lowered = unicodedata.normalize("NFC", domain).lower()
    try:
        encoded = lowered.encode("idna")
        same = encoded.decode("idna") == lowered
    except UnicodeError:
        raise MalformedAddressError from None
    if not same:
        raise MalformedAddressError
    return parse_domain(encoded.decode("ascii"))


def parse_utf8_addr_spec(text: str | bytes) -> Address:
    """Read a bare address whose local part may be UTF-8 and whose domain may be U-labels.

    Raises:
        MalformedAddressError: anything else than exactly one address in NFC, of visible
            characters; letters of two alphabets that look alike in one local part.

    Source: RFC 6531 §3.3.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedAddressError from None
    if text.isascii():
        return parse_addr_spec(text)
    local, at, domain = text.rpartition("@")
    if not at or len(text.encode("utf-8", "replace")) > MAX_ADDRESS:
        raise MalformedAddressError
    domain = parse_domain(domain) if domain.isascii() else a_labels(domain)
    if local.isascii():
        return parse_addr_spec(f"{local}@{domain}")
    if (
        len(local.encode("utf-8", "replace")) > MAX_LOCAL
        or _UTF8_LOCAL.fullmatch(local) is None
        or not unicodedata.is_normalized("NFC", local)
        or not all(map(_is_visible, local))
        or len({unicodedata.name(c, "").split(" ")[0] for c in local} & _LOOK_ALIKE) > 1
    ):
        raise MalformedAddressError
    return Address(local, domain)


def _is_visible(character: str) -> bool:
    """Whether a character shows; unassigned, private, control, format and blank ones do not."""
    return unicodedata.category(character)[0] not in "CZ"


_BLANK: Final = re.compile(rb"[ \t\r\n]+")
_QUOTED: Final = re.compile(rb'"(?:[^"\\\r\n]|\\[^\r\n])*"')
_ATOM: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_DEPTH: Final = 5


@dataclass(slots=True)
class _Reader:
    """A walk over the tokens of one field."""

    data: bytes
    at: int = 0

    def skip(self) -> None:
        """Pass over blanks and comments."""
        while True:
            blank = _BLANK.match(self.data, self.at)
            if blank is not None:
                self.at = blank.end()
            if self.data[self.at : self.at + 1] != b"(":
                return
            self._comment()

    def _comment(self) -> None:
        depth = 0
        while self.at < len(self.data):
            octet = self.data[self.at : self.at + 1]
            self.at += 2 if octet == b"\\" else 1
            if octet == b"(":
                depth += 1
                if depth > _COMMENT_DEPTH:
                    raise MalformedAddressError
            elif octet == b")":
                depth -= 1
                if depth == 0:
                    return
        raise MalformedAddressError

    def take(self, octet: bytes) -> bool:
        """Pass over one special, if it is there."""
        if self.data[self.at : self.at + 1] == octet:
            self.at += 1
            return True
        return False

    def word(self) -> bytes:
        """Read an atom (dots included) or a quoted string, quotes kept; b"" when neither."""
        match = _QUOTED.match(self.data, self.at) or _ATOM.match(self.data, self.at)
        if match is None:
            return b""
        self.at = match.end()
        return match[0]

    def addr_spec(self, local: bytes) -> Address:
        """Read ``@domain`` right after a local part, without any blank."""
        if not self.take(b"@"):
            raise MalformedAddressError
        domain = _ATOM.match(self.data, self.at)
        if domain is None:
            raise MalformedAddressError
        self.at = domain.end()
        return parse_utf8_addr_spec(local + b"@" + domain[0])

    def mailbox(self) -> Mailbox:
        """Read one mailbox: ``[display] <addr-spec>`` or ``addr-spec``."""
        self.skip()
        words: list[bytes] = []
        while True:
            word = self.word()
            if not word:
                break
            if self.data[self.at : self.at + 1] == b"@":
                if words:
                    raise MalformedAddressError
                address = self.addr_spec(word)
                self.skip()
                return Mailbox("", address)
            words.append(word)
            self.skip()
        if not self.take(b"<"):
            raise MalformedAddressError
        address = self.addr_spec(self.word())
        if not self.take(b">"):
            raise MalformedAddressError
        self.skip()
        return Mailbox(_display(words), address)


def _display(words: list[bytes]) -> str:
    texts = [
        clean(_QUOTED_PAIR.sub(rb"\1", word[1:-1]).decode("utf-8", "replace"))
        if word.startswith(b'"')
        else word
        for word in words
    ]
    joined: list[str] = []
    plain: list[bytes] = []
    for text in texts:
        if isinstance(text, bytes):
            plain.append(text)
            continue
        if plain:
            joined.append(decode_header(b" ".join(plain)))
            plain = []
        joined.append(text)
    if plain:
        joined.append(decode_header(b" ".join(plain)))
    return " ".join(joined).strip()


def parse_mailbox(value: bytes) -> Mailbox:
    """Read a field's value that holds exactly one mailbox.

    Raises:
        MalformedAddressError: none, several, a group, or anything ambiguous.
    """
    found = parse_address_list(value)
    if len(found) != 1:
        raise MalformedAddressError
    return found[0]


def parse_address_list(value: bytes) -> tuple[Mailbox, ...]:
    """Read a field's value that holds a list of mailboxes; groups are refused.

    Raises:
        MalformedAddressError: empty, too long, a group, or anything ambiguous.
    """
    if len(value) > MAX_FIELD_OCTETS:
        raise MalformedAddressError
    reader = _Reader(unfold(value).strip(b" \t\r\n"))
    found = [reader.mailbox()]
    while reader.take(b","):
        if len(found) >= MAX_ADDRESSES:
            raise MalformedAddressError
        found.append(reader.mailbox())
    if reader.at != len(reader.data):
        raise MalformedAddressError
    return tuple(found)


def single_from(outline: Outline) -> Address:
    """Give the one author's address of a message.

    Raises:
        MalformedAddressError: not exactly one From field with exactly one address.

    Source: RFC 5322 §3.6.2, RFC 7489 §6.6.1.
    """
    fields = outline.fields("from")
    if len(fields) != 1:
        raise MalformedAddressError
    return parse_mailbox(fields[0].value).address
