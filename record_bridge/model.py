"""Values shared by the rules of filing and by the services that apply them.

Everything here is frozen, slotted and picklable (it crosses the sandbox's border). What comes
from a sender is kept as text; what Pli decided is an enum. French appears only in labels that
people read.

Source: RULES §4 to §9, CI-SIS §LPS-MSS.
"""

import enum
from dataclasses import dataclass
from datetime import date, datetime

from certs.verdict import SignatureVerdict
from record_bridge.formats.auth_results import AuthResults
from record_bridge.formats.cda_header import CdaHeader
from record_bridge.formats.xds_metadata import DocumentEntry

# --- codes and reasons -----------------------------------------------------------------------


class ErrorCode(enum.IntEnum):
    """Why a document was not filed, in the words of the national acknowledgement.

    Source: CI-SIS §LPS-MSS (volet "Transmission au LPS d'un CDA reçu par courriel MSS").
    """

    WRONG_VERSION = 900
    AUTHOR_NOT_ALLOWED = 901
    UNKNOWN_PATIENT = 902
    NO_INS = 903
    TRAITS_DIFFER = 904
    INS_INCOMPLETE = 905
    OTHER = 906

    @property
    def label(self) -> str:
        """The French label that goes with the code."""
        return _LABELS[self]


_LABELS = {
    ErrorCode.WRONG_VERSION: "Le document à remplacer n'est pas la dernière version",
    ErrorCode.AUTHOR_NOT_ALLOWED: "Auteur non autorisé",
    ErrorCode.UNKNOWN_PATIENT: "Identifiant de patient inconnu",
    ErrorCode.NO_INS: "INS absente",
    ErrorCode.TRAITS_DIFFER: "INS ou traits différents de l'identité locale",
    ErrorCode.INS_INCOMPLETE: "INS incomplète",
    ErrorCode.OTHER: "Autre erreur",
}


class Reason(enum.Enum):
    """What exactly stood in the way; shown to the professional, never sent to the sender."""

    PACKAGE_UNREADABLE = "package_unreadable"
    METADATA_UNREADABLE = "metadata_unreadable"
    DOCUMENT_MISSING = "document_missing"
    DOCUMENT_UNREADABLE = "document_unreadable"
    HASH_DIFFERS = "hash_differs"
    SIZE_DIFFERS = "size_differs"
    ID_DIFFERS = "id_differs"
    OTHER_DOCUMENT_BAD = "other_document_bad"
    OPENING_FAILED = "opening_failed"
    MESSAGE_AMBIGUOUS = "message_ambiguous"
    SIGNATURE_BAD = "signature_bad"
    ORIGIN_UNTRUSTED = "origin_untrusted"
    FROM_NOT_THE_SENDER = "from_not_the_sender"
    NOT_OF_STRUCTURE = "not_of_structure"
    FROM_A_PATIENT = "from_a_patient"
    TWO_PATIENTS = "two_patients"
    TWO_INS = "two_ins"
    METADATA_PATIENT_DIFFERS = "metadata_patient_differs"
    TEST_IDENTITY = "test_identity"
    INS_KEY = "ins_key"
    INS_ABSENT = "ins_absent"
    TRAITS_MISSING = "traits_missing"
    PATIENT_UNKNOWN = "patient_unknown"
    TRAITS_DIFFER = "traits_differ"
    BIRTH_PLACE_DIFFERS = "birth_place_differs"
    IDENTITY_DOUBTFUL = "identity_doubtful"
    SAME_ID_OTHER_BYTES = "same_id_other_bytes"
    NOT_THE_LATEST = "not_the_latest"
    NOT_THE_AUTHOR = "not_the_author"
    PARENT_OF_ANOTHER_PATIENT = "parent_of_another_patient"
    REPLACEMENT_LOOP = "replacement_loop"
    PARENT_IN_QUARANTINE = "parent_in_quarantine"
    PATIENT_MAILBOX_DIFFERS = "patient_mailbox_differs"
    PATIENT_OPPOSED = "patient_opposed"
    RECORD_CLOSED = "record_closed"
    WITHDRAWAL_ASKED = "withdrawal_asked"
    TAKEN_OUT = "taken_out"

    @property
    def label(self) -> str:
        """The reason in French, for the professional who decides."""
        return _REASONS[self]


