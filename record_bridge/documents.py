"""One package into one record, or into quarantine: every rule, in the order in which it decides.

Runs inside the filing transaction, under a savepoint: the documents of a package are put one
after the other, so that each is judged on what is really there (another of the same package
included), and the first problem takes them all out again.

Order: the package itself, the origin (RULES §4), the person (§5), the patient's own mailbox,
duplicates and versions (§6), visibility (§7), agenda (§8).
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from directory.codes import class_of
from directory.model import Structure
from record_bridge import (
    agenda,
    identity_storing,
    origin,
    quarantine,
    release_storing,
    replacement,
    storing,
    version_masks,
    visibility,
)
from record_bridge.formats.cda_header import CdaHeader
from record_bridge.formats.dtm import parse_dtm
from record_bridge.identity import match as match_identity
from record_bridge.model import (
    Claim,
    DocumentStatus,
    Environment,
    ErrorCode,
    Mark,
    Matched,
    MayFile,
    MayNotFile,
    Opened,
    OpenedDocument,
    OpenedPackage,
    Origin,
    Outcome,
    Problem,
    Reason,
)
from record_bridge.quarantine import Waiting
from record_bridge.repository import Archived, archive

_TITLE_CHARACTERS = 250


@dataclass(frozen=True, slots=True)
class Decided:
    """A person says whose document it is; what the rules leave to no person stays so."""

    patient_id: int
    closing: quarantine.Closing


@dataclass(frozen=True, slots=True)
class Package:
    """One package of a message, with what decides about it.

    Attributes:
        message_problem: holds for every package of the message.
        recipient_ids: RPPS of the professionals whose mailboxes it was delivered to.
        again: judged again after a patient was registered or corrected.
        decided: the patient whom a person names, ``again``.
    """

    structure: Structure
    environment: Environment
    opened: Opened
    package: OpenedPackage
    origin: Origin
    receipt: str
    first_position: int
    message_problem: Problem | None
    recipient_ids: frozenset[str]
    again: bool
    received_at: datetime
    at: datetime
    decided: Decided | None = None

    @property
    def occurrences(self) -> int:
        """How many occurrences it counts for (RULES §2)."""
        return max(len(self.package.documents), 1)

    @property
    def patient_addresses(self) -> tuple[str, ...]:
        """The patients' mailboxes that the message was addressed to."""
        ending = "@" + self.structure.patient_domain
        return tuple(each for each in self.opened.delivered_to if each.endswith(ending))


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a package: outcomes in the order of its occurrences.

    Attributes:
        problem: why all of it waits; then ``waiting`` holds its rows.
        filed: unique ids of what is in a record now because of it.
        hidden: something of it is not shown to its patient.
        settled: nothing was done now; its outcomes are those of an earlier time.
    """

    outcomes: tuple[tuple[Outcome, ErrorCode | None], ...]
    problem: Problem | None = None
    waiting: tuple[Waiting, ...] = ()
    filed: tuple[str, ...] = ()
    hidden: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Outcome
    hidden: bool


def put_package(connection: sqlite3.Connection, package: Package) -> Put:
    """File a whole package, or say why it waits.

    One that is judged again and of which nothing waits any more, because it was filed, or closed
    by a person, is left as it is.
    """
    places = range(package.first_position, package.first_position + package.occurrences)
    message = (package.structure.id, package.receipt)
    if package.again and not quarantine.is_waiting(connection, message, places):
        outcomes, hidden = release_storing.placed(connection, message, places)
        return Put(tuple((each, None) for each in outcomes), hidden=hidden, settled=True)
    problem = package.package.worst or package.message_problem
    if problem is not None or not package.package.documents:
        return _waits(
            package, problem or Problem(ErrorCode.OTHER, Reason.PACKAGE_UNREADABLE), None
        )
    connection.execute("SAVEPOINT package")
    done: list[_Done] = []
    refused: Problem | None = None
    for place, document in enumerate(package.package.documents):
        result = _put_document(connection, package, place, document)
        if isinstance(result, Problem):
            refused = result
            connection.execute("ROLLBACK TO package")
            break
        done.append(result)
    connection.execute("RELEASE package")
    if refused is not None:
        return _waits(package, refused, package.package.documents[len(done)])
    if package.again:
        for place, each in enumerate(done):
            quarantine.settle(
                connection,
                (package.structure.id, package.receipt, package.first_position + place),
                each.outcome,
                quarantine.Closing(package.at)
                if package.decided is None
                else package.decided.closing,
            )
    return Put(
        outcomes=tuple((each.outcome, None) for each in done),
        filed=tuple(
            document.unique_id
            for document, each in zip(package.package.documents, done, strict=True)
            if each.outcome is Outcome.FILED
        ),
        hidden=any(each.hidden for each in done),
    )


def _waits(package: Package, problem: Problem, culprit: OpenedDocument | None) -> Put:
    """The rows of a package that is not filed: one bad document sends all of it (RULES §2)."""
    documents = package.package.documents
    rows: tuple[Waiting, ...]
    if not documents:
        rows = (Waiting(package.first_position, "", None, problem, None),)
    else:
        rows = tuple(
            Waiting(
                position=package.first_position + place,
                unique_id=document.unique_id,
                parent_unique_id=_parent_of(document),
                problem=_own_problem(document, problem, culprit),
                ins=document.claim.ins,
                type_code="" if document.header is None else document.header.code,
            )
            for place, document in enumerate(documents)
        )
    return Put(
        outcomes=tuple((Outcome.QUARANTINED, problem.code) for _ in rows),
        problem=problem,
        waiting=rows,
    )


def _own_problem(
    document: OpenedDocument, problem: Problem, culprit: OpenedDocument | None
) -> Problem:
    if document.problem is not None:
        return document.problem
    if culprit is None or document is culprit:
        return problem
    return Problem(problem.code, Reason.OTHER_DOCUMENT_BAD)


def _parent_of(document: OpenedDocument) -> str | None:
    return None if document.header is None else document.header.parent_unique_id


def _put_document(
    connection: sqlite3.Connection, package: Package, place: int, document: OpenedDocument
) -> _Done | Problem:
    header = document.header
    if header is None:
        return Problem(ErrorCode.OTHER, Reason.DOCUMENT_UNREADABLE)
    right = origin.decide(package.origin, package.opened.verdict, header)
    if package.decided is not None and isinstance(right, MayNotFile):
        right = _on_a_persons_word(right)
    if not isinstance(right, MayFile):
        return getattr(right, "problem", Problem(ErrorCode.OTHER, Reason.FROM_A_PATIENT))
    patient = _patient(connection, package, document)
    if isinstance(patient, Problem):
        return patient
    return _put_version(connection, package, place, _Judged(document, header, right, patient))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A document that may be filed for a patient who was found."""

    document: OpenedDocument
    header: CdaHeader
    right: MayFile
    patient: identity_storing.LocalPatient


