"""The directory on a real file: structures, mailboxes, and a trust list that goes bad."""

from datetime import timedelta

import pytest

from directory.codes import MailboxType
from directory.database import migrate
from directory.errors import AlreadyListedError, UnknownStructureError
from directory.lookup import Directory
from directory.model import (
    DirectoryMailbox,
    DomainKind,
    Practitioner,
    PractitionerRole,
    Structure,
)
from directory.refresh import Adopted, Refused, Unchanged
from directory.repository import MIGRATIONS
from directory.trust_list import Freshness, ListedDomain, encode
from directory.trust_signature import sign
from tests.support.trust import LIST_AT, make_signer

DN = "CN=smtp.chu-a.test,OU=10B0167890,O=CHU A,ST=Gironde (33),C=FR"
STRUCTURE = Structure(
    "cabinet",
    "Cabinet des Lilas",
    "750712184",
    "cabinet.mssante.test",
    "cabinet.patient.mssante.test",
    "dossier@cabinet.mssante.test",
)


@pytest.fixture(scope="module")
def signer():
    return make_signer("Liste de test")


class Site:
    def __init__(self, root, signer):
        self.root, self.signer = root, signer
        self.path = root / "directory.sqlite3"
        self.trust = root / "list.xml"
        self.signer_path = root / "signer.pem"
        self.signer_path.write_bytes(signer.pem)
        migrate(self.path, MIGRATIONS)

    def publish(self, count: int, *, minutes: int = 0) -> bytes:
        entries = [ListedDomain(f"d{n}.mssante.test", DN) for n in range(count)]
        xml = encode(entries, LIST_AT + timedelta(minutes=minutes))
        signed = sign(xml, self.signer.key, self.signer.certificate)
        self.trust.write_bytes(signed)
        return signed

    async def open(self, **more):
        return await Directory.open(self.path, self.trust, self.signer_path, at=LIST_AT, **more)


@pytest.fixture
def site(tmp_path, signer):
    site = Site(tmp_path, signer)
    site.publish(10)
    return site


async def test_a_structure_is_found_by_both_of_its_domains(site):
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)

        assert directory.structures() == (STRUCTURE,)
        assert directory.structure("cabinet") == STRUCTURE
        found = directory.structure_of_domain("CABINET.mssante.test")
        assert found == (STRUCTURE, DomainKind.PROFESSIONAL)
        patient = directory.structure_of_domain("cabinet.patient.mssante.test")
        assert patient == (STRUCTURE, DomainKind.PATIENT)
        assert directory.structure_of_domain("d0.mssante.test") is None


async def test_a_structure_is_added_once(site):
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)

        with pytest.raises(AlreadyListedError):
            await directory.add_structure(STRUCTURE)


async def test_professionals_and_mailboxes_are_found(site):
    person = Practitioner("10000000001", "MARTIN", "Claire", "10", "SM26")
    box = DirectoryMailbox(
        "claire.martin@cabinet.mssante.test",
        MailboxType.PER,
        "cabinet",
        "Dr Claire MARTIN",
        person.rpps,
    )
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)
        await directory.add_practitioner(person, (PractitionerRole(person.rpps, "cabinet"),))
        await directory.add_practitioner(person, (PractitionerRole(person.rpps, "cabinet"),))
        await directory.add_mailbox(box)

        assert await directory.practitioner(person.rpps) == person
        assert await directory.practitioners("cabinet") == (person,)
        assert await directory.roles(person.rpps) == (PractitionerRole(person.rpps, "cabinet"),)
        assert await directory.mailbox("Claire.Martin@cabinet.mssante.test") == box
        assert await directory.mailboxes("cabinet") == (box,)
        assert await directory.search("martin") == (box,)


@pytest.mark.parametrize("text", ["ma", "%%%", "___", ""])
async def test_a_search_too_short_or_of_wildcards_finds_nothing(site, text):
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)
        await directory.add_mailbox(
            DirectoryMailbox("a.martin@cabinet.mssante.test", MailboxType.PER, "cabinet", "A")
        )

        assert await directory.search(text) == ()


