"""Names of certificates: the trust list's DN form, its comparison form, rfc822Names.

The trust list writes ``CN=..,OU=..,O=..,ST=..,C=..``: RFC 4514, most specific first. Its authors
do not always escape a comma inside a value, so a piece that names no known attribute belongs to
the value before it.

Two names are one when their RDNs are, each a set of attributes, in order: names are never compared
as strings.

Source: RFC 4514 §2, RFC 5280 §4.2.1.6, RFC 5280 §7.1, MSS-OP §3.2.
"""

import re
import stringprep
import unicodedata
from functools import lru_cache

from cryptography import x509

from certs.malformed import CERTIFICATE

_SHORT_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "TITLE",
    "2.5.4.42": "GN",
    "2.5.4.97": "ORGANIZATIONIDENTIFIER",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "EMAILADDRESS",
}
_SYNONYMS = {"S": "ST", "E": "EMAILADDRESS", "MAIL": "EMAILADDRESS", "GIVENNAME": "GN"} | {
    f"OID.{oid}": name for oid, name in _SHORT_NAMES.items()
}
_KNOWN_TYPES = frozenset(_SHORT_NAMES.values()) | frozenset(_SYNONYMS)
_DOTTED = re.compile(r"(OID\.)?\d+(\.\d+)+\Z")
_SPACES = frozenset("\t\n\v\f\r\x85\xa0\u2028\u2029")
_UNFIT = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_SPECIAL = frozenset('"+,;<>\\=')
_MAX_DN_CHARACTERS = 4096

ComparedName = tuple[frozenset[tuple[str, str]], ...]
"""A distinguished name RDN by RDN, as ``compared_name`` gives it; never a string."""


def dn_string(name: x509.Name) -> str:
    """Write a distinguished name as the trust list does.

    Returns:
        ``CN=..,OU=..,O=..,ST=..,C=..``, special characters escaped; a multi-valued RDN joined
        by ``+``.

    Source: RFC 4514 §2.1, RFC 4514 §2.4.
    """
    return ",".join(
        "+".join(f"{_kind(pair.oid)}={_escape(_text(pair.value))}" for pair in rdn)
        for rdn in reversed(list(name.rdns))
    )


@lru_cache(maxsize=256)
def compared_name(text: str) -> ComparedName:
    """Read a written distinguished name as what two names are compared by.

    Attribute types under one name, values prepared as for caseIgnoreMatch; the order of the RDNs
    is part of the name, the order inside one is not.

    Returns:
        One set of (type, value) for each RDN, most specific first; empty, which is nobody's name,
        when the text names no attribute, or a value is empty or holds a character that may not
        be compared (a control, an unassigned or private one).

    Source: RFC 5280 §7.1, RFC 4518 §2, RFC 4514 §3.
    """
    rdns: list[list[list[str]]] = []
    for piece, separator in _split(text[:_MAX_DN_CHARACTERS]):
        kind, equals, value = piece.partition("=")
        kind = kind.strip().upper()
        if equals and (kind in _KNOWN_TYPES or _DOTTED.match(kind)):
            pair = [_canonical_type(kind), _unescape(value)]
            if separator == "+" and rdns:
                rdns[-1].append(pair)
            else:
                rdns.append([pair])
        elif rdns:
            rdns[-1][-1][1] += separator + _unescape(piece)
    prepared = [[(kind, _prepared(value)) for kind, value in rdn] for rdn in rdns]
    if any(not value for rdn in prepared for _, value in rdn):
        return ()
    return tuple(map(frozenset, prepared))


def written_name(name: ComparedName) -> str:
    """Write a compared name so that ``compared_name`` reads it back; for people and for lists."""
    return ",".join(
        "+".join(f"{kind}={_escape(value)}" for kind, value in sorted(rdn)) for rdn in name
    )


def rfc822_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The e-mail addresses a certificate speaks for: subjectAltName only.

    CN and the emailAddress attribute of the subject are display: no CA is bound to check them
    (threat C6).

    Source: RFC 5280 §4.2.1.6, RFC 8550 §3.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, *CERTIFICATE):
        return ()
    return tuple(extension.value.get_values_for_type(x509.RFC822Name))


def _kind(oid: x509.ObjectIdentifier) -> str:
    return _SHORT_NAMES.get(oid.dotted_string, oid.dotted_string)


def _canonical_type(kind: str) -> str:
    kind = kind.removeprefix("OID.")
    return _SYNONYMS.get(kind, _SHORT_NAMES.get(kind, kind))


def _split(text: str) -> list[tuple[str, str]]:
    """Cut at unescaped commas and plus signs; each piece with the separator before it."""
    pieces: list[tuple[str, str]] = []
    separator, start, index = "", 0, 0
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 2
            continue
        if character in ",+;":
            pieces.append((text[start:index], separator))
            separator, start = character, index + 1
        index += 1
    pieces.append((text[start:], separator))
    return pieces


def _unescape(value: str) -> str:
    # RFC 4514 §3: pair = ESC ( ESC / special / hexpair )
    out = bytearray()
    index = 0
    while index < len(value):
        if value[index] == "\\" and re.match(r"[0-9A-Fa-f]{2}", value[index + 1 : index + 3]):
            out.append(int(value[index + 1 : index + 3], 16))
            index += 3
            continue
        if value[index] == "\\":
            index += 1
        out += value[index : index + 1].encode("utf-8", "replace")
        index += 1
    return out.decode("utf-8", "replace")


def _prepared(value: str) -> str:
    """Prepare a value for caseIgnoreMatch; empty when it may not be compared.

    Stricter than the profile in one point: a control character that it would drop makes the
    value unfit, so that no certificate looks like another by one.

    Source: RFC 4518 §2.2, RFC 4518 §2.3, RFC 4518 §2.4, RFC 4518 §2.6.1.
    """
    mapped = "".join(
        " " if character in _SPACES else stringprep.map_table_b2(character)
        for character in value
        if not stringprep.in_table_b1(character)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    if any(unicodedata.category(c) in _UNFIT or c == "\ufffd" for c in normal):
        return ""
    return " ".join(normal.split())


def _escape(value: str) -> str:
    escaped = "".join(
        f"\\{character}"
        if character in _SPECIAL
        else f"\\{ord(character):02X}"
        if character < " "
        else character
        for character in value
    )
    if escaped.startswith(("#", " ")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex().upper()
