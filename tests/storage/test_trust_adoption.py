"""Which list of operators is in use: who may force one, what raises an alarm, what is kept.

Source: MSS-OP §3.2.
"""

import sqlite3
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from directory.adoption import AGREE_WITHIN, Force, Proposed
from directory.database import migrate
from directory.errors import TrustListReason
from directory.lookup import Directory
from directory.refresh import Adopted, Refused
from directory.repository import MIGRATIONS
from directory.trust_list import ListedDomain, encode
from directory.trust_signature import sign
from tests.support.trust import LIST_AT, make_signer

DN = "CN=smtp.chu-a.test,OU=10B0167890,O=CHU A,ST=Gironde (33),C=FR"
OTHER = "CN=smtp.other.test,O=OTHER,C=FR"
ONE, TWO = Force("cli:one", "the operator of d8 ceased"), Force("cli:two", "confirmed by phone")


@pytest.fixture(scope="module")
def signer():
    return make_signer("Liste de test")


@pytest.fixture(scope="module")
def successor():
    return make_signer("Liste de test, suite")


class Site:
    def __init__(self, root, signer):
        self.signer = signer
        self.path, self.list = root / "directory.sqlite3", root / "list.xml"
        self.signer_path = root / "signer.pem"
        self.signer_path.write_bytes(signer.pem)
        migrate(self.path, MIGRATIONS)
        self.list.write_bytes(self.made(range(10)))

    def made(self, numbers, *, minutes=0, others=(), signer=None) -> bytes:
        entries = [ListedDomain(f"d{n}.mssante.test", DN) for n in numbers]
        entries += [ListedDomain(f"d{n}.mssante.test", OTHER) for n in others]
        by = signer or self.signer
        return sign(encode(entries, LIST_AT + timedelta(minutes=minutes)), by.key, by.certificate)

    async def open(self, *, at=LIST_AT, **more):
        return await Directory.open(self.path, self.list, self.signer_path, at=at, **more)


@pytest.fixture
def site(tmp_path, signer):
    return Site(tmp_path, signer)


async def test_two_persons_who_give_the_same_file_force_a_loss(site):
    smaller = site.made(range(7), minutes=1)
    async with await site.open() as directory:
        adoption = directory.adoption
        assert await adoption.offer(smaller, LIST_AT) == Refused(TrustListReason.SHRUNK)
        assert await adoption.force(smaller, ONE, LIST_AT) == Proposed(lost=3)
        assert len(directory.trust.entries) == 10

        outcome = await adoption.force(smaller, TWO, LIST_AT + AGREE_WITHIN)

        assert isinstance(outcome, Adopted)
        assert (outcome.lost, len(directory.trust.entries)) == (3, 7)


@pytest.mark.parametrize(
    ("second", "numbers", "later"),
    [
        pytest.param(ONE, range(7), timedelta(), id="the same person"),
        pytest.param(Force("cli:one", "again"), range(7), timedelta(), id="another reason"),
        pytest.param(TWO, range(6), timedelta(), id="another file"),
        pytest.param(TWO, range(7), AGREE_WITHIN + timedelta(seconds=1), id="too late"),
        pytest.param(TWO, range(7), -timedelta(seconds=1), id="a clock that went back"),
    ],
)
async def test_nothing_else_forces_a_loss(site, second, numbers, later):
    async with await site.open() as directory:
        await directory.adoption.force(site.made(range(7), minutes=1), ONE, LIST_AT)
        again = site.made(numbers, minutes=1)

        outcome = await directory.adoption.force(again, second, LIST_AT + later)

        assert isinstance(outcome, Proposed)
        assert len(directory.trust.entries) == 10


