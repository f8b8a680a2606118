"""What a report that comes in says of messages that accounts here sent.

Invariants: a report counts only when who hands it over speaks for the recipient's domain: a peer
listed for that domain, or the structure itself; it moves only messages of the mailbox it is
addressed to. Source: RULES §9, RFC 3464 §2.3.3, RFC 8098 §3.2.6.
"""

from collections.abc import Callable, Iterable

from certs.addresses import parse_utf8_addr_spec
from certs.errors import MalformedAddressError
from certs.mime import Outline
from mailserver.message.progress import Event, Source, Transport, Verdict
from mailserver.message.reports import DeliveryReport, DispositionReport, read_report
from mailserver.store.model import Mailbox, Observed

_ACTIONS = {
    "failed": Transport.FAILED,
    "delayed": Transport.DELAYED,
    "relayed": Transport.RELAYED,
    "expanded": Transport.RELAYED,
    "delivered": Transport.DELIVERED,
}


def observed(
    raw: bytes,
    outline: Outline,
    readers: Iterable[Mailbox],
    speaks_for: Callable[[str], bool],
) -> tuple[Observed, ...]:
    """Read what a message reports to the mailboxes it is for; nothing when it is no report.

    Args:
        raw: the whole message.
        outline: of it.
        readers: the mailboxes of this site it is addressed to.
        speaks_for: whether who brought it may speak for a domain.
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
        if speaks_for(address.domain):
            found += [
                Observed(reader.id, report.original_message_id, address.key, event)
                for reader in readers
            ]
    return tuple(found)


def _events(report: DeliveryReport | DispositionReport) -> list[tuple[str, Event]]:
    if isinstance(report, DeliveryReport):
        return [
            (each.final_recipient, Event(Source.CARRIAGE, _ACTIONS[each.action], code=each.status))
            for each in report.recipients
            if each.action in _ACTIONS
        ]
    if report.errors or "error" in report.modifiers:
        code = report.errors[0].code if report.errors else ""
        event = Event(Source.RECIPIENT, verdict=Verdict.QUARANTINED, code=code)
    elif report.disposition == "displayed":
        event = Event(Source.RECIPIENT, displayed=True)
    elif report.disposition == "processed":
        event = Event(Source.RECIPIENT, verdict=Verdict.FILED)
    else:
        return []
    return [(report.final_recipient, event)]
