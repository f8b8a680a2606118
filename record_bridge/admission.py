"""Admission packs: what a structure gives a patient to read and fill in before an admission.

A pack is in the making until it is sent, then its patient (or who represents them) sees it until
the structure closes it. A document is done when it was read; a form when it was read and given
back. The pack as a whole is acknowledged by a person, once everything in it is done.

Source: RULES §7, RULES §8.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from record_bridge.errors import RecordStateError
from record_bridge.model import Viewer, ViewerKind
from record_bridge.rights import Decision, Rule

MAX_OPEN_PACKS: Final = 20
"""Of one patient, in the making or sent."""
MAX_PACK_ITEMS: Final = 40
FARTHEST_DUE: Final = timedelta(days=731)
REMIND_EVERY: Final = timedelta(days=1)
"""Somebody is reminded of a pack no more often."""
AGENDA_KIND: Final = "admission"
_PREPARES: Final = frozenset({Rule.CARE_TEAM, Rule.ATTENDING, Rule.CONSENT})
_READERS: Final = frozenset({ViewerKind.PATIENT.value, ViewerKind.REPRESENTATIVE.value})


class PackItemKind(enum.StrEnum):
    """What a pack holds: documents are read, forms are filled in and given back."""

    DOCUMENT = "document"
    FORM = "form"


class PackState(enum.StrEnum):
    """Where a pack stands."""

    DRAFT = "draft"
    SENT = "sent"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ItemProgress:
    """What was done with an item."""

    kind: PackItemKind
    acknowledged: bool
    returned: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do with it."""
        return self.acknowledged and (self.returned or self.kind is PackItemKind.DOCUMENT)


def may_be_acknowledged(items: Iterable[ItemProgress]) -> bool:
    """Say whether nothing of a pack is left to be done."""
    return all(item.is_done for item in items)


def reads_packs(viewer: Viewer) -> bool:
    """Say whether a viewer of a patient's pages is shown packs: a relative who helps is not."""
    return str(viewer.kind) in _READERS


def may_prepare(opening: Decision) -> bool:
    """Say whether a professional may give a patient packs, and see what came back.

    Args:
        opening: what ``rights.may_open`` said of this record; an emergency prepares nothing.
    """
    return opening.is_shown and opening.rule in _PREPARES


def due_day(text: object, today: date) -> date:
    """The civil day by which a pack is to be done: from today on, at most two years ahead.

    Raises:
        RecordStateError: ``no_such_due``.
    """
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        raise RecordStateError("no_such_due") from None
    if not today <= day <= today + FARTHEST_DUE:
        raise RecordStateError("no_such_due")
    return day


def state_of(sent: object | None, acknowledged: object | None, closed: object | None) -> PackState:
    """Say where a pack stands, by the times (or None) at which things happened to it."""
    if closed is not None:
        return PackState.CLOSED
    if acknowledged is not None:
        return PackState.ACKNOWLEDGED
    return PackState.DRAFT if sent is None else PackState.SENT
