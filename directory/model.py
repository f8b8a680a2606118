"""What the annuaire holds: structures hosted here, professionals, their mailboxes.

Patients are never here (DESIGN D2). Every value is frozen and well formed by construction only in
shape; ``directory.identifiers`` checks numbers before one is made.
"""

from dataclasses import dataclass
from enum import Enum

from directory.codes import MailboxType

__all__ = [
    "DirectoryMailbox",
    "DomainKind",
    "MailboxType",
    "Practitioner",
    "PractitionerRole",
    "Structure",
]

DEFAULT_RELEASE_DELAY_DAYS = 8
"""RULES §7: the structure's delay before a document shows to its patient by itself."""


class DomainKind(Enum):
    """Whose addresses a domain of this site holds."""

    PROFESSIONAL = "professional"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Structure:
    """One controller hosted on this site (RULES §1)."""

    id: str
    """Slug, a-z 0-9 and hyphen: the key everywhere."""
    name: str
    organization: str
    """FINESS (9) or SIRET (14)."""
    domain: str
    """Professionals' addresses, A-label, lower case."""
    patient_domain: str
    """Patients' addresses; never the professional one (RULES §11)."""
    application_address: str
    release_delay_days: int = DEFAULT_RELEASE_DELAY_DAYS
    prevention: bool = True
    """Whether the agenda shows the national prevention calendar (RULES §8)."""


@dataclass(frozen=True, slots=True)
class Practitioner:
    """A health professional."""

    rpps: str
    family: str
    given: str
    profession: str = ""
    """TRE_G15 code, ``10`` for a physician."""
    specialty: str = ""
    """TRE_R38 code, ``SM26``."""

    @property
    def display_name(self) -> str:
        """Given then family name, as pages show it."""
        return f"{self.given} {self.family}".strip()


@dataclass(frozen=True, slots=True)
class PractitionerRole:
    """A professional at work in a structure."""

    rpps: str
    structure_id: str


@dataclass(frozen=True, slots=True)
class DirectoryMailbox:
    """A mailbox of this site as the annuaire shows it."""

    address: str
    """Lower case."""
    type: MailboxType
    structure_id: str
    display_name: str
    rpps: str | None = None
    unlisted: bool = False
    """Must not be published (liste rouge)."""
