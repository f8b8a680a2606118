"""What the servers ask the directory: structures, domains, trust, professionals, mailboxes.

Structures, their domains and the trust list are in memory and answered without waiting; the
annuaire itself stays in the database. The owner of the database writes; a reader calls
``reload`` to see what the owner added.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from directory import repository
from directory.adoption import Adoption
from directory.database import Database
from directory.model import (
    DirectoryMailbox,
    DomainKind,
    Practitioner,
    PractitionerRole,
    Structure,
)
from directory.refresh import Refresh, TrustSource
from directory.trust_list import Freshness, TrustList

MIGRATIONS = repository.MIGRATIONS
DEFAULT_MAX_AGE = timedelta(hours=24)
DEFAULT_GRACE = timedelta(days=7)


class Directory:
    """The open directory of one process."""

    def __init__(self, database: Database, adoption: Adoption) -> None:
        self._database = database
        self.adoption = adoption
        self._structures: dict[str, Structure] = {}
        self._domains: dict[str, tuple[Structure, DomainKind]] = {}
        self.trust_max_age = DEFAULT_MAX_AGE
        self.trust_grace = DEFAULT_GRACE

    @classmethod
    async def open(
        cls,
        path: Path,
        trust_list_path: Path,
        signer_path: Path | None,
        *,
        at: datetime,
        read_only: bool = False,
    ) -> Self:
        """Open the database and the trust list.

        Args:
            path: the database, made by ``database.migrate(path, repository.MIGRATIONS)``.
            trust_list_path: the list's file; a bad one leaves the last good list in use.
            signer_path: PEM of the list's signer, or None for an unsigned list.
            at: now.
            read_only: nothing is written, an adopted list is not kept.

        Raises:
            SchemaMismatchError: the file is not of this program's schema.
        """
        database = await Database.open(path, migrations=repository.MIGRATIONS, read_only=read_only)
        source = TrustSource(trust_list_path, signer_path)
        directory = cls(database, Adoption(database, source, read_only=read_only))
        await directory.adoption.start(at)
        await directory.reload()
        return directory

    async def close(self) -> None:
        """Close the database."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def reload(self) -> None:
        """Read the structures again."""
        rows = await self._database.all(repository.structures())
        loaded = [repository.to_structure(row) for row in rows]
        domains: dict[str, tuple[Structure, DomainKind]] = {}
        for structure in loaded:
            domains[structure.domain] = (structure, DomainKind.PROFESSIONAL)
            domains[structure.patient_domain] = (structure, DomainKind.PATIENT)
        self._structures = {structure.id: structure for structure in loaded}
        self._domains = domains

    def structures(self) -> tuple[Structure, ...]:
        """Give every structure of the site."""
        return tuple(self._structures.values())

    def structure(self, structure_id: str) -> Structure | None:
        """Give one structure."""
        return self._structures.get(structure_id)

    def structure_of_domain(self, domain: str) -> tuple[Structure, DomainKind] | None:
        """Say whose domain of this site it is, or None for a foreign one."""
        return self._domains.get(domain.lower())

    @property
    def trust(self) -> TrustList:
        """The trust list in use."""
        return self.adoption.source.current

    @property
    def trust_refusal(self) -> str | None:
        """Why the file as it lies there is not in use, or None when it is."""
        reason = self.adoption.source.last_refusal
        return None if reason is None else reason.value

    def trust_freshness(self, at: datetime) -> Freshness:
        """Judge the age of the list in use by ``trust_max_age`` and ``trust_grace``."""
        return self.trust.freshness(at, self.trust_max_age, self.trust_grace)

    async def refresh_trust(self, at: datetime) -> Refresh:
        """Read the list's file if it changed; keep what is adopted across restarts."""
        return await self.adoption.refresh(at)

    async def practitioner(self, rpps: str) -> Practitioner | None:
        """Give one professional."""
        row = await self._database.first(repository.practitioner_by_rpps(rpps))
        return None if row is None else repository.to_practitioner(row)

    async def practitioners(self, structure_id: str | None = None) -> tuple[Practitioner, ...]:
        """Give the professionals of a structure, or all, by name."""
        rows = await self._database.all(repository.practitioners_of(structure_id))
        return tuple(map(repository.to_practitioner, rows))

    async def roles(self, rpps: str) -> tuple[PractitionerRole, ...]:
        """Give where a professional works on this site."""
        rows = await self._database.all(repository.roles_of(rpps))
        return tuple(PractitionerRole(row.rpps, row.structure_id) for row in rows)

    async def mailbox(self, address: str) -> DirectoryMailbox | None:
        """Give one mailbox, red-listed and closed ones included: mail they sent is still read."""
        row = await self._database.first(repository.mailbox_by_address(address))
        return None if row is None else repository.to_mailbox(row)

    async def mailboxes(self, structure_id: str | None = None) -> tuple[DirectoryMailbox, ...]:
        """Give the open mailboxes of a structure, or all of them."""
        rows = await self._database.all(repository.mailboxes_of(structure_id))
        return tuple(map(repository.to_mailbox, rows))

    async def search(self, text: str) -> tuple[DirectoryMailbox, ...]:
        """Find open mailboxes by a piece of a name or an address; at most 50, none red-listed.

        Fewer than three characters find nothing (threat D1).
        """
        wanted = " ".join(text.split())
        if len(wanted) < repository.SEARCH_MIN_CHARACTERS:
            return ()
        rows = await self._database.all(repository.mailboxes_named(wanted))
        return tuple(map(repository.to_mailbox, rows))

    async def add_structure(self, structure: Structure) -> None:
        """Add a structure and see it at once.

        Raises:
            AlreadyListedError: its id or one of its domains is taken, or its two domains are one.
        """
        await self._database.write(repository.insert_structure, structure)
        await self.reload()

    async def add_practitioner(
        self, practitioner: Practitioner, roles: tuple[PractitionerRole, ...] = ()
    ) -> None:
        """Add a professional, or only roles to one who is there.

        Raises:
            UnknownStructureError: a role names a structure that is not there.
        """
        await self._database.write(
            repository.insert_practitioner, repository.NewPractitioner(practitioner, roles)
        )

    async def describe_practitioner(self, practitioner: Practitioner) -> None:
        """Set the profession and specialty of a professional who is there."""
        await self._database.write(repository.describe_practitioner, practitioner)

    async def add_mailbox(self, mailbox: DirectoryMailbox) -> None:
        """Publish a mailbox.

        Raises:
            AlreadyListedError: the address is taken.
            UnknownStructureError: its structure is not there.
        """
        await self._database.write(repository.insert_mailbox, mailbox)

    async def close_mailbox(self, address: str) -> None:
        """Offer an address to nobody from now on."""
        await self._database.write(repository.set_closed, (address, True))

    async def reopen_mailbox(self, address: str) -> None:
        """Undo ``close_mailbox``."""
        await self._database.write(repository.set_closed, (address, False))
