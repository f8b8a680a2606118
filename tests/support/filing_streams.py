"""Random streams of mail for the proof of filing: every kind that RULES §2 to §6 tell apart."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from record_bridge.formats.xds_metadata import DEPRECATED
from tests.support.cda import CdaSpec, PatientSpec, acts, cda, follow_up
from tests.support.hostile import overlapping_bomb
from tests.support.reports import patient_spec
from tests.support.site import DemoSite
from tests.support.xdm import mail, package

_ROOT = "1.2.250.1.213.999.78"
_CUSTODIAN = "1750000026"


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message, by what it does to the record."""

    message_id: str
    kind: str
    raw: bytes
    recipients: tuple[str, ...]


@dataclass(slots=True)
class Stream:
    """Makes one message after the other; the same seed makes the same ones."""

    site: DemoSite
    chance: random.Random
    latest: list[CdaSpec] = field(default_factory=list)
    """What may be replaced, sent again, or contradicted."""
    owed: list[CdaSpec] = field(default_factory=list)
    """Parents whose replacement was sent before them."""
    number: int = 0

    @classmethod
    def of_each_kind(cls, site: DemoSite, seed: int) -> list[StreamMessage]:
        """Make one message of each kind."""
        stream = cls(site, random.Random(seed))
        return [stream.make(kind) for kind in _KINDS]

    def next(self) -> StreamMessage:
        """Make the next message, of any kind."""
        return self.make(self.chance.choice(sorted(_KINDS)))

    def make(self, kind: str) -> StreamMessage:
        """Make the next message."""
        self.number += 1
        archives = _KINDS[kind](self)
        sender = self.site.demo["operators"][0]["sender"]
        message_id = f"<stream{self.number}@{sender.partition('@')[2]}>"
        recipients = [self.site.demo["practitioners"][0]["address"]]
        if self.chance.random() < 0.2:
            recipients.append(self.site.demo["patients"][0]["address"])
        raw = mail(
            *archives,
            sender=sender,
            to=recipients[0],
            message_id=message_id,
            notify_to=sender if self.chance.random() < 0.5 else None,
        )
        return StreamMessage(message_id, kind, raw, tuple(recipients))

    def _fresh(self) -> CdaSpec:
        name = self.chance.getrandbits(56)
        return CdaSpec(
            unique_id=f"{_ROOT}.{name}",
            patients=(self._patient(),),
            set_id=f"{_ROOT}.{name}.1",
            custodian=_CUSTODIAN,
            author_organization=_CUSTODIAN,
            acts=acts(follow_up("20280412")) if self.chance.random() < 0.5 else (),
            narrative="ZZCANARYTEXTE " * self.chance.randrange(1, 2000),
        )

    def _patient(self) -> PatientSpec:
        return patient_spec(self.site.demo["patients"][0])

    def _known(self) -> CdaSpec:
        return self.chance.choice(self.latest) if self.latest else self._kept(self._fresh())

    def _kept(self, spec: CdaSpec) -> CdaSpec:
        self.latest.append(spec)
        return spec

    def new(self) -> list[bytes]:
        """A document nobody saw."""
        return [package(cda(self._kept(self._fresh())))]

    def several(self) -> list[bytes]:
        """Three documents in two packages."""
        first, second, third = (self._kept(self._fresh()) for _ in range(3))
        return [package(cda(first), cda(second)), package(cda(third))]

    def duplicate(self) -> list[bytes]:
        """A document that was sent before, in another message."""
        return [package(cda(self._known()))]

    def conflicting(self) -> list[bytes]:
        """A known identifier with other bytes."""
        return [package(cda(replace(self._known(), narrative="ZZCANARYTEXTE autre")))]

    def replacing(self) -> list[bytes]:
        """A version of a known document."""
        parent = self._known()
        if parent in self.latest:
            self.latest.remove(parent)
        fresh = self._kept(replace(self._fresh(), patients=parent.patients))
        self.latest[-1] = replace(fresh, replaces=parent.unique_id)
        return [package(cda(self.latest[-1]))]

    def reordered(self) -> list[bytes]:
        """A version before the one that it replaces; at the next call that one."""
        if self.owed:
            return [package(cda(self.owed.pop()))]
        parent = self._fresh()
        self.owed.append(parent)
        return [package(cda(replace(self._fresh(), replaces=parent.unique_id)))]

    def withdrawing(self) -> list[bytes]:
        """A known document, with the wish that it leaves."""
        return [package(cda(self._known()), availability=DEPRECATED)]

    def unknown(self) -> list[bytes]:
        """A patient whom nobody registered."""
        stranger = PatientSpec(ins="279039999000178", other_ids=())
        return [package(cda(replace(self._fresh(), patients=(stranger,))))]

    def other_traits(self) -> list[bytes]:
        """Somebody else under a registered number."""
        differs = replace(self._patient(), birth_date="19010101")
        return [package(cda(replace(self._fresh(), patients=(differs,))))]

    def hostile(self) -> list[bytes]:
        """An archive that must not be opened, or is none."""
        sound = package(cda(self._fresh()))
        entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        return [
            self.chance.choice(
                [
                    overlapping_bomb(),
                    sound[: len(sound) // 2],
                    b"\0" * 2000,
                    package(cda(replace(self._fresh(), prologue="")), hash="0" * 40),
                    sound.replace(b"PK\x01\x02", b"PK\x09\x09", 1) + entity,
                ]
            )
        ]

    def plain(self) -> list[bytes]:
        """A letter without a package."""
        return []


_KINDS: dict[str, Callable[[Stream], list[bytes]]] = {
    "new": Stream.new,
    "several": Stream.several,
    "duplicate": Stream.duplicate,
    "conflicting": Stream.conflicting,
    "replacing": Stream.replacing,
    "reordered": Stream.reordered,
    "withdrawing": Stream.withdrawing,
    "unknown": Stream.unknown,
    "other_traits": Stream.other_traits,
    "hostile": Stream.hostile,
    "plain": Stream.plain,
}
