"""Duplicates, replacement and who has the authority to replace.

The bytes stored under an identifier never change, nothing is deleted by a message, and only the
sender and organisation of a version can replace it.

Source: RULES §6, CI-SIS §LPS-MSS (codes 900 and 901).
"""

from dataclasses import dataclass

from record_bridge.formats.cda_header import CdaHeader
from record_bridge.model import ErrorCode, Mark, MayFile, Origin, Problem, Reason
from record_bridge.origin import organization_ids


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who stands behind a version: what authority over it is compared with.

    Attributes:
        domain: authenticated sending domain, lower case, "" when unknown.
        signer: domain of the verified organisation signer, "" without a good signature.
        organizations: national identifiers of custodian and authors' organisations.
        may_replace: False for what was forwarded.
    """

    domain: str
    signer: str
    organizations: frozenset[str]
    may_replace: bool = True


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document about to be filed for a patient who was found."""

    unique_id: str
    sha256: bytes
    patient_id: int
    parent_unique_id: str | None
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A document of the structure's records.

    Attributes:
        is_latest: no stored document replaces it, and it is not withdrawn.
        ancestors: unique ids of the versions it replaces, nearest first.
    """

    unique_id: str
    sha256: bytes
    patient_id: int
    is_latest: bool
    provenance: Provenance
    ancestors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplacementFacts:
    """What the structure's records hold around an incoming document.

    Attributes:
        same: the stored document with the same unique id.
        parent: the stored document it says it replaces.
        parent_in_quarantine: that document waits in quarantine.
        successor: a stored document that says it replaces the incoming one.
    """

    same: StoredVersion | None = None
    parent: StoredVersion | None = None
    parent_in_quarantine: bool = False
    successor: StoredVersion | None = None


@dataclass(frozen=True, slots=True)
class FileCurrent:
    """File it as the current version, in place of ``replaces`` when there is one."""

    replaces: str | None = None
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class FileSuperseded:
    """File it in the history only: its replacement came first. No agenda, no notice.

    What it replaces itself goes behind it.
    """

    superseded_by: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Same identifier, same bytes: absorbed."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not filed; ``alarm`` asks for a person's attention at once."""

    problem: Problem
    alarm: bool = False


_WAITS = Problem(ErrorCode.OTHER, Reason.PARENT_IN_QUARANTINE)


@dataclass(frozen=True, slots=True)
class WaitForParent:
    """Goes into quarantine with the version it replaces, and leaves it with it."""

    problem: Problem = _WAITS


Decision = FileCurrent | FileSuperseded | Duplicate | Refuse | WaitForParent


def provenance_of(origin: Origin, right: MayFile, header: CdaHeader) -> Provenance:
    """Who stands behind an incoming document.

    Source: RULES §6.
    """
    return Provenance(
        domain=origin.domain,
        signer=(origin.signer or "").rpartition("@")[2],
        organizations=organization_ids(header),
        may_replace=right.may_replace,
    )


def has_authority(by: Provenance, over: Provenance) -> bool:
    """Whether a sender may replace, withdraw or change the visibility of a stored version.

    Source: RULES §6 (same sending domain or verified organisation signer, and same custodian or
    author organisation).
    """
    same_origin = bool(by.domain) and by.domain == over.domain
    same_signer = bool(by.signer) and by.signer in (over.signer, over.domain)
    same_organization = bool(by.organizations & over.organizations)
    return by.may_replace and (same_origin or same_signer) and same_organization


def decide(incoming: Incoming, facts: ReplacementFacts) -> Decision:
    """What to do with a document whose patient was found.

    Source: RULES §6.
    """
    if facts.same is not None:
        if facts.same.sha256 == incoming.sha256:
            # A person moved it to somebody else's record: only a person says whose it is now.
            if facts.same.patient_id != incoming.patient_id:
                return _refuse(ErrorCode.OTHER, Reason.TAKEN_OUT)
            return Duplicate()
        return _refuse(ErrorCode.OTHER, Reason.SAME_ID_OTHER_BYTES, alarm=True)
    marks: tuple[Mark, ...] = ()
    parent = facts.parent
    if incoming.parent_unique_id is not None:
        refusal = _refusal(incoming, facts)
        if refusal is not None:
            return refusal
        if parent is None:
            marks = (Mark.REPLACES_UNKNOWN,)
    successor = facts.successor
    # A stranger's claim to replace what had not come yet must not bury it when it does come.
    if (
        successor is not None
        and successor.patient_id == incoming.patient_id
        and has_authority(successor.provenance, incoming.provenance)
    ):
        return FileSuperseded(successor.unique_id, marks)
    return FileCurrent(parent.unique_id if parent is not None else None, marks)


def _refusal(incoming: Incoming, facts: ReplacementFacts) -> Refuse | WaitForParent | None:
    """Why a document may not replace what it names; None when it may, or when it is unknown."""
    if incoming.parent_unique_id == incoming.unique_id:
        return _refuse(ErrorCode.OTHER, Reason.REPLACEMENT_LOOP)
    parent = facts.parent
    if parent is None:
        return WaitForParent() if facts.parent_in_quarantine else None
    if parent.patient_id != incoming.patient_id:
        return _refuse(ErrorCode.OTHER, Reason.PARENT_OF_ANOTHER_PATIENT)
    if incoming.unique_id in parent.ancestors:
        return _refuse(ErrorCode.OTHER, Reason.REPLACEMENT_LOOP)
    if not has_authority(incoming.provenance, parent.provenance):
        return _refuse(ErrorCode.AUTHOR_NOT_ALLOWED, Reason.NOT_THE_AUTHOR)
    if not parent.is_latest:
        return _refuse(ErrorCode.WRONG_VERSION, Reason.NOT_THE_LATEST)
    return None


def _refuse(code: ErrorCode, reason: Reason, *, alarm: bool = False) -> Refuse:
    return Refuse(Problem(code, reason), alarm=alarm)
