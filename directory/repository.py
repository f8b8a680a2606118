"""The SQL of the directory database: rows to values, values to rows.

Functions named ``insert_*`` run on the writer's thread inside its transaction.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, insert, or_, select
from sqlalchemy.sql.elements import ColumnElement

from directory.codes import MailboxType
from directory.database import compiled
from directory.errors import AlreadyListedError, UnknownStructureError
from directory.model import DirectoryMailbox, Practitioner, PractitionerRole, Structure
from directory.schema import MAILBOX, PRACTITIONER, PRACTITIONER_ROLE, STRUCTURE

MIGRATIONS = Path(__file__).parent / "migrations"
SEARCH_LIMIT = 50
"""Threat D1: at most this many results."""
SEARCH_MIN_CHARACTERS = 3

_INSERT_STRUCTURE = compiled(insert(STRUCTURE))
_INSERT_PRACTITIONER = compiled(insert(PRACTITIONER)).replace("INSERT", "INSERT OR IGNORE", 1)
_INSERT_ROLE = compiled(insert(PRACTITIONER_ROLE)).replace("INSERT", "INSERT OR IGNORE", 1)
_INSERT_MAILBOX = compiled(insert(MAILBOX))


@dataclass(frozen=True, slots=True)
class NewPractitioner:
    """A professional and where they work."""

    practitioner: Practitioner
    roles: tuple[PractitionerRole, ...] = ()


def insert_structure(connection: sqlite3.Connection, value: Structure) -> None:
    """Add a structure.

    Raises:
        AlreadyListedError: the id or one of the domains is taken.
    """
    try:
        connection.execute(
            _INSERT_STRUCTURE,
            {
                "id": value.id,
                "name": value.name,
                "organization": value.organization,
                "domain": value.domain.lower(),
                "patient_domain": value.patient_domain.lower(),
                "application_address": value.application_address.lower(),
                "release_delay_days": value.release_delay_days,
                "prevention": value.prevention,
            },
        )
    except sqlite3.IntegrityError as error:
        raise AlreadyListedError from error


def insert_practitioner(connection: sqlite3.Connection, value: NewPractitioner) -> None:
    """Add a professional and roles; one who is there already only gets the new roles.

    Raises:
        UnknownStructureError: a role names a structure that is not there.
    """
    person = value.practitioner
    try:
        connection.execute(
            _INSERT_PRACTITIONER,
            {
                "rpps": person.rpps,
                "family": person.family,
                "given": person.given,
                "profession": person.profession,
                "specialty": person.specialty,
            },
        )
        for role in value.roles:
            connection.execute(
                _INSERT_ROLE, {"rpps": role.rpps, "structure_id": role.structure_id}
            )
    except sqlite3.IntegrityError as error:
        raise UnknownStructureError from error


def describe_practitioner(connection: sqlite3.Connection, person: Practitioner) -> None:
    """Set a professional's profession and specialty."""
    connection.execute(
        "UPDATE practitioner SET profession = ?, specialty = ? WHERE rpps = ?",
        (person.profession, person.specialty, person.rpps),
    )


def insert_mailbox(connection: sqlite3.Connection, value: DirectoryMailbox) -> None:
    """Publish a mailbox.

    Raises:
        AlreadyListedError: the address is there.
        UnknownStructureError: its structure is not.
        ValueError: a patient's; those are never in the annuaire (DESIGN D2).
    """
    if value.type is MailboxType.PAT:
        raise ValueError("a patient's mailbox is never in the annuaire")
    try:
        connection.execute(
            _INSERT_MAILBOX,
            {
                "address": value.address.lower(),
                "type": value.type.value,
                "structure_id": value.structure_id,
                "display_name": value.display_name,
                "rpps": value.rpps,
                "unlisted": value.unlisted,
                "closed": False,
            },
        )
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_FOREIGNKEY":
            raise UnknownStructureError from error
        raise AlreadyListedError from error


def set_closed(connection: sqlite3.Connection, value: tuple[str, bool]) -> None:
    """Note whether a mailbox is closed; nothing happens to one that is not there."""
    address, closed = value
    connection.execute(
        "UPDATE mailbox SET closed = ? WHERE address = ?", (closed, address.lower())
    )


def structures() -> Select[Any]:
    """Select every structure."""
    return select(STRUCTURE).order_by(STRUCTURE.c.id)


def practitioner_by_rpps(rpps: str) -> Select[Any]:
    """Select one professional."""
    return select(PRACTITIONER).where(PRACTITIONER.c.rpps == rpps)


def practitioners_of(structure_id: str | None) -> Select[Any]:
    """Select the professionals of a structure, or all."""
    statement = select(PRACTITIONER).order_by(PRACTITIONER.c.family, PRACTITIONER.c.given)
    if structure_id is None:
        return statement
    return statement.join(
        PRACTITIONER_ROLE, PRACTITIONER_ROLE.c.rpps == PRACTITIONER.c.rpps
    ).where(PRACTITIONER_ROLE.c.structure_id == structure_id)


def roles_of(rpps: str) -> Select[Any]:
    """Select where a professional works."""
    return select(PRACTITIONER_ROLE).where(PRACTITIONER_ROLE.c.rpps == rpps)


def mailbox_by_address(address: str) -> Select[Any]:
    """Select one mailbox."""
    return select(MAILBOX).where(MAILBOX.c.address == address.lower())


def mailboxes_of(structure_id: str | None) -> Select[Any]:
    """Select the open mailboxes of a structure, or all of them."""
    statement = select(MAILBOX).where(MAILBOX.c.closed.is_(False)).order_by(MAILBOX.c.address)
    if structure_id is None:
        return statement
    return statement.where(MAILBOX.c.structure_id == structure_id)


def mailboxes_named(text: str) -> Select[Any]:
    """Select open mailboxes by a piece of their name or address; never a red-listed one."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    matches: ColumnElement[bool] = or_(
        MAILBOX.c.display_name.like(pattern, escape="\\"),
        MAILBOX.c.address.like(pattern, escape="\\"),
    )
    return (
        select(MAILBOX)
        .where(matches, MAILBOX.c.unlisted.is_(False), MAILBOX.c.closed.is_(False))
        .order_by(MAILBOX.c.address)
        .limit(SEARCH_LIMIT)
    )


def to_structure(row: Row[Any]) -> Structure:
    """Make the value of a row."""
    return Structure(
        row.id,
        row.name,
        row.organization,
        row.domain,
        row.patient_domain,
        row.application_address,
        row.release_delay_days,
        bool(row.prevention),
    )


def to_practitioner(row: Row[Any]) -> Practitioner:
    """Make the value of a row."""
    return Practitioner(row.rpps, row.family, row.given, row.profession, row.specialty)


def to_mailbox(row: Row[Any]) -> DirectoryMailbox:
    """Make the value of a row."""
    return DirectoryMailbox(
        row.address,
        MailboxType(row.type),
        row.structure_id,
        row.display_name,
        row.rpps,
        bool(row.unlisted),
    )