_REASONS = {
    Reason.PACKAGE_UNREADABLE: "archive IHE_XDM.zip illisible ou dangereuse",
    Reason.METADATA_UNREADABLE: "METADATA.XML illisible",
    Reason.DOCUMENT_MISSING: "document annoncé mais absent de l'archive",
    Reason.DOCUMENT_UNREADABLE: "document illisible",
    Reason.HASH_DIFFERS: "empreinte différente de celle annoncée",
    Reason.SIZE_DIFFERS: "taille différente de celle annoncée",
    Reason.ID_DIFFERS: "identifiant du document différent de celui annoncé",
    Reason.OTHER_DOCUMENT_BAD: "un autre document du même envoi n'a pas pu être intégré",
    Reason.OPENING_FAILED: "l'ouverture du message a échoué",
    Reason.MESSAGE_AMBIGUOUS: "message qui peut se lire de deux façons",
    Reason.SIGNATURE_BAD: "signature du message non valable",
    Reason.ORIGIN_UNTRUSTED: "origine du message non établie",
    Reason.FROM_NOT_THE_SENDER: "l'auteur affiché n'est pas de l'opérateur qui a envoyé",
    Reason.NOT_OF_STRUCTURE: "auteur et conservateur étrangers à la structure de l'expéditeur",
    Reason.FROM_A_PATIENT: "message d'un usager",
    Reason.TWO_PATIENTS: "plusieurs patients dans le même envoi",
    Reason.TWO_INS: "plusieurs matricules INS pour un patient",
    Reason.METADATA_PATIENT_DIFFERS: "patient différent entre METADATA.XML et le document",
    Reason.TEST_IDENTITY: "identité de test refusée sur un site de production",
    Reason.INS_KEY: "clé du matricule INS erronée",
    Reason.INS_ABSENT: "aucun matricule INS",
    Reason.TRAITS_MISSING: "traits d'identité absents ou partiels",
    Reason.PATIENT_UNKNOWN: "aucune identité qualifiée avec ce matricule",
    Reason.TRAITS_DIFFER: "traits différents de l'identité locale",
    Reason.BIRTH_PLACE_DIFFERS: "lieu de naissance différent de l'identité locale",
    Reason.IDENTITY_DOUBTFUL: "identité locale douteuse ou fictive",
    Reason.SAME_ID_OTHER_BYTES: "même identifiant de document, contenu différent",
    Reason.NOT_THE_LATEST: "la version à remplacer n'est pas la dernière",
    Reason.NOT_THE_AUTHOR: "l'expéditeur n'a pas autorité sur le document à remplacer",
    Reason.PARENT_OF_ANOTHER_PATIENT: "le document à remplacer est celui d'un autre patient",
    Reason.REPLACEMENT_LOOP: "remplacement circulaire",
    Reason.PARENT_IN_QUARANTINE: "le document à remplacer est en quarantaine",
    Reason.PATIENT_MAILBOX_DIFFERS: "la boîte de l'usager n'est pas celle du patient",
    Reason.PATIENT_OPPOSED: "le patient s'oppose au dépôt de documents dans son dossier",
    Reason.RECORD_CLOSED: "le dossier de ce patient est fermé",
    Reason.WITHDRAWAL_ASKED: "l'expéditeur demande le retrait du document",
    Reason.TAKEN_OUT: "document sorti d'un dossier où il avait été intégré par erreur",
}


class Mark(enum.Enum):
    """A remark that stays with a filed document."""

    SIGNATURE_UNVERIFIABLE = "signature_unverifiable"
    OTHER_SENDER = "other_sender"
    FORWARDED = "forwarded"
    REPLACES_UNKNOWN = "replaces_unknown"
    FILED_AFTER_REGISTRATION = "filed_after_registration"
    FROM_PATIENT = "from_patient"
    FILED_BY_PERSON = "filed_by_person"
    FILED_BY_HAND = "filed_by_hand"
    IMPORTED = "imported"

    @property
    def label(self) -> str:
        """The mark in French."""
        return _MARKS[self]


