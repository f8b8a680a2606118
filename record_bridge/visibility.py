"""Who sees a document, and when: the one place that decides.

Every page, count, search, agenda, notification, feed and export asks `decide`. What is not shown
does not exist for that viewer. A masking code of the sender always wins over convenience: a
document that is invisible to its patient stays so even when it was addressed to them.

Source: RULES §7, MSS-FACTS §6.2, MSS-FACTS §6.3.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from record_bridge.habilitation import Cell
from record_bridge.model import Viewer, ViewerKind, Visibility
from record_bridge.rights import (
    OCCUPATIONAL,
    Decision,
    GrantKind,
    Part,
    RecordFacts,
    Rule,
    hidden,
    may_open,
    refusal,
    shown,
)

GENETICS: Final = frozenset({"51969-4"})
"""Types that a delay never releases."""

MASKING: Final = {
    "MASQUE_PS": Visibility.MASKED_PS,
    "INVISIBLE_PATIENT": Visibility.INVISIBLE_PATIENT,
    "INVISIBLE_REPRESENTANTS_LEGAUX": Visibility.INVISIBLE_REPRESENTATIVES,
}
"""Codes of TRE_A07 (1.2.250.1.213.1.1.4.13), as METADATA.XML carries them."""


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """What visibility depends on.

    Attributes:
        states: of the document now; none of them, or VISIBLE alone, hides nothing.
        author_ids: national identifiers of authors.
        recipient_ids: of those the message was delivered to, or whom the document names.
        attending_ids: of the "médecin traitant".
    """

    type_code: str
    states: frozenset[Visibility]
    author_ids: frozenset[str] = frozenset()
    recipient_ids: frozenset[str] = frozenset()
    attending_ids: frozenset[str] = frozenset()


def decide(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part = Part.DOCUMENTS
) -> Decision:
    """Whether this viewer sees this document, and the rule that says so.

    Args:
        document: one of the record.
        viewer: who looks.
        record: what is known of the record it is in.
        part: where it is looked at: itself, or what the agenda made of it.

    Source: RULES §7.
    """
    opening = may_open(record, viewer, part)
    kind = ViewerKind(viewer.kind)
    if kind is ViewerKind.PRACTITIONER:
        return refusal(record, viewer) or _practitioner(document, viewer, (record, opening))
    if not opening.is_shown:
        return opening
    for state, rule in _HIDDEN_FROM_PEOPLE:
        if state in document.states:
            return hidden(rule)
    if kind is not ViewerKind.PATIENT and Visibility.INVISIBLE_REPRESENTATIVES in document.states:
        return hidden(Rule.INVISIBLE_REPRESENTATIVES)
    return opening


_HIDDEN_FROM_PEOPLE: Final = (
    (Visibility.AWAITING_RELEASE, Rule.AWAITING_RELEASE),
    (Visibility.INVISIBLE_PATIENT, Rule.INVISIBLE_PATIENT),
)


def _practitioner(
    document: DocumentFacts, viewer: Viewer, opened: tuple[RecordFacts, Decision]
) -> Decision:
    """Judge one document for a professional whom the record refuses nothing outright.

    Source: RULES §7 (last rule), MSS-FACTS §6.3 (MASQUE_PS).
    """
    record, opening = opened
    if _is_among(viewer.ref, document.author_ids):
        return shown(Rule.AUTHOR)
    attending = GrantKind.ATTENDING in record.of(viewer)
    attending = attending or _is_among(viewer.ref, document.attending_ids)
    if attending and viewer.specialty not in OCCUPATIONAL:
        return shown(Rule.ATTENDING)
    if Visibility.MASKED_PS in document.states:
        return hidden(Rule.MASKED)
    if _is_among(viewer.ref, document.recipient_ids):
        return shown(Rule.RECIPIENT)
    if not opening.is_shown:
        return opening
    match record.matrix.cell(viewer.profession, document.type_code):
        case Cell.READ:
            return opening
        case Cell.REFUSED:
            return hidden(Rule.MATRIX_REFUSED)
        case Cell.UNKNOWN:
            return hidden(Rule.MATRIX_UNKNOWN)


def _is_among(ref: str, identifiers: frozenset[str]) -> bool:
    """An RPPS is written alone, or with the type digit 8 before it."""
    return bool(ref) and (ref in identifiers or f"8{ref}" in identifiers)


# --- states ----------------------------------------------------------------------------------


def masking(codes: Iterable[str]) -> frozenset[Visibility]:
    """The states that confidentiality codes ask for; several may hold.

    Source: MSS-FACTS §6.3.
    """
    return frozenset(MASKING[code] for code in codes if code in MASKING)


def on_filing(codes: Iterable[str], *, addressed_to_patient: bool) -> frozenset[Visibility]:
    """The states of a document when it is filed.

    Args:
        codes: confidentiality codes of the metadata and of the document.
        addressed_to_patient: the sender sent it to the patient's mailbox too.

    Source: RULES §7.
    """
    states = masking(codes)
    if not addressed_to_patient:
        states |= {Visibility.AWAITING_RELEASE}
    return states or frozenset({Visibility.VISIBLE})


def released(states: frozenset[Visibility]) -> frozenset[Visibility]:
    """The states once a professional released the document, or its delay did."""
    left = states - {Visibility.AWAITING_RELEASE, Visibility.VISIBLE}
    return left or frozenset({Visibility.VISIBLE})


def masked(states: frozenset[Visibility], mask: Visibility) -> frozenset[Visibility]:
    """The states once a person masked the document."""
    return (states - {Visibility.VISIBLE}) | {mask}


def unmasked(states: frozenset[Visibility], mask: Visibility) -> frozenset[Visibility]:
    """The states once a mask was lifted."""
    return (states - {mask, Visibility.VISIBLE}) or frozenset({Visibility.VISIBLE})


def release_at(
    type_code: str, states: frozenset[Visibility], filed_at: datetime, delay_days: int
) -> datetime | None:
    """When the delay releases a document by itself; None for never.

    Args:
        type_code: of the document; genetics never leaves by itself.
        states: a masked one never does either.
        filed_at: aware UTC.
        delay_days: the structure's delay for this type.

    Source: RULES §7.
    """
    if not waits_for_delay(states) or type_code in GENETICS:
        return None
    return filed_at + timedelta(days=delay_days)


def waits_for_delay(states: frozenset[Visibility]) -> bool:
    """Whether nothing but a delay, or a professional, stands before a document's release.

    A masked one is released by no delay. The delay of one that was masked here counts again once
    the mask is lifted; one that came masked never had any: only a professional releases it.
    """
    return states == {Visibility.AWAITING_RELEASE}


def is_visible_to_patient(states: frozenset[Visibility]) -> bool:
    """Whether the patient sees it as it is: what releases a held message of theirs."""
    return not states & {Visibility.AWAITING_RELEASE, Visibility.INVISIBLE_PATIENT}
