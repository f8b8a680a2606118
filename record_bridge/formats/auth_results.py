"""The one Authentication-Results field by which the server tells the bridge who sent.

The server writes exactly one field with its own authserv-id, after it has cut those of
strangers; the reader believes only the configured authserv-id, and nothing at all when two
fields bear it. Values are percent-encoded where a header octet would not do, so that any
distinguished name comes back as it went in.

    Authentication-Results: mail.example; x-mssante=pass
     policy.operator="CN=mail.chu.example,O=CHU,C=FR" smtp.mailfrom="lab@chu.example";
     auth=none; smime=pass body.smime-identifier="lab@chu.example"

Source: RFC 8601 §2.2, RFC 7281 §3, RULES §4.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

FIELD_NAME = "Authentication-Results"
SMIME_RESULTS = frozenset({"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"})
_MAX_FIELD_OCTETS = 8192

_PLAIN = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !#$&'()*+,-./:;<=>?@[]^_`{|}~"
)
_TOKEN = re.compile(
    rb"""
    (?P<space>[ \t\r\n]+)
    | (?P<quoted>"(?:[^"\\\r\n]|\\[\x20-\x7e])*")
    | (?P<comment>\([^()"\\\r\n]*\))
    | (?P<mark>[;=])
    | (?P<word>[^\s;="()\\]+)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class AuthResults:
    """Who sent a message, as the receiving server saw it.

    Attributes:
        authserv_id: the server that says so, lower case.
        operator_dn: subject of the peer operator's certificate (mutual TLS), or None.
        mailfrom: reverse path given by that operator, "" for the null one, None when absent.
        submitter: mailbox that authenticated at submission, or None.
        smime: result word of the signature (RFC 7281), "none" when unsigned.
        signer: rfc822Name of the signer's certificate, when the signature bears one.
    """

    authserv_id: str
    operator_dn: str | None = None
    mailfrom: str | None = None
    submitter: str | None = None
    smime: str = "none"
    signer: str | None = None


def encode(results: AuthResults) -> bytes:
    """The whole header field, folded, with its final CRLF.

    Source: RFC 8601 §2.2.
    """
    lines = [f"{FIELD_NAME}: {results.authserv_id.lower()}".encode("ascii") + b";"]
    if results.operator_dn is None:
        lines.append(b" x-mssante=none;")
    else:
        lines.append(b" x-mssante=pass policy.operator=" + _quoted(results.operator_dn))
        if results.mailfrom is not None:
            lines.append(b"  smtp.mailfrom=" + _quoted(results.mailfrom))
        lines[-1] += b";"
    if results.submitter is None:
        lines.append(b" auth=none;")
    else:
        lines.append(b" auth=pass smtp.auth=" + _quoted(results.submitter) + b";")
    smime = results.smime if results.smime in SMIME_RESULTS else "neutral"
    lines.append(b" smime=" + smime.encode("ascii"))
    if results.signer is not None:
        lines.append(b"  body.smime-identifier=" + _quoted(results.signer))
    return b"\r\n".join(lines) + b"\r\n"


def names_authserv_id(value: bytes, authserv_id: str) -> bool:
    """Whether a field value (after the colon) bears this authserv-id, readable or not.

    The delivery cuts every stranger's field for which this is true. It is wider than what
    `parse` believes: comments, case, quotes and a version number do not hide the name.

    Source: RFC 8601 §5.
    """
    if len(value) > _MAX_FIELD_OCTETS:
        return True  # nobody writes one so long but to hide something
    bare = _without_comments(value)
    first = re.split(rb"[\s;/]+", bare.strip(), maxsplit=1)[0]
    return first.strip(b'"').lower() == authserv_id.lower().encode("ascii", "replace")


def _without_comments(value: bytes) -> bytes:
    """The value with each comment, nested or not, as one blank; in one pass.

    Source: RFC 5322 §3.2.2.
    """
    kept = bytearray()
    depth = at = 0
    while at < len(value):
        octet = value[at]
        if octet == ord("("):
            depth += 1
        elif octet == ord(")") and depth:
            depth -= 1
            kept += b" "
        elif octet == ord("\\") and depth:
            at += 1
        elif not depth:
            kept.append(octet)
        at += 1
    return bytes(kept)


def parse(values: Sequence[bytes], authserv_id: str) -> AuthResults | None:
    """Read the trusted field among a message's Authentication-Results values.

    Args:
        values: raw field values (after the colon, folded or not) in message order.
        authserv_id: the only server believed.

    Returns:
        The results; None when no field, or more than one, bears the authserv-id, or when the
        one that does is not in the form that `encode` writes.

    Source: RFC 8601 §2.2, RFC 8601 §5, RULES §4.
    """
    ours = [value for value in values if names_authserv_id(value, authserv_id)]
    if len(ours) != 1 or len(ours[0]) > _MAX_FIELD_OCTETS:
        return None
    tokens = _tokens(ours[0])
    if tokens is None:
        return None
    statements = _statements(tokens)
    if statements is None:
        return None
    return _results(authserv_id.lower(), statements)


def _quoted(value: str) -> bytes:
    octets = value.encode("utf-8", "surrogatepass")
    return b'"' + b"".join(bytes((o,)) if o in _PLAIN else b"%%%02X" % o for o in octets) + b'"'


def _unquoted(value: bytes) -> str:
    plain = re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value.startswith(b'"') else value
    octets = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes((int(m[1], 16),)), plain)
    return octets.decode("utf-8", "replace")


def _tokens(value: bytes) -> list[bytes] | None:
    """Words, quoted strings, ``;`` and ``=``; None when something else is in between."""
    found: list[bytes] = []
    at = 0
    while at < len(value):
        match = _TOKEN.match(value, at)
        if match is None:
            return None
        if match.lastgroup not in ("space", "comment"):
            found.append(match[0])
        at = match.end()
    return found


def _statements(tokens: list[bytes]) -> list[list[tuple[str, bytes]]] | None:
    """The ``key=value`` pairs of each part after the authserv-id; None when malformed."""
    parts: list[list[bytes]] = [[]]
    for token in tokens:
        if token == b";":
            parts.append([])
        else:
            parts[-1].append(token)
    statements: list[list[tuple[str, bytes]]] = []
    for part in parts[1:]:
        if not part:
            continue
        keys, marks, values = part[0::3], part[1::3], part[2::3]
        if len(part) % 3 or any(mark != b"=" for mark in marks):
            return None
        statements.append(
            [
                (key.decode("latin-1").lower(), value)
                for key, value in zip(keys, values, strict=True)
            ]
        )
    return statements


def _results(authserv_id: str, statements: list[list[tuple[str, bytes]]]) -> AuthResults | None:
    seen: dict[str, tuple[str, dict[str, str]]] = {}
    for pairs in statements:
        method, outcome = pairs[0][0], pairs[0][1].decode("latin-1").lower()
        if method in seen or len({key for key, _ in pairs}) != len(pairs):
            return None
        seen[method] = (outcome, {key: _unquoted(value) for key, value in pairs[1:]})
    none: tuple[str, dict[str, str]] = ("none", {})
    peer, peer_facts = seen.get("x-mssante", none)
    login, login_facts = seen.get("auth", none)
    smime, smime_facts = seen.get("smime", none)
    return AuthResults(
        authserv_id=authserv_id,
        operator_dn=peer_facts.get("policy.operator") if peer == "pass" else None,
        mailfrom=peer_facts.get("smtp.mailfrom") if peer == "pass" else None,
        submitter=login_facts.get("smtp.auth") if login == "pass" else None,
        smime=smime if smime in SMIME_RESULTS else "neutral",
        signer=smime_facts.get("body.smime-identifier"),
    )