async def test_a_proposal_survives_a_restart_and_dies_with_the_next_list(site):
    smaller = site.made(range(7), minutes=1)
    async with await site.open() as directory:
        await directory.adoption.force(smaller, ONE, LIST_AT)
    async with await site.open() as directory:
        assert isinstance(await directory.adoption.offer(site.made(range(9)), LIST_AT), Adopted)

        assert isinstance(await directory.adoption.force(smaller, TWO, LIST_AT), Proposed)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda site: site.made(range(7), minutes=-1), "older", id="older"),
        pytest.param(lambda site: site.made(range(7), minutes=61), "future", id="of the future"),
        pytest.param(lambda site: site.made(range(7), minutes=1)[:-40], "unreadable", id="cut"),
        pytest.param(
            lambda site: site.made(range(7), minutes=1).replace(b"d1.mss", b"dx.mss"),
            "signature",
            id="altered",
        ),
        pytest.param(lambda site: site.made(()), "empty", id="empty"),
        pytest.param(
            lambda _: encode([ListedDomain("d1.mssante.test", DN)], LIST_AT),
            "unsigned",
            id="unsigned",
        ),
    ],
)
async def test_two_persons_force_nothing_but_a_loss(site, damage, reason):
    content = damage(site)
    async with await site.open() as directory:
        for force in (ONE, TWO):
            outcome = await directory.adoption.force(content, force, LIST_AT)

            assert isinstance(outcome, Refused)
            assert outcome.reason.value == reason
        assert len(directory.trust.entries) == 10


async def test_a_new_name_for_a_known_domain_is_an_alarm_until_somebody_looked(site):
    async with await site.open() as directory:
        assert await directory.adoption.alarms() == ()
        site.list.write_bytes(site.made(range(11), minutes=1, others=(2, 10)))
        await directory.refresh_trust(LIST_AT)
    async with await site.open() as directory:
        (alarm,) = await directory.adoption.alarms()
        assert (alarm.at, alarm.domain) == (LIST_AT, "d2.mssante.test")
        assert alarm.dn == "CN=smtp.other.test,O=other,C=fr"
        assert directory.trust.allows("d2.mssante.test", OTHER)

        assert await directory.adoption.acknowledge("cli:one", LIST_AT) == 1
        assert await directory.adoption.alarms() == ()
        assert await directory.adoption.acknowledge("cli:one", LIST_AT) == 0


