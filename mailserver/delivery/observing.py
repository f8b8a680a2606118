"""What a report that comes in says of messages that accounts here sent.

Invariants: a report counts only when who hands it over speaks for the recipient: a peer listed
for that domain, or, of a recipient of this site, its own mailbox, whether its holder writes or
the structure's application for it; it moves only messages of the mailbox it is addressed to.
Source: RULES §9, RFC 3464 §2.3.3, RFC 8098 §3.2.6.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from certs.addresses import Address, parse_utf8_addr_spec
from certs.errors import MalformedAddressError
from certs.mime import Outline
from mailserver.message.progress import Event, Source, Transport, Verdict
from mailserver.message.reports import DeliveryReport, DispositionReport, read_report
from mailserver.message.status import ANSWER_CODES
from mailserver.store.model import Mailbox, Observed

_ACTIONS = {
    "failed": Transport.FAILED,
    "delayed": Transport.DELAYED,
    "relayed": Transport.RELAYED,
    "expanded": Transport.RELAYED,
    "delivered": Transport.DELIVERED,
}
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
"""Source: RFC 3464 §2.3.4. What else a peer writes beside it is shown to nobody."""


def observed(
    raw: bytes,
    outline: Outline,
    readers: Iterable[Mailbox],
    speaks_for: Callable[[Address], bool],
) -> tuple[Observed, ...]:
    """Read what a message reports to the mailboxes it is for; nothing when it is no report.

    Args:
        raw: the whole message.
        outline: of it.
        readers: the mailboxes of this site it is addressed to.
        speaks_for: whether who brought it may speak for a recipient.
    """
    report = read_report(raw, outline)
    if report is None or not report.original_message_id:
        return ()
    found: list[Observed] = []
    for recipient, event in _events(report):
        try:
            address = parse_utf8_addr_spec(recipient)
        except MalformedAddressError:
            continue
        if speaks_for(address):
            found += [
                Observed(reader.id, report.original_message_id, address.key, event)
                for reader in readers
            ]
    return tuple(found)


def _events(report: DeliveryReport | DispositionReport) -> list[tuple[str, Event]]:
    if isinstance(report, DeliveryReport):
        return [
            (
                each.final_recipient,
                Event(Source.CARRIAGE, _ACTIONS[each.action], code=_status(each.status)),
            )
            for each in report.recipients
            if each.action in _ACTIONS
        ]
    if report.errors or "error" in report.modifiers:
        # A stranger's report decides no word that is shown: a code of no list is no code.
        code = next((each.code for each in report.errors if each.code in ANSWER_CODES), "")
        event = Event(Source.RECIPIENT, verdict=Verdict.QUARANTINED, code=code)
    elif report.disposition == "displayed":
        event = Event(Source.RECIPIENT, displayed=True)
    elif report.disposition == "processed":
        event = Event(Source.RECIPIENT, verdict=Verdict.FILED)
    else:
        return []
    return [(report.final_recipient, event)]


def _status(text: str) -> str:
    found = _STATUS.match(text)
    return "" if found is None else found[0]