_MARKS = {
    Mark.SIGNATURE_UNVERIFIABLE: "signature non vérifiable",
    Mark.OTHER_SENDER: "expéditeur différent",
    Mark.FORWARDED: "transféré par un professionnel de la structure",
    Mark.REPLACES_UNKNOWN: "remplace un document non reçu ici",
    Mark.FILED_AFTER_REGISTRATION: "intégré après l'enregistrement du patient",
    Mark.FROM_PATIENT: "déposé par l'usager",
    Mark.FILED_BY_PERSON: "intégré sur décision d'un professionnel",
    Mark.FILED_BY_HAND: "reçu par message, rangé par un professionnel",
    Mark.IMPORTED: "repris d'une archive, non vérifié ici",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not filed: the code for the sender, the reason for the professional."""

    code: ErrorCode
    reason: Reason


# --- identity --------------------------------------------------------------------------------


class Environment(enum.Enum):
    """What a site is, from ``init`` on."""

    TEST = "test"
    PRODUCTION = "production"


class Sex(enum.Enum):
    """Administrative sex as the INS carries it (HL7 2.16.840.1.113883.5.1)."""

    MALE = "M"
    FEMALE = "F"
    UNKNOWN = "U"


class IdentityStatus(enum.Enum):
    """How far an identity was checked here; only a qualified one takes documents."""

    PROVISOIRE = "provisoire"
    RECUPEREE = "recuperee"
    VALIDEE = "validee"
    QUALIFIEE = "qualifiee"


@dataclass(frozen=True, slots=True)
class InsMatricule:
    """The number and the OID of its authority; both together are the key of a patient.

    Attributes:
        value: fifteen characters, upper case (see `record_bridge.ins.parse_matricule`).
        oid: assigning authority, dotted.
    """

    value: str
    oid: str


@dataclass(frozen=True, slots=True)
class InsTraits:
    """The strict traits, as written by their source (compare with `identity.same_name`).

    Attributes:
        birth_date: eight digits AAAAMMJJ.
        birth_place: INSEE code of the commune or country (five characters), None when unknown.
    """

    birth_family: str
    first_birth_given: str
    birth_date: str
    sex: Sex
    birth_place: str | None = None


@dataclass(frozen=True, slots=True)
class InsIdentity:
    """A patient's identity as one structure keeps it (the local side of a match).

    Attributes:
        patient_id: the record database's key.
    """

    patient_id: int
    ins: InsMatricule
    traits: InsTraits
    status: IdentityStatus
    doubtful: bool = False
    fictitious: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a document says it is about; what is missing is None, what conflicts is a problem.

    Attributes:
        ins: the one INS named by the document, None when it names none or several; with a
            problem it is as written, for the professional who decides.
        traits: the strict traits when all are there, None when one is missing or partial.
        problem: an answer of 906 that holds whatever the local identities are.
    """

    ins: InsMatricule | None
    traits: InsTraits | None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """The one local patient whom the document is about."""

    patient_id: int


_UNKNOWN = Problem(ErrorCode.UNKNOWN_PATIENT, Reason.PATIENT_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No qualified identity of the structure has this matricule and OID (902)."""

    problem: Problem = _UNKNOWN


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something does not hold together; a person decides."""

    problem: Problem


Match = Matched | Doubt | Unknown


# --- origin ----------------------------------------------------------------------------------


class OriginKind(enum.Enum):
    """Where a message came from (RULES §4)."""

    LISTED_OPERATOR = "listed_operator"
    PROFESSIONAL = "professional"
    FORWARDED = "forwarded"
    PATIENT = "patient"
    UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answers for a message.

    Attributes:
        address: envelope sender or authenticated mailbox, lower case; "" for the null sender.
        domain: its domain, the "same sending domain" of RULES §6; "" when unknown.
        operator_dn: the peer's certificate subject, for a listed operator.
        signer: rfc822Name of a good signature, lower case; None otherwise.
        forwarded_by: the professional who forwarded, for FORWARDED.
        organization: FINESS or SIRET of the sender's structure when it is one of this site.
        owns_from: whether who sent may speak for the domain of the one address in From.
    """

    kind: OriginKind
    address: str = ""
    domain: str = ""
    operator_dn: str | None = None
    signer: str | None = None
    forwarded_by: str | None = None
    organization: str = ""
    owns_from: bool = True


@dataclass(frozen=True, slots=True)
class MayFile:
    """The origin allows filing; the marks stay with the document."""

    marks: tuple[Mark, ...] = ()
    may_replace: bool = True


@dataclass(frozen=True, slots=True)
class OfferAsPatientDocument:
    """From a patient's mailbox: never filed, offered as a document of the patient."""


@dataclass(frozen=True, slots=True)
class MayNotFile:
    """The origin forbids filing."""

    problem: Problem


FilingRight = MayFile | OfferAsPatientDocument | MayNotFile


# --- outcomes --------------------------------------------------------------------------------


class Outcome(enum.Enum):
    """What became of an occurrence (RULES §2)."""

    FILED = "filed"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"


class DocumentStatus(enum.Enum):
    """Where a filed document stands in its history."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class Visibility(enum.Enum):
    """States of RULES §7; several may hold, none at all means visible."""

    VISIBLE = "visible"
    AWAITING_RELEASE = "awaiting_release"
    INVISIBLE_PATIENT = "invisible_patient"
    MASKED_PS = "masked_ps"
    INVISIBLE_REPRESENTATIVES = "invisible_representatives"


class OppositionScope(enum.StrEnum):
    """What a person opposes.

    That professionals open the record, that documents enter it, that it is opened in an emergency
    by a professional, or by the SAMU (centre 15).
    """

    OPENING = "opening"
    DEPOSIT = "deposit"
    BREAK_GLASS = "break_glass"
    SAMU = "samu"


class ViewerKind(enum.StrEnum):
    """Who looks at a record. The values may be given as plain strings."""

    PATIENT = "patient"
    REPRESENTATIVE = "representative"
    DELEGATE = "delegate"
    PRACTITIONER = "practitioner"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Someone who looks at a patient's record, signed in by the webmail.

    Attributes:
        kind: a `ViewerKind` or its value.
        ref: RPPS of a practitioner; for the others the viewer's own key as a patient: that of
            the record for its patient, of the parent for a representative.
        profession: code of TRE_G15, "" when unknown (then the matrix grants nothing).
        structure_id: the structure the practitioner acts in.
        specialty: code of TRE_R38, "" when unknown.
    """

    kind: str
    ref: str
    profession: str = ""
    structure_id: str = ""
    specialty: str = ""


# --- what a document says should or did happen -----------------------------------------------


class ActKind(enum.Enum):
    """Kinds of acts read from a document's entries."""

    FOLLOW_UP = "follow_up"
    PROCEDURE = "procedure"
    EXAMINATION = "examination"
    VACCINATION = "vaccination"
    VACCINATION_DUE = "vaccination_due"
    PRESCRIPTION = "prescription"
    APPOINTMENT = "appointment"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class AgendaAct:
    """One act of a document that counts (RULES §8 already applied: nothing negated or void).

    Attributes:
        code: code of the act or product, "" when none was given.
        label: displayName or original text, as the sender wrote it; text only, at most 200
            characters.
        low: start (or the only time) as written, None when unknown.
        high: end as written.
        as_needed: a prescription line "si besoin".
        renewals: how many more times the line may be dispensed.
        dose: dose number of a vaccination.
        atc: ATC code of a vaccine, "" when the sender gave none.
    """

    kind: ActKind
    code: str
    code_system: str
    label: str
    low: str | None
    high: str | None = None
    place: str | None = None
    performer: str | None = None
    as_needed: bool = False
    renewals: int = 0
    dose: int | None = None
    atc: str = ""


class MedicationKind(enum.Enum):
    """What a document says of a medicine: four things that are never taken for one another."""

    TREATMENT = "treatment"
    PRESCRIBED = "prescribed"
    PLANNED = "planned"
    DISPENSED = "dispensed"


@dataclass(frozen=True, slots=True)
class Medication:
    """One medicine as its document names it; the doses stand in the narrative alone (RULES §8).

    Attributes:
        label: name of the product as written, at most 200 characters; "" when there is none.
        code: code of the product, "" when none was given.
        low: start as written, None when unknown.
        high: end as written.
        as_needed: "si besoin".
        renewals: how many more times a prescribed line may be dispensed.
    """

    kind: MedicationKind
    label: str
    code: str
    code_system: str
    low: str | None
    high: str | None = None
    as_needed: bool = False
    renewals: int = 0


@dataclass(frozen=True, slots=True)
class LabResult:
    """One laboratory result as its document tells it.

    Attributes:
        loinc: what was measured.
        label: displayName of the code as the sender wrote it; text only, at most 200 characters.
        value: a decimal number with a point, as precise as it was told; None for a result that
            is no single number (a text, a code, an interval).
        sign: "" for a value, "<", "<=", ">" or ">=" for a bound, which is never a value.
        unit: of UCUM, as written; "" for none.
        when: when it was measured as written, None when unknown.
    """

    loinc: str
    label: str
    value: str | None
    sign: str
    unit: str
    when: str | None


class AgendaStatus(enum.Enum):
    """Where an entry of the agenda stands."""

    PROPOSED = "proposed"
    TO_SCHEDULE = "to_schedule"
    HISTORY = "history"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"

    @property
    def label(self) -> str:
        """The status in French."""
        return _AGENDA[self]


_AGENDA = {
    AgendaStatus.PROPOSED: "proposé",
    AgendaStatus.TO_SCHEDULE: "à programmer",
    AgendaStatus.HISTORY: "passé",
    AgendaStatus.CONFIRMED: "confirmé",
    AgendaStatus.DISMISSED: "écarté",
}


@dataclass(frozen=True, slots=True)
class AgendaEntry:
    """One line of a patient's agenda made from an act.

    Attributes:
        title: French text, plain, at most 200 characters.
        day: the civil day, None for "à programmer" and "date inconnue".
        start_at: aware UTC when an hour is known.
        reminder: the text of the reminder, "" when there is none.
        ordinal: place of the entry among those of its document, from 0.
    """

    kind: ActKind
    status: AgendaStatus
    title: str
    day: date | None
    start_at: datetime | None = None
    end_at: datetime | None = None
    reminder: str = ""
    place: str | None = None
    code: str = ""
    code_system: str = ""
    ordinal: int = 0
    atc: str = ""


@dataclass(frozen=True, slots=True)
class Lists:
    """What a document adds to the lists of its record, in its order, within the caps."""

    results: tuple[LabResult, ...] = ()
    medications: tuple[Medication, ...] = ()


# --- an opened message -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenedDocument:
    """One document listed by a package.

    Attributes:
        entry: what METADATA.XML says of it.
        content: its bytes as packed, b"" when it is absent.
        sha256: of those bytes.
        header: None when it could not be read (``problem`` says so).
        claim: who it says it is about.
        acts: acts that count, in document order, within the caps.
        lists: laboratory results and medications that count.
        media_type: type of the body: "application/pdf" and so on for level 1, "" for level 3.
    """

    entry: DocumentEntry
    content: bytes
    sha256: bytes
    header: CdaHeader | None
    claim: Claim
    acts: tuple[AgendaAct, ...] = ()
    lists: Lists = Lists()
    media_type: str = ""
    problem: Problem | None = None

    @property
    def unique_id(self) -> str:
        """``ClinicalDocument/id``, or what the metadata announced when it is unreadable."""
        return self.header.unique_id if self.header is not None else self.entry.unique_id


@dataclass(frozen=True, slots=True)
class OpenedPackage:
    """One IHE_XDM.zip of a message.

    Attributes:
        content: the archive's bytes (the record keeps its own copy).
        forwarded: it lay inside a message/rfc822 part.
        documents: in the order of METADATA.XML; empty when the archive cannot be listed.
        problem: why the whole package cannot be filed, from the package itself.
    """

    content: bytes
    forwarded: bool
    documents: tuple[OpenedDocument, ...]
    problem: Problem | None = None

    @property
    def worst(self) -> Problem | None:
        """The package's problem, else that of its first bad document: filed whole or not.

        Problems of a claim (906 whoever is registered) are among them.
        """
        if self.problem is not None:
            return self.problem
        problems = (d.problem or d.claim.problem for d in self.documents)
        return next((problem for problem in problems if problem is not None), None)


@dataclass(frozen=True, slots=True)
class Opened:
    """One message of an application mailbox, opened in the sandbox.

    Attributes:
        delivered_to: the accepted filing recipients, lower case, in the order written.
        return_path: lower case; "" for the null sender; None when absent.
        notify_to: the one address of Disposition-Notification-To, None when absent or several.
        auth: what the trusted server says of the sender, None when it says nothing.
        verdict: the signature, checked again here.
        from_address: lower case, None unless exactly one.
        packages: every package found, outer ones first; empty: no document at all.
        unreadable: two correct readers could see two different messages here.
    """

    delivered_to: tuple[str, ...]
    return_path: str | None
    from_address: str | None
    notify_to: str | None
    message_id: str
    subject: str
    auth: AuthResults | None
    verdict: SignatureVerdict
    packages: tuple[OpenedPackage, ...]
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Occurrence:
    """The unit that is counted: one document listed in one message (RULES §2).

    Attributes:
        unique_id: as `OpenedDocument.unique_id`; "" when the archive cannot be listed.
        sha256: of the document's bytes (of the archive when it cannot be listed).
        listed: False for the one occurrence that stands for an unreadable archive.
    """

    unique_id: str
    sha256: bytes
    listed: bool = True
