"""Who may open a record: professionals, representatives, relatives, the patient.

``may_open`` decides on values; ``record_bridge.visibility.decide`` asks it before it looks at any
one document. What refuses goes before what allows: a blocked professional reads nothing, not even
in an emergency and not even what they wrote.

Source: RULES §7, MSS-FACTS §6.2 (care team, consent, blocking), MSS-FACTS §6.4 (emergency, minors,
closing, occupational physicians), MSS-FACTS §7.3 (the two switches).
"""

import enum
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, assert_never

from record_bridge.formats.dtm import paris_day
from record_bridge.habilitation import Matrix
from record_bridge.model import OppositionScope, Viewer, ViewerKind

MAJORITY: Final = 18
PHYSICIAN: Final = "10"
OCCUPATIONAL: Final = frozenset({"SM25"})
"""Specialties (TRE_R38) whose holders need the person's express consent, and nothing less."""


class GrantKind(enum.StrEnum):
    """What a row of ``access_right`` says of a person and a record."""

    CARE_TEAM = "care_team"
    ATTENDING = "attending"
    CONSENT = "consent"
    BLOCK = "block"
    BREAK_GLASS = "break_glass"
    SAMU = "samu"
    REPRESENTATIVE = "representative"
    DELEGATE = "delegate"


EMERGENCIES: Final = {
    GrantKind.BREAK_GLASS: OppositionScope.BREAK_GLASS,
    GrantKind.SAMU: OppositionScope.SAMU,
}
"""How a record is opened in an emergency, and the switch by which its patient refuses it."""
EMERGENCY_FOR: Final = {
    GrantKind.BREAK_GLASS: timedelta(hours=4),
    GrantKind.SAMU: timedelta(hours=2),
}
CONSENT_FOR: Final = timedelta(hours=24)
"""Outside the care team, consent is asked for each time."""
LONGEST_DELEGATION: Final = timedelta(days=366)
PROFESSIONAL: Final = frozenset(
    {
        GrantKind.CARE_TEAM,
        GrantKind.ATTENDING,
        GrantKind.CONSENT,
        GrantKind.BLOCK,
        *EMERGENCIES,
    }
)
"""Kinds whose holder is a professional (RPPS); the others' is a person registered here."""


class Part(enum.StrEnum):
    """What of a record is asked for, and what a delegation may be limited to."""

    DOCUMENTS = "documents"
    AGENDA = "agenda"


EVERYTHING: Final = frozenset(Part)


class Sight(enum.Enum):
    """What a viewer gets."""

    SHOWN = "shown"
    HIDDEN = "hidden"


class Rule(enum.StrEnum):
    """The rule that decided, for ``pli access check`` and the trail."""

    OWN_RECORD = "own_record"
    REPRESENTATIVE = "representative"
    DELEGATE = "delegate"
    AUTHOR = "author"
    ATTENDING = "attending_physician"
    RECIPIENT = "recipient"
    CARE_TEAM = "care_team"
    CONSENT = "consent"
    BREAK_GLASS = "break_glass"
    SAMU = "samu"
    ANOTHER_RECORD = "another_record"
    ANOTHER_STRUCTURE = "another_structure"
    UNIDENTIFIED = "unidentified"
    CLOSED = "closed_record"
    BLOCKED = "blocked"
    OPPOSED = "opposed_to_opening"
    OCCUPATIONAL = "occupational_physician"
    OUTSIDE_CARE_TEAM = "outside_care_team"
    MAJORITY = "majority"
    OUT_OF_SCOPE = "out_of_scope"
    AWAITING_RELEASE = "awaiting_release"
    INVISIBLE_PATIENT = "invisible_patient"
    INVISIBLE_REPRESENTATIVES = "invisible_representatives"
    MASKED = "masked"
    MATRIX_REFUSED = "matrix_refused"
    MATRIX_UNKNOWN = "matrix_unknown"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a viewer gets, and why."""

    sight: Sight
    rule: Rule

    @property
    def is_shown(self) -> bool:
        """Whether the viewer gets it."""
        return self.sight is Sight.SHOWN


@dataclass(frozen=True, slots=True)
class Grant:
    """What was said about one person and one record.

    Attributes:
        holder: RPPS of a professional; key of a patient for representatives and delegates.
        until: the first instant at which it does not hold; None when no end was said.
        parts: what a delegation covers.
    """

    kind: GrantKind
    holder: str
    since: datetime
    until: datetime | None = None
    parts: frozenset[Part] = EVERYTHING

    def holds(self, at: datetime) -> bool:
        """Whether it is in force."""
        return self.since <= at and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What is known of a record when somebody asks for it.

    Attributes:
        patient_ref: its patient, in the form of ``Viewer.ref``.
        born: the patient's birth date.
        at: now, aware.
        matrix: of habilitations.
        opposed: what the patient opposes now.
        closed: the record is closed: kept, and opened by its patient alone.
    """

    structure_id: str
    patient_ref: str
    born: date
    at: datetime
    matrix: Matrix
    grants: tuple[Grant, ...] = ()
    opposed: frozenset[OppositionScope] = field(default_factory=frozenset)
    closed: bool = False

    def of(self, viewer: Viewer) -> frozenset[GrantKind]:
        """What holds now for this viewer; no grant names nobody."""
        return frozenset(
            grant.kind
            for grant in self.grants
            if viewer.ref and grant.holder == viewer.ref and grant.holds(self.at)
        )