async def test_a_red_listed_mailbox_is_not_found_by_search(site):
    box = DirectoryMailbox(
        "x.martin@cabinet.mssante.test", MailboxType.PER, "cabinet", "X", unlisted=True
    )
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)
        await directory.add_mailbox(box)

        assert await directory.search("martin") == ()
        assert await directory.mailbox(box.address) == box


async def test_a_mailbox_needs_its_structure_and_a_free_address(site):
    box = DirectoryMailbox("x@cabinet.mssante.test", MailboxType.ORG, "cabinet", "X")
    async with await site.open() as directory:
        with pytest.raises(UnknownStructureError):
            await directory.add_mailbox(box)
        await directory.add_structure(STRUCTURE)
        await directory.add_mailbox(box)
        with pytest.raises(AlreadyListedError):
            await directory.add_mailbox(box)


async def test_a_patient_is_never_in_the_annuaire(site):
    async with await site.open() as directory:
        await directory.add_structure(STRUCTURE)

        with pytest.raises(ValueError, match="never"):
            await directory.add_mailbox(
                DirectoryMailbox("1@cabinet.patient.mssante.test", MailboxType.PAT, "cabinet", "")
            )


async def test_a_reader_sees_what_the_owner_added_after_reload(site):
    async with await site.open() as owner, await site.open(read_only=True) as reader:
        await owner.add_structure(STRUCTURE)
        assert reader.structure("cabinet") is None

        await reader.reload()

        assert reader.structure("cabinet") == STRUCTURE


async def test_a_changed_list_is_adopted_and_an_unchanged_one_not_read_again(site):
    async with await site.open() as directory:
        assert isinstance(await directory.refresh_trust(LIST_AT), Unchanged)
        site.publish(11, minutes=1)

        assert isinstance(await directory.refresh_trust(LIST_AT), Adopted)
        assert directory.trust.lists("d10.mssante.test")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda site: site.publish(7, minutes=1), "shrunk", id="shrunk"),
        pytest.param(lambda site: site.publish(10, minutes=-1), "older", id="older"),
        pytest.param(
            lambda site: site.trust.write_bytes(site.publish(12, minutes=1)[:-30]),
            "unreadable",
            id="truncated",
        ),
        pytest.param(
            lambda site: site.trust.write_bytes(
                site.publish(12, minutes=1).replace(b"d1.mssante", b"dx.mssante")
            ),
            "signature",
            id="altered",
        ),
        pytest.param(lambda site: site.trust.unlink(), "absent", id="gone"),
    ],
)
async def test_a_bad_list_leaves_the_good_one_in_use(site, damage, reason):
    async with await site.open() as directory:
        good = directory.trust
        damage(site)

        outcome = await directory.refresh_trust(LIST_AT)

        assert isinstance(outcome, Refused)
        assert outcome.reason.value == reason == directory.trust_refusal
        assert directory.trust is good


async def test_the_good_list_survives_a_restart_on_a_bad_file(site):
    async with await site.open() as directory:
        good = directory.trust.entries
    site.trust.write_bytes(b"<html>")

    async with await site.open() as directory:
        assert directory.trust.entries == good
        assert directory.trust_refusal == "unreadable"


async def test_without_any_good_list_nobody_is_trusted_and_it_is_expired(site):
    site.trust.write_bytes(b"")

    async with await site.open() as directory:
        assert not directory.trust.lists("d0.mssante.test")
        assert directory.trust_freshness(LIST_AT) is Freshness.EXPIRED


async def test_a_configured_signer_that_cannot_be_read_is_not_no_signer(site):
    site.signer_path.write_text("")

    async with await site.open() as directory:
        assert directory.trust_refusal == "signature"
        assert not directory.trust.lists("d0.mssante.test")