def _patient(
    connection: sqlite3.Connection, package: Package, document: OpenedDocument
) -> identity_storing.LocalPatient | Problem:
    """The one patient of the structure, whose mailbox is the one that was addressed, if any."""
    claim = document.claim
    if package.decided is not None:
        return _fits(
            connection,
            package,
            identity_storing.local(connection, package.decided.patient_id),
            claim,
        )
    found = (
        []
        if claim.ins is None
        else identity_storing.candidates(connection, package.structure.id, claim.ins)
    )
    matched = match_identity(claim, [each.identity for each in found])
    if not isinstance(matched, Matched):
        return matched.problem
    local = next(each for each in found if each.identity.patient_id == matched.patient_id)
    return _takes(connection, package, local)


def _takes(
    connection: sqlite3.Connection, package: Package, local: identity_storing.LocalPatient
) -> identity_storing.LocalPatient | Problem:
    """Hold a patient against the mailboxes addressed, a closed record, and what they oppose."""
    if not local.addresses.issuperset(package.patient_addresses):
        return Problem(ErrorCode.OTHER, Reason.PATIENT_MAILBOX_DIFFERS)
    if identity_storing.is_closed(connection, local.record_id):
        return Problem(ErrorCode.OTHER, Reason.RECORD_CLOSED)
    if identity_storing.is_opposed(connection, local.record_id):
        return Problem(ErrorCode.OTHER, Reason.PATIENT_OPPOSED)
    return local


def _fits(
    connection: sqlite3.Connection,
    package: Package,
    local: identity_storing.LocalPatient,
    claim: Claim,
) -> identity_storing.LocalPatient | Problem:
    """Whether a person may say that a document is this patient's.

    Traits are theirs to judge; a number is not: a document that bears an INS goes to the record
    that has it, or nowhere.
    """
    if claim.ins is not None and claim.ins not in identity_storing.numbers_of_record(
        connection, local.record_id
    ):
        return Problem(ErrorCode.UNKNOWN_PATIENT, Reason.PATIENT_UNKNOWN)
    return _takes(connection, package, local)


_FOR_A_PERSON = frozenset(
    {Reason.ORIGIN_UNTRUSTED, Reason.FROM_NOT_THE_SENDER, Reason.NOT_OF_STRUCTURE}
)
"""Doubts about where a message came from that somebody may lift who knows its sender."""


def _on_a_persons_word(right: MayNotFile) -> MayFile | MayNotFile:
    if right.problem.reason not in _FOR_A_PERSON:
        return right
    return MayFile(may_replace=False)


