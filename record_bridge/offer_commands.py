"""What came without a package, filed by a person: HPRIM Médecin text, a bare PDF.

| command | arguments | result |
|---|---|---|
| offer_suggest | structure, content, name, subject, codes | hints, ``suggested`` patients |
| offer_file | the same, and what was decided | ``document``, ``state`` |

What is decided: ``rpps`` (whose name it is filed under), ``ins`` and perhaps ``oid``,
``type_code``, ``title``, ``visible``; and of the message: ``receipt``, ``sender``,
``received_at``. The file becomes a level 1 document written by Pli, so that nothing in the record
has a second form to know. It waits for its release unless its author says otherwise, replaces
nothing, and is withdrawn like any other. The audit counts it apart: it is no occurrence of a
package (RULES §2).

Source: RULES §4, RULES §5, RULES §7, RULES §13.
"""

import base64
import binascii
import hashlib
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, false, or_, select, true

from directory.audit_event import AuditEvent
from directory.codes import class_of, profession_label, type_label
from directory.model import Practitioner, Structure
from directory.trail import append
from record_bridge import identity_storing, life, offers, storing, visibility, withdrawing
from record_bridge.cda_write import Author, LevelOne, encode_level_one
from record_bridge.command_desk import CommandDesk, actor_of
from record_bridge.errors import RecordStateError
from record_bridge.formats.cda_header import parse_cda
from record_bridge.formats.dtm import paris_day
from record_bridge.formats.xds_metadata import DocumentEntry
from record_bridge.model import (
    Claim,
    DocumentStatus,
    IdentityStatus,
    InsMatricule,
    InsTraits,
    Mark,
    OpenedDocument,
    Sex,
    Visibility,
)
from record_bridge.offers import Hints, Offer, Told
from record_bridge.replacement import Provenance
from record_bridge.repository import Archived, archive
from record_bridge.schema import TRAIL, patient
from record_bridge.storing import NewDocument

Arguments = Mapping[str, Any]
FindPractitioner = Callable[[str], Awaitable[Practitioner | None]]
FILED: Final = "filed"
ABSORBED: Final = "absorbed"
BY_HAND: Final = "hand:"
"""What the receipt of such a document begins with: no occurrence of a message has its key."""
MAX_RECEIPT: Final = 128
MAX_SENDER: Final = 320


@dataclass(frozen=True, slots=True)
class _Filing:
    """One file that a person files.

    Attributes:
        source: SHA-256 of the file as it came.
        event: what the trail says of it.
    """

    new: NewDocument
    source: bytes
    event: AuditEvent


class OfferCommands:
    """What a person does with a file that no rule may file."""

    def __init__(self, commands: CommandDesk, practitioner: FindPractitioner) -> None:
        self._commands = commands
        self._practitioner = practitioner

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"offer_suggest": self.offer_suggest, "offer_file": self.offer_file}

    async def offer_suggest(self, arguments: Arguments) -> dict[str, Any]:
        """Say who a file may be about; the look is in the trail, nothing else changes.

        Raises:
            RecordStateError: it is no file that is offered.
        """
        structure = self._commands.structure_of(arguments)
        _, offer = self._offer(arguments)
        rows = await self._commands.read(
            select(patient).where(
                patient.c.structure_id == structure.id,
                patient.c.status == IdentityStatus.QUALIFIEE.value,
                patient.c.doubtful == 0,
                patient.c.fictitious == 0,
                patient.c.merged_into.is_(None),
                _may_fit(offer.hints),
            )
        )
        found = offers.suggested(offer.hints, [row._asdict() for row in rows])
        told = {**arguments, "structure": structure.id}
        await self._commands.note(
            "patients_suggested", told, f"structure:{structure.id}", {"count": len(found)}
        )
        return {
            "media_type": offer.media_type,
            "hints": asdict(offer.hints),
            "suggested": [
                {
                    "ins": row["matricule"],
                    "oid": row["oid"],
                    "family": row["family"],
                    "given": row["given"],
                    "birth_date": row["birth_date"],
                    "sex": row["sex"],
                }
                for row in found
            ],
        }

    async def offer_file(self, arguments: Arguments) -> dict[str, Any]:
        """File a file in a patient's record, under its author's name.

        Raises:
            RecordStateError: it is no file that is offered; no such professional, patient or
                type; no title; the patient is not one who takes documents, or opposes it; or the
                same file was withdrawn from this record.
        """
        structure = self._commands.structure_of(arguments)
        raw, offer = self._offer(arguments)
        author = await self._practitioner(str(arguments.get("rpps") or ""))
        if author is None:
            raise RecordStateError("no_such_professional")
        if not arguments.get("ins"):
            raise RecordStateError("say_whose")
        named = {"structure": structure.id, "ins": arguments["ins"], "oid": arguments.get("oid")}
        person = await self._commands.find(named)
        filing = self._filing(arguments, (structure, author, person), (raw, offer))
        state = await self._commands.write(_file, filing)
        self._commands.wake()
        return {"document": filing.new.opened.unique_id, "state": state}

    def _offer(self, arguments: Arguments) -> tuple[bytes, Offer]:
        try:
            raw = base64.b64decode(str(arguments.get("content") or ""), validate=True)
        except (binascii.Error, ValueError):
            raise RecordStateError("not_offered") from None
        told = Told(*(str(arguments.get(name) or "") for name in ("name", "subject", "codes")))
        return raw, offers.read_offer(raw, told, paris_day(self._commands.now()))

    def _filing(
        self,
        arguments: Arguments,
        who: tuple[Structure, Practitioner, Mapping[str, Any]],
        file: tuple[bytes, Offer],
    ) -> _Filing:
        structure, author, person = who
        raw, offer = file
        at = self._commands.now()
        type_code = str(arguments.get("type_code") or "")
        label = type_label(type_code)
        if label is None:
            raise RecordStateError("no_such_type")
        title = life.line(arguments.get("title"), life.MAX_TITLE)
        if not title:
            raise RecordStateError("no_title")
        source = hashlib.sha256(raw).digest()
        opened = _written(who, offer, (type_code, label, title), (source, at))
        states = frozenset(
            {Visibility.VISIBLE if arguments.get("visible") else Visibility.AWAITING_RELEASE}
        )
        receipt = str(arguments.get("receipt") or "")[:MAX_RECEIPT]
        new = NewDocument(
            structure_id=structure.id,
            patient_id=int(person["id"]),
            identity_id=int(person["id"]),
            opened=opened,
            status=DocumentStatus.CURRENT,
            superseded_by=None,
            parent_unique_id=None,
            visibility=states,
            masked_here=frozenset(),
            release_at=visibility.release_at(type_code, states, at, structure.release_delay_days),
            marks=frozenset({Mark.FILED_BY_HAND}),
            class_code=class_of(type_code),
            type_code=type_code,
            title=title,
            effective_at=at,
            sender=life.line(arguments.get("sender"), MAX_SENDER),
            provenance=Provenance("", "", frozenset({structure.organization}), may_replace=False),
            recipient_ids=frozenset(),
            forwarded_by="",
            package_id=0,
            receipt=BY_HAND + receipt,
            position=0,
            received_at=min(_moment(arguments.get("received_at"), at), at),
            at=at,
            filed_by=f"practitioner:{author.rpps}",
        )
        event = AuditEvent(
            "document_filed",
            at,
            actor_of(arguments),
            structure.id,
            f"patient:{int(person['id'])}",
            {"by": f"practitioner:{author.rpps}", "receipt": receipt},
        )
        return _Filing(new, source, event)