def shown(rule: Rule) -> Decision:
    """A decision that shows."""
    return Decision(Sight.SHOWN, rule)


def hidden(rule: Rule) -> Decision:
    """A decision that hides."""
    return Decision(Sight.HIDDEN, rule)


def majority_day(born: date) -> date:
    """The day on which a person is of age; of 29 February, the 1st of March when there is none."""
    try:
        return born.replace(year=born.year + MAJORITY)
    except ValueError:
        return date(born.year + MAJORITY, 3, 1)


def may_open(record: RecordFacts, viewer: Viewer, part: Part) -> Decision:
    """Whether this viewer may open this record, before any one document is looked at.

    Args:
        record: what is known of it.
        viewer: who asks.
        part: what of it; a delegation may cover less than all.

    Source: RULES §7.
    """
    kind = ViewerKind(viewer.kind)
    match kind:
        case ViewerKind.PATIENT:
            own = bool(viewer.ref) and viewer.ref == record.patient_ref
            return shown(Rule.OWN_RECORD) if own else hidden(Rule.ANOTHER_RECORD)
        case ViewerKind.REPRESENTATIVE:
            return _representative(record, viewer)
        case ViewerKind.DELEGATE:
            return _delegate(record, viewer, part)
        case ViewerKind.PRACTITIONER:
            return refusal(record, viewer) or _basis(record, viewer)
        case _:
            assert_never(kind)


def _representative(record: RecordFacts, viewer: Viewer) -> Decision:
    """Source: MSS-FACTS §6.4 (minors), MSS-FACTS §7.3."""
    if GrantKind.REPRESENTATIVE not in record.of(viewer):
        return hidden(Rule.ANOTHER_RECORD)
    if paris_day(record.at) >= majority_day(record.born):
        return hidden(Rule.MAJORITY)
    return hidden(Rule.CLOSED) if record.closed else shown(Rule.REPRESENTATIVE)


def _delegate(record: RecordFacts, viewer: Viewer, part: Part) -> Decision:
    """Source: MSS-FACTS §7.3 (proche aidant)."""
    if GrantKind.DELEGATE not in record.of(viewer):
        return hidden(Rule.ANOTHER_RECORD)
    if record.closed:
        return hidden(Rule.CLOSED)
    covered = any(
        part in grant.parts
        for grant in record.grants
        if grant.kind is GrantKind.DELEGATE
        and grant.holder == viewer.ref
        and grant.holds(record.at)
    )
    return shown(Rule.DELEGATE) if covered else hidden(Rule.OUT_OF_SCOPE)


def refusal(record: RecordFacts, viewer: Viewer) -> Decision | None:
    """What refuses a professional everything in a record, their own documents included."""
    if viewer.structure_id != record.structure_id:
        return hidden(Rule.ANOTHER_STRUCTURE)
    if not viewer.ref:
        return hidden(Rule.UNIDENTIFIED)
    if record.closed:
        return hidden(Rule.CLOSED)
    if GrantKind.BLOCK in record.of(viewer):
        return hidden(Rule.BLOCKED)
    if OppositionScope.OPENING in record.opposed:
        return hidden(Rule.OPPOSED)
    return None


def _basis(record: RecordFacts, viewer: Viewer) -> Decision:
    """Why a professional may open a record that does not refuse them.

    Source: MSS-FACTS §6.2 (L1110-12: care team; consent each time), MSS-FACTS §6.4 (L1111-17).
    """
    held = record.of(viewer)
    if GrantKind.CONSENT in held:
        return shown(Rule.CONSENT)
    if viewer.specialty in OCCUPATIONAL:
        return hidden(Rule.OCCUPATIONAL)
    if GrantKind.ATTENDING in held:
        return shown(Rule.ATTENDING)
    if GrantKind.CARE_TEAM in held:
        return shown(Rule.CARE_TEAM)
    for kind, rule in ((GrantKind.BREAK_GLASS, Rule.BREAK_GLASS), (GrantKind.SAMU, Rule.SAMU)):
        if kind in held and emergency_refusal(record, viewer, kind) is None:
            return shown(rule)
    return hidden(Rule.OUTSIDE_CARE_TEAM)


def emergency_refusal(record: RecordFacts, viewer: Viewer, kind: GrantKind) -> Decision | None:
    """Why this professional may not open this record in an emergency; None when they may.

    A regulator of the SAMU is a physician; a profession that nobody knows opens nothing.
    """
    refused = refusal(record, viewer)
    if refused is not None:
        return refused
    if EMERGENCIES[kind] in record.opposed:
        return hidden(Rule.OPPOSED)
    if viewer.specialty in OCCUPATIONAL:
        return hidden(Rule.OCCUPATIONAL)
    if not viewer.profession or (kind is GrantKind.SAMU and viewer.profession != PHYSICIAN):
        return hidden(Rule.UNIDENTIFIED)
    return None