def _put_version(
    connection: sqlite3.Connection, package: Package, place: int, judged: _Judged
) -> _Done | Problem:
    """Decide between new, duplicate, newer and older version on what is stored (RULES §6)."""
    structure_id, document = package.structure.id, judged.document
    parent_id = judged.header.parent_unique_id
    provenance = replacement.provenance_of(package.origin, judged.right, judged.header)
    incoming = replacement.Incoming(
        document.unique_id,
        document.sha256,
        judged.patient.record_id,
        parent_id,
        provenance,
    )
    same = storing.stored(connection, structure_id, document.unique_id)
    if same is not None and not same.is_in_a_record:
        return Problem(ErrorCode.OTHER, Reason.TAKEN_OUT)
    parent = None if parent_id is None else storing.stored(connection, structure_id, parent_id)
    if parent is not None and not parent.is_in_a_record:
        parent = None  # it waits, and so does what replaces it
    successor = _successor(connection, structure_id, incoming)
    decision = replacement.decide(
        incoming,
        replacement.ReplacementFacts(
            same=None if same is None else same.version,
            parent=None if parent is None else parent.version,
            parent_in_quarantine=parent is None
            and parent_id is not None
            and storing.in_quarantine(connection, structure_id, parent_id, package.receipt),
            successor=None if successor is None else successor.version,
        ),
    )
    match decision:
        case replacement.Refuse() | replacement.WaitForParent():
            return decision.problem
        case replacement.Duplicate():
            assert same is not None  # noqa: S101 - a duplicate is one of something
            position = package.first_position + place
            storing.put_duplicate(
                connection, same, (structure_id, package.receipt, position, package.at)
            )
            hidden = not visibility.is_visible_to_patient(same.visibility)
            return _Done(Outcome.DUPLICATE, hidden)
        case replacement.FileCurrent():
            versions = _Versions(decision.marks, replaces=parent)
        case replacement.FileSuperseded():
            versions = _Versions(decision.marks, replaces=parent, superseded_by=successor)
    return _file(connection, package, place, judged, versions)


@dataclass(frozen=True, slots=True)
class _Versions:
    """Where a new document stands among the others of its history; both, when it came late."""

    marks: tuple[Mark, ...]
    replaces: storing.StoredDocument | None = None
    superseded_by: storing.StoredDocument | None = None


def _successor(
    connection: sqlite3.Connection, structure_id: str, incoming: replacement.Incoming
) -> storing.StoredDocument | None:
    """What came before and says it replaces the incoming one: one with authority if any."""
    found = storing.children(connection, structure_id, incoming.unique_id)
    entitled = (
        each
        for each in found
        if each.version.patient_id == incoming.patient_id
        and replacement.has_authority(each.version.provenance, incoming.provenance)
    )
    return next(entitled, found[0] if found else None)


def _file(
    connection: sqlite3.Connection,
    package: Package,
    place: int,
    judged: _Judged,
    versions: _Versions,
) -> _Done:
    document, header, structure = judged.document, judged.header, package.structure
    marks = {*judged.right.marks, *versions.marks}
    if package.decided is not None:
        marks.add(Mark.FILED_BY_PERSON)
    elif package.again:
        marks.add(Mark.FILED_AFTER_REGISTRATION)
    effective = parse_dtm(header.effective_time)
    codes = (*(code.code for code in document.entry.confidentiality), header.confidentiality)
    states = visibility.on_filing(
        codes,
        addressed_to_patient=not judged.patient.addresses.isdisjoint(package.opened.delivered_to),
    )
    # What a person masked waits for its delay again once they lift the mask.
    release_at = visibility.release_at(
        header.code, states, package.at, structure.release_delay_days
    )
    masks = storing.masks_set_here(connection, versions.replaces)
    masks |= storing.masks_set_here(connection, versions.superseded_by)
    for mask in masks:
        states = visibility.masked(states, mask)
    successor = versions.superseded_by
    document_id = storing.put_document(
        connection,
        storing.NewDocument(
            structure_id=structure.id,
            patient_id=judged.patient.record_id,
            identity_id=judged.patient.identity.patient_id,
            opened=document,
            status=DocumentStatus.CURRENT if successor is None else DocumentStatus.SUPERSEDED,
            superseded_by=None if successor is None else successor.id,
            parent_unique_id=header.parent_unique_id,
            visibility=states,
            masked_here=masks,
            release_at=release_at,
            marks=frozenset(marks),
            class_code=document.entry.class_code.code or class_of(header.code),
            type_code=header.code,
            title=(header.title or document.entry.title or header.code_display)[
                :_TITLE_CHARACTERS
            ],
            effective_at=None if effective is None else effective.start,
            sender=package.opened.from_address or package.origin.address,
            provenance=replacement.provenance_of(package.origin, judged.right, header),
            recipient_ids=package.recipient_ids,
            forwarded_by=package.origin.forwarded_by or "",
            package_id=archive(
                connection,
                Archived(structure.id, "package", package.package.content, package.received_at),
            ),
            receipt=package.receipt,
            position=package.first_position + place,
            received_at=package.received_at,
            at=package.at,
        ),
    )
    if successor is None:
        entries = agenda.entries(
            document.acts,
            agenda.AgendaContext(
                package.received_at, None if effective is None else effective.day
            ),
        )
        storing.put_agenda(
            connection,
            (structure.id, judged.patient.record_id, document_id),
            entries,
            package.at,
        )
    if versions.replaces is not None:
        storing.supersede(connection, versions.replaces.id, document_id)
    for mask in masks:  # it may have come between two that did not know each other
        version_masks.mask_others(connection, document_id, mask)
    return _Done(Outcome.FILED, not visibility.is_visible_to_patient(states))