def _may_fit(hints: Hints) -> ColumnElement[bool]:
    """Leave out, in the database, those whom the hints cannot suggest."""
    wanted = []
    if hints.number:
        wanted.append(patient.c.matricule.startswith(hints.number[: offers.LOCAL]))
    if hints.birth_date:
        wanted.append(patient.c.birth_date == hints.birth_date)
    elif hints.family and hints.given:
        wanted.append(true())
    return or_(false(), *wanted)


def _written(
    who: tuple[Structure, Practitioner, Mapping[str, Any]],
    offer: Offer,
    about: tuple[str, str, str],
    when: tuple[bytes, datetime],
) -> OpenedDocument:
    """The document around a file, read again as any other is."""
    structure, author, person = who
    ins = InsMatricule(person["matricule"], person["oid"])
    traits = InsTraits(
        person["family"],
        person["given"],
        person["birth_date"],
        Sex(person["sex"]),
        person["birth_place"],
    )
    # The same file in the same record is the same document, whoever files it again.
    name = f"{structure.organization} {ins.oid} {ins.value} {when[0].hex()}"
    content = encode_level_one(
        LevelOne(
            unique_id=f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}",
            ins=ins,
            traits=traits,
            author=Author(
                author.rpps,
                author.family,
                author.given,
                profession_label(author.profession),
                structure.organization,
                structure.name,
            ),
            type_code=about[0],
            type_label=about[1],
            title=about[2],
            media_type=offer.media_type,
            content=offer.content,
            at=when[1],
        )
    )
    header = parse_cda(content)
    (person_named,) = header.authors
    shown = replace(person_named, name=f"rangé par {author.display_name}")
    return OpenedDocument(
        entry=DocumentEntry(),
        content=content,
        sha256=hashlib.sha256(content).digest(),
        header=replace(header, authors=(shown,)),
        claim=Claim(ins, traits),
        media_type=offer.media_type,
    )


def _moment(text: object, at: datetime) -> datetime:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return at


def _file(connection: sqlite3.Connection, filing: _Filing) -> str:
    """Put the document, unless this record has the file already."""
    new = filing.new
    withdrawing.may_take(connection, new.structure_id, new.patient_id)
    same = connection.execute(
        "SELECT status FROM document WHERE structure_id = ? AND unique_id = ?",
        (new.structure_id, new.opened.unique_id),
    ).fetchone()
    if same is not None and same[0] == DocumentStatus.WITHDRAWN.value:
        raise RecordStateError("withdrawn_here")
    if same is not None:
        return ABSORBED
    if identity_storing.is_opposed(connection, new.patient_id):
        raise RecordStateError("opposed")
    package = archive(connection, Archived(new.structure_id, "package", b"", new.at))
    (position,) = connection.execute(
        "SELECT count(*) FROM document WHERE structure_id = ? AND receipt = ?",
        (new.structure_id, new.receipt),
    ).fetchone()
    key = storing.put_document(connection, replace(new, package_id=package, position=position))
    facts = {**filing.event.facts, "document_id": key, "sha256": filing.source.hex()}
    append(connection, TRAIL, [replace(filing.event, facts=facts)])
    return FILED