@pytest.mark.parametrize("way", ["from its file", "offered", "forced"])
async def test_a_list_that_cannot_be_kept_is_not_used_and_loses_no_alarm(site, monkeypatch, way):
    newer = site.made(range(10), minutes=1, others=(2,))

    async def bring(directory):
        if way == "from its file":
            site.list.write_bytes(newer)
            return await directory.refresh_trust(LIST_AT)
        if way == "offered":
            return await directory.adoption.offer(newer, LIST_AT)
        return await directory.adoption.force(newer, ONE, LIST_AT)

    async with await site.open() as directory:
        with monkeypatch.context() as full:
            full.setattr("directory.adoption._keep", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await bring(directory)
        assert not directory.trust.allows("d2.mssante.test", OTHER)

        assert isinstance(await bring(directory), Adopted)
        assert directory.trust.allows("d2.mssante.test", OTHER)
        assert [each.domain for each in await directory.adoption.alarms()] == ["d2.mssante.test"]


async def test_a_restart_keeps_the_last_good_list_although_its_signer_ran_out(site, signer):
    async with await site.open() as directory:
        assert directory.trust.lists("d1.mssante.test")
    after = signer.certificate.not_valid_after_utc + timedelta(seconds=1)

    async with await site.open(at=after) as directory:
        assert directory.trust.lists("d1.mssante.test")
        newer = await directory.adoption.offer(site.made(range(9), minutes=1), after)
        assert newer == Refused(TrustListReason.SIGNATURE)


async def test_a_list_is_judged_without_being_taken(site):
    async with await site.open() as directory:
        outcome = await directory.adoption.judge(site.made(range(9), others=(1,)), LIST_AT)

        assert isinstance(outcome, Adopted)
        assert (outcome.lost, len(outcome.new_names)) == (1, 1)
        assert len(directory.trust.entries) == 10
        assert await directory.adoption.alarms() == ()


async def test_two_signers_are_believed_while_one_takes_over(site, signer, successor):
    site.signer_path.write_bytes(signer.pem + successor.pem)
    async with await site.open() as directory:
        newer = site.made(range(10), minutes=1, signer=successor)

        assert isinstance(await directory.adoption.offer(newer, LIST_AT), Adopted)
    site.signer_path.write_bytes(signer.pem)
    async with await site.open() as directory:
        assert directory.trust.generated_at == LIST_AT, "what one signer made, one signer reads"


async def test_a_reader_adopts_for_itself_and_writes_nothing(site):
    async with await site.open():
        pass
    site.list.write_bytes(site.made(range(10), minutes=1, others=(2,)))
    async with await site.open(read_only=True) as directory:
        assert directory.trust.allows("d2.mssante.test", OTHER)
    async with await site.open() as directory:
        assert len(await directory.adoption.alarms()) == 1


async def test_a_site_without_a_list_is_told_so_once_until_one_comes(site):
    content = site.list.read_bytes()
    site.list.unlink()
    async with await site.open() as directory:
        assert directory.trust.lists("d1.mssante.test") is False
        looks = [await directory.refresh_trust(LIST_AT) for _ in range(3)]
        site.list.write_bytes(content)

        assert isinstance(await directory.refresh_trust(LIST_AT), Adopted)
    assert Refused(TrustListReason.UNREADABLE) not in looks
    assert looks.count(Refused(TrustListReason.ABSENT)) <= 1


async def test_what_left_the_list_is_remembered_over_a_restart(site):
    async with await site.open() as directory:
        await directory.adoption.offer(site.made(range(8), minutes=1), LIST_AT)
    site.list.unlink()
    async with await site.open() as directory:
        seven = site.made(range(7), minutes=2)
        assert await directory.adoption.offer(seven, LIST_AT) == Refused(TrustListReason.SHRUNK)
        assert await directory.adoption.force(seven, ONE, LIST_AT) == Proposed(lost=3)
        back = site.made(range(9), minutes=2, others=(9,))
        await directory.adoption.offer(back, LIST_AT)

        (alarm,) = await directory.adoption.alarms()
        assert (alarm.domain, alarm.dn) == ("d9.mssante.test", "CN=smtp.other.test,O=other,C=fr")


async def test_a_loss_that_two_persons_vouch_for_is_not_held_against_the_next_list(site):
    async with await site.open() as directory:
        smaller = site.made(range(5), minutes=1)
        await directory.adoption.force(smaller, ONE, LIST_AT)
        await directory.adoption.force(smaller, TWO, LIST_AT)
    site.list.unlink()
    async with await site.open() as directory:
        assert isinstance(
            await directory.adoption.offer(site.made(range(4), minutes=2), LIST_AT), Adopted
        )


async def test_one_person_cannot_force_a_loss_little_by_little(site):
    async with await site.open() as directory:
        await directory.adoption.force(site.made(range(8), minutes=1), ONE, LIST_AT)

        outcome = await directory.adoption.force(site.made(range(7), minutes=2), ONE, LIST_AT)

        assert outcome == Proposed(lost=3)


async def test_a_start_on_a_full_disk_serves_with_the_last_good_list(site, monkeypatch):
    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    async with await site.open():
        pass
    site.list.write_bytes(site.made(range(10), minutes=1, others=(2,)))
    with monkeypatch.context() as disk, capture_logs() as lines:
        disk.setattr("directory.adoption._keep", full)
        directory = await site.open()
    async with directory:
        assert [line["event"] for line in lines] == ["trust_list_not_kept"]
        assert directory.trust.lists("d2.mssante.test")
        assert not directory.trust.allows("d2.mssante.test", OTHER)

        assert isinstance(await directory.refresh_trust(LIST_AT), Adopted)
        assert [each.domain for each in await directory.adoption.alarms()] == ["d2.mssante.test"]
