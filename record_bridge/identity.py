"""Who a document is about: the first condition of RULES §5 that holds decides.

A name, a subject or an address never files anything: only matricule and OID find the patient,
and every strict trait must then agree. Both steps are pure: `claim_of` reads what a document
says (in the sandbox), `match` holds it against the structure's identities.

Source: RULES §5, CI-SIS §LPS-MSS.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from record_bridge.errors import InsError
from record_bridge.formats.cda_header import INS_ROOTS, CdaHeader, CdaPatient
from record_bridge.formats.xds_metadata import DocumentEntry, SubmissionSet, parse_cx
from record_bridge.ins import TEST_OIDS, is_birth_place, parse_ins
from record_bridge.model import (
    Claim,
    Doubt,
    Environment,
    ErrorCode,
    IdentityStatus,
    InsIdentity,
    InsMatricule,
    InsTraits,
    Match,
    Matched,
    Problem,
    Reason,
    Sex,
    Unknown,
)

_EIGHT_DIGITS: Final = re.compile(r"\d{8}", re.ASCII)
_AS_SPACE: Final = dict.fromkeys(map(ord, "-‐‑‒–—−'’‘ʼʹ´`"), " ")
_LIGATURES: Final = str.maketrans({"Œ": "OE", "Æ": "AE"})


def normalise_name(name: str) -> str:
    """The form in which names compare: upper case, no accents, hyphen and apostrophe as space.

    ``O'BRIEN`` equals ``O BRIEN`` and differs from ``OBRIEN``.

    Source: RULES §5.
    """
    spaced = name.translate(_AS_SPACE)
    plain = (c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c))
    return " ".join("".join(plain).upper().translate(_LIGATURES).split())


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same by the rule of comparison.

    Source: RULES §5.
    """
    return normalise_name(one) == normalise_name(other)


def claim_of(
    header: CdaHeader, entry: DocumentEntry, package: SubmissionSet, environment: Environment
) -> Claim:
    """Who one document says it is about.

    Args:
        header: of the document.
        entry: its entry in the package's metadata.
        package: the whole metadata (its set names a patient too).
        environment: of the site: production refuses test authorities.

    Source: RULES §5, first, second and third condition.
    """
    if len(header.patients) > 1:
        return _bad(Reason.TWO_PATIENTS)
    if not header.patients:
        return Claim(None, None)
    patient = header.patients[0]
    named = [parse_cx(text) for text in (entry.patient_id, package.patient_id) if text.strip()]
    source = parse_cx(entry.source_patient_id)
    if source[1] in INS_ROOTS:
        named.append(source)
    numbers = numbers_of(patient)
    ins = numbers[0] if len(numbers) == 1 else None
    if environment is Environment.PRODUCTION and any(
        oid in TEST_OIDS for oid in (*(i.root for i in patient.ids), *(oid for _, oid in named))
    ):
        return _bad(Reason.TEST_IDENTITY, ins)
    if len(numbers) > 1:
        return _bad(Reason.TWO_INS)
    if not all(_names(patient, *name) for name in named):
        return _bad(Reason.METADATA_PATIENT_DIFFERS, ins)
    if ins is not None:
        try:
            ins = parse_ins(ins.value, ins.oid, environment)
        except InsError:
            return _bad(Reason.INS_KEY, ins)
    return Claim(ins, traits_of(patient))


def numbers_of(patient: CdaPatient) -> tuple[InsMatricule, ...]:
    """The INS that a document gives a person, each once, as they are written there."""
    return tuple(
        dict.fromkeys(
            InsMatricule(_compact(i.extension), i.root) for i in patient.ins_ids if i.extension
        )
    )


def match(claim: Claim, identities: Sequence[InsIdentity]) -> Match:
    """The patient of a document, or why there is none.

    Args:
        claim: who the document says it is about.
        identities: the receiving structure's, at least all with the claim's matricule and OID,
            of any status.

    Source: RULES §5.
    """
    if claim.problem is not None:
        return Doubt(claim.problem)
    if claim.ins is None:
        return Doubt(Problem(ErrorCode.NO_INS, Reason.INS_ABSENT))
    if claim.traits is None:
        return Doubt(Problem(ErrorCode.INS_INCOMPLETE, Reason.TRAITS_MISSING))
    found = [i for i in identities if i.ins == claim.ins and i.status is IdentityStatus.QUALIFIEE]
    if not found:
        return Unknown()
    local = found[0]
    differing = _difference(claim.traits, local.traits)
    if differing is not None:
        return Doubt(Problem(ErrorCode.TRAITS_DIFFER, differing))
    # The schema forbids two identities under one number; if there are two, a person looks.
    if local.doubtful or local.fictitious or len(found) > 1:
        return Doubt(Problem(ErrorCode.OTHER, Reason.IDENTITY_DOUBTFUL))
    return Matched(local.patient_id)


def one_patient(claims: Sequence[Claim]) -> Problem | None:
    """The problem of a message that names several patients; None for one or none.

    Source: RULES §5 (one patient per message), MSS-LPS §ECO.2.1.1.
    """
    named: set[InsMatricule] = {claim.ins for claim in claims if claim.ins is not None}
    return Problem(ErrorCode.OTHER, Reason.TWO_PATIENTS) if len(named) > 1 else None


def _bad(reason: Reason, ins: InsMatricule | None = None) -> Claim:
    return Claim(ins, None, Problem(ErrorCode.OTHER, reason))


def _compact(text: str) -> str:
    return "".join(text.split()).upper()


def _names(patient: CdaPatient, number: str, oid: str) -> bool:
    """Whether an identifier of the metadata is one of the patient's."""
    number = _compact(number)
    return any(_compact(i.extension) == number and (not oid or i.root == oid) for i in patient.ids)


def traits_of(patient: CdaPatient) -> InsTraits | None:
    """The strict traits, None when one is missing, partial or given twice differently."""
    families = {normalise_name(name): name for name in patient.birth_families}
    givens = {normalise_name(name): name for name in patient.first_givens}
    whole = len(families) == 1 and len(givens) == 1 and "" not in families and "" not in givens
    if not whole or _EIGHT_DIGITS.fullmatch(patient.birth_time or "") is None:
        return None
    try:
        sex = Sex(patient.sex)
    except ValueError:
        return None
    place = patient.birth_place.strip().upper()
    return InsTraits(
        birth_family=next(iter(families.values())),
        first_birth_given=next(iter(givens.values())),
        birth_date=patient.birth_time or "",
        sex=sex,
        birth_place=place if is_birth_place(place) else None,
    )


def differences(claimed: InsTraits, local: InsTraits) -> tuple[str, ...]:
    """The traits in which two identities differ, for the person who compares them.

    A birth place that one side does not have differs from nothing.
    """
    found = []
    if not same_name(claimed.birth_family, local.birth_family):
        found.append("family")
    if not same_name(claimed.first_birth_given, local.first_birth_given):
        found.append("given")
    if claimed.birth_date != local.birth_date:
        found.append("birth_date")
    if claimed.sex is not local.sex:
        found.append("sex")
    if len({place for place in (claimed.birth_place, local.birth_place) if place}) > 1:
        found.append("birth_place")
    return tuple(found)


def _difference(claimed: InsTraits, local: InsTraits) -> Reason | None:
    found = differences(claimed, local)
    if not found:
        return None
    return Reason.BIRTH_PLACE_DIFFERS if found == ("birth_place",) else Reason.TRAITS_DIFFER
