"""What a line of the trail says: who did what, to what; a value without any SQL.

Invariant: neither an actor's name nor a clinical word belongs in an event; ``subject`` and
``facts`` hold opaque references and codes. Source: RULES §13.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Fact = str | int | bool


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that somebody did."""

    kind: str
    """Constant, e.g. ``document_filed``."""
    at: datetime
    """Aware UTC."""
    actor: str
    """Opaque: ``account:12``, ``mailbox:3``, ``cli:<os user>``, ``operator:<fingerprint>``."""
    structure_id: str | None = None
    subject: str | None = None
    """Opaque reference of what it was done to, e.g. ``patient:7``."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
