"""A bearer token of the FHIR interface, as it is known: pure.

Source: RFC 6750 §5, RULES §12.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

SCOPES: Final = frozenset(
    {"AuditEvent", "Appointment", "Binary", "DocumentReference", "Immunization", "Patient"}
)
"""A scope is a type of resources; there is nothing to write."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token in force; its secret is not kept.

    Attributes:
        patient_id: whose record it opens; None for a structure's software.
        rpps: the professional for whom that software works.
    """

    id: int
    structure_id: str
    patient_id: int | None
    rpps: str
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime


def application_actor(token_id: int) -> str:
    """Name a patient's application in the trail."""
    return f"application:{token_id}"


def token_digest(token: str) -> bytes:
    """What is kept of a token: its secret has 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
