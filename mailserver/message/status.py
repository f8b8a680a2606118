"""What the codes of replies, reports and answers mean, in a few words for an administrator; pure.

Source: RFC 3463 §3, RFC 7505 §4.2, MSSanté volet LPS v1.1.3 (application errors).
"""

from typing import Final

_ENHANCED: Final = {
    "1.1": "no such mailbox there",
    "1.2": "no such domain",
    "1.3": "the address is malformed",
    "1.6": "the mailbox has moved",
    "1.8": "our address is not known there",
    "1.10": "the domain takes no mail",
    "2.1": "the mailbox is closed or takes nothing now",
    "2.2": "the mailbox is full",
    "2.3": "the message is too large for the mailbox",
    "3.1": "the server has no room",
    "3.2": "the server takes nothing now",
    "3.4": "the message is too large for the server",
    "4.1": "the server does not answer",
    "4.2": "the connection broke",
    "4.3": "the name servers do not answer",
    "4.4": "no way to the server is known",
    "4.6": "the message goes in circles",
    "4.7": "it waited too long",
    "5.0": "the server did not speak SMTP as it should",
    "5.3": "too many recipients at once",
    "6.0": "the message is malformed",
    "7.0": "refused for security, or by an administrator",
    "7.1": "refused: not allowed",
    "6.3": "the message would have to be converted for that server",
    "6.7": "the server takes no address with such letters",
    "7.5": "no encryption or certificate that both accept",
    "7.10": "the message must be encrypted",
    "7.30": "the server cannot keep it encrypted all the way",
}
UNKNOWN_ANSWER: Final = "set aside, without a code that is known"
_ANSWERS: Final = {
    "901": "not allowed to replace or withdraw it",
    "900": "not the current version",
    "902": "the patient is not known there",
    "903": "no INS",
    "904": "the identity differs",
    "905": "the identity is incomplete",
    "906": "other; see the answer",
}
ANSWER_CODES: Final = frozenset(_ANSWERS)


def meaning(code: str) -> str:
    """Say what a code means: ``550 5.1.1``, ``5.1.1`` or ``902``; "" for others."""
    if code in _ANSWERS:
        return _ANSWERS[code]
    kind, _, detail = code.rpartition(" ")[2].partition(".")
    return _ENHANCED.get(detail, "") if kind in {"4", "5"} else ""
