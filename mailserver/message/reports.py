"""Reports about messages, read: delivery status and disposition notifications.

A report is what a peer says; it decides nothing here. Invariants: reading never raises; a message
that is not a report of a known form gives None.

Source: RFC 3464 §2, RFC 8098 §3, RFC 3462 §1, MSSanté volet LPS v1.1.3 (application errors).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from certs.mime import Outline, Part, decode_body
from certs.mime_words import clean
from mailserver.message.headers import message_ids

MAX_RECIPIENTS: Final = 100
_MAX_REPORT_OCTETS: Final = 256 * 1024
# The code of an application error, in an Error field or, in an older form, in Disposition.
_ERROR: Final = re.compile(
    r"\b([0-9]{3})\^([^^|]{0,200})\^(?:application|message)Error(?:Condition)?"
)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What a delivery status notification says of one recipient."""

    final_recipient: str
    action: str
    status: str
    diagnostic: str


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A delivery status notification."""

    reporting_mta: str
    recipients: tuple[RecipientStatus, ...]
    original_message_id: str


@dataclass(frozen=True, slots=True)
class ApplicationError:
    """A coded refusal and its label, as the peer says them: 900 to 906 when it knows them."""

    code: str
    label: str


@dataclass(frozen=True, slots=True)
class DispositionReport:
    """A message disposition notification.

    Attributes:
        disposition: its type, lower case: displayed, processed, deleted, dispatched.
        modifiers: lower case; "error" when the processing failed.
        errors: the coded application errors, in order.
    """

    final_recipient: str
    original_message_id: str
    disposition: str
    modifiers: tuple[str, ...]
    errors: tuple[ApplicationError, ...]


def read_report(raw: bytes, outline: Outline) -> DeliveryReport | DispositionReport | None:
    """Read a report out of a message.

    Source: RFC 3462 §1, RFC 3464 §2, RFC 8098 §3.
    """
    report = _report(outline.root)
    if report is None:
        return None
    for part in report.children:
        if part.octets > _MAX_REPORT_OCTETS:
            continue
        if part.type in {"message/delivery-status", "message/global-delivery-status"}:
            return _delivery(_groups(decode_body(raw, part)), _original_id(raw, report))
        if part.type in {
            "message/disposition-notification",
            "message/global-disposition-notification",
        }:
            groups = _groups(decode_body(raw, part))
            return _disposition(groups[0]) if groups else None
    return None


def is_report(outline: Outline) -> bool:
    """Say whether a message has the form of a report. Source: RFC 3462 §1."""
    return _report(outline.root) is not None


def _report(root: Part) -> Part | None:
    """Give the report that a message is, signed or not."""
    if root.type == "multipart/signed" and root.children:
        root = root.children[0]
    return root if root.type == "multipart/report" else None


def _original_id(raw: bytes, report: Part) -> str:
    for part in report.children:
        if part.type in {"text/rfc822-headers", "message/rfc822"}:
            head = raw[part.body_start : min(part.body_end, part.body_start + _MAX_REPORT_OCTETS)]
            groups = _groups(head)
            found = message_ids(_first(groups[0], "message-id").encode()) if groups else ()
            return found[0] if found else ""
    return ""


def _groups(body: bytes) -> list[list[tuple[str, str]]]:
    """Split a report's body into groups of fields, separated by blank lines."""
    groups: list[list[tuple[str, str]]] = [[]]
    for line in body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"):
        if not line.strip():
            if groups[-1]:
                groups.append([])
            if len(groups) > MAX_RECIPIENTS + 1:
                break
        elif line[0] in " \t" and groups[-1]:
            name, value = groups[-1][-1]
            groups[-1][-1] = (name, f"{value} {clean(line).strip()}")
        else:
            name, _, value = line.partition(":")
            groups[-1].append((name.strip().lower(), clean(value).strip()))
    return [group for group in groups if group]


def _first(fields: Sequence[tuple[str, str]], name: str) -> str:
    return next((value for key, value in fields if key == name), "")


def _typed(value: str) -> str:
    """Give the address of ``rfc822; address``."""
    return value.rpartition(";")[2].strip()


def _delivery(groups: list[list[tuple[str, str]]], original_id: str) -> DeliveryReport | None:
    if not groups:
        return None
    return DeliveryReport(
        reporting_mta=_typed(_first(groups[0], "reporting-mta")),
        recipients=tuple(
            RecipientStatus(
                final_recipient=_typed(_first(group, "final-recipient")),
                action=_first(group, "action").lower(),
                status=_first(group, "status"),
                diagnostic=_first(group, "diagnostic-code").partition(";")[2].strip(),
            )
            for group in groups[1:]
        ),
        original_message_id=original_id,
    )


def _disposition(fields: list[tuple[str, str]]) -> DispositionReport:
    # disposition-field = "Disposition" ":" mode ";" type [ "/" modifier *( "," modifier ) ]
    disposition = _first(fields, "disposition")
    _, _, stated = disposition.partition(";")
    kind, _, modifiers = stated.strip().partition("/")
    errors = [value for name, value in fields if name == "error"]
    found = [
        ApplicationError(match[1], match[2].strip())
        for text in (*errors, disposition)
        for match in _ERROR.finditer(text)
    ]
    identifiers = message_ids(_first(fields, "original-message-id").encode())
    return DispositionReport(
        final_recipient=_typed(_first(fields, "final-recipient")),
        original_message_id=identifiers[0] if identifiers else "",
        disposition=kind.strip().lower(),
        modifiers=tuple(
            modifier.strip().lower().partition(" ")[0]
            for modifier in modifiers.split(",")
            if modifier.strip()
        ),
        errors=tuple(dict.fromkeys(found)),
    )
