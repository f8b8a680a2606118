"""Who sees a document, and when: the one place that decides.

Every page, count, search, agenda, notification, feed and export asks `decide`. What is not shown
does not exist for that viewer. A masking code of the sender always wins over convenience: a
document that is invisible to its patient stays so even when it was addressed to them.

Source: RULES §7, MSS-FACTS §6.2, MSS-FACTS §6.3.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never

from record_bridge.model import Viewer, ViewerKind, Visibility

GENETICS: Final = frozenset({"51969-4"})
"""Types that a delay never releases."""

MASKING: Final = {
    "MASQUE_PS": Visibility.MASKED_PS,
    "INVISIBLE_PATIENT": Visibility.INVISIBLE_PATIENT,
    "INVISIBLE_REPRESENTANTS_LEGAUX": Visibility.INVISIBLE_REPRESENTATIVES,
}
"""Codes of TRE_A07 (1.2.250.1.213.1.1.4.13), as METADATA.XML carries them."""


class Cell(enum.Enum):
    """What the national matrix says of a profession and a type of document."""

    READ = "read"
    REFUSED = "refused"
    UNKNOWN = "unknown"


_PHYSICIAN: Final = "10"
_DENTIST: Final = "40"
_DENTIST_REFUSED: Final = frozenset({"80788-3", "75496-0", "83981-1", "83901-9", "68599-0"})


def matrix(profession: str, type_code: str) -> Cell:
    """The known cells of the habilitation matrix; to be replaced by the official table.

    Source: MSS-FACTS §6.2 (arrêté du 26/10/2023; only these statements were found).
    """
    if profession == _PHYSICIAN:
        return Cell.REFUSED if type_code == "ATTEST-RESID" else Cell.READ
    if profession == _DENTIST and type_code in _DENTIST_REFUSED:
        return Cell.REFUSED
    return Cell.UNKNOWN


class Sight(enum.Enum):
    """What a viewer gets of a document."""

    SHOWN = "shown"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """What visibility depends on.

    Attributes:
        states: of the document now; none of them, or VISIBLE alone, hides nothing.
        structure_id: the structure whose record it is in.
        patient_ref: the patient, in the form of ``Viewer.ref``.
        author_ids: national identifiers of authors.
        recipient_ids: of those the message was delivered to, or whom the document names.
        attending_ids: of the "médecin traitant".
    """

    type_code: str
    states: frozenset[Visibility]
    structure_id: str
    patient_ref: str
    author_ids: frozenset[str] = frozenset()
    recipient_ids: frozenset[str] = frozenset()
    attending_ids: frozenset[str] = frozenset()


def decide(document: DocumentFacts, viewer: Viewer) -> Sight:
    """Whether this viewer sees this document.

    Source: RULES §7.
    """
    kind = ViewerKind(viewer.kind)
    match kind:
        case ViewerKind.PATIENT:
            shown = viewer.ref == document.patient_ref and not document.states & {
                Visibility.AWAITING_RELEASE,
                Visibility.INVISIBLE_PATIENT,
            }
        case ViewerKind.REPRESENTATIVE:
            shown = viewer.ref == document.patient_ref and not document.states & {
                Visibility.AWAITING_RELEASE,
                Visibility.INVISIBLE_PATIENT,
                Visibility.INVISIBLE_REPRESENTATIVES,
            }
        case ViewerKind.PRACTITIONER:
            shown = _practitioner_sees(document, viewer)
        case _:
            assert_never(kind)
    return Sight.SHOWN if shown else Sight.HIDDEN


def _practitioner_sees(document: DocumentFacts, viewer: Viewer) -> bool:
    """Source: RULES §7 (last rule), MSS-FACTS §6.3 (MASQUE_PS)."""
    if viewer.structure_id != document.structure_id:
        return False
    is_author = _is_among(viewer.ref, document.author_ids)
    is_attending = _is_among(viewer.ref, document.attending_ids)
    if is_author or is_attending:
        return True
    if Visibility.MASKED_PS in document.states:
        return False
    if _is_among(viewer.ref, document.recipient_ids):
        return True
    return matrix(viewer.profession, document.type_code) is Cell.READ


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
    if Visibility.AWAITING_RELEASE not in states or type_code in GENETICS:
        return None
    if states & {
        Visibility.INVISIBLE_PATIENT,
        Visibility.MASKED_PS,
        Visibility.INVISIBLE_REPRESENTATIVES,
    }:
        return None
    return filed_at + timedelta(days=delay_days)


def is_visible_to_patient(states: frozenset[Visibility]) -> bool:
    """Whether the patient sees it as it is: what releases a held message of theirs."""
    return not states & {Visibility.AWAITING_RELEASE, Visibility.INVISIBLE_PATIENT}
