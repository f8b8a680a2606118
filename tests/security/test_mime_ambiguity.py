"""Messages that two readers may split in two ways: gate, IMAP, webmail and bridge split them alike.

What is held against is the standard library's reader, in both its policies, which errs otherwise
than ours: a package that any reader finds never reaches a patient unread, and what is filed is
what every reader that finds a package there finds. Source: threats S20, RULES §7.
"""

import email
import email.policy
import warnings
from base64 import b64decode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from certs import smime
from certs.mime import Outline, Part, scan
from mailserver.delivery.errors import Refused
from mailserver.imap.commands_messages import BodySection, SectionKind
from mailserver.imap.sections import Span, Stored, locate
from mailserver.store.model import EntryDetail
from mailserver.webmail.reading import OpenedMessage
from mailserver.webmail.services import WebmailServices
from record_bridge.model import Environment
from record_bridge.opening import Opened, OpenRequest, open_message
from tests.support.ambiguous import PACKAGE, messages
from tests.support.imap_replies import Value, values
from tests.support.mailsite import AUTHSERV, CABINET, DOCTOR, PATIENT, MailSite, mail_site

NAME = "ihe_xdm.zip"
AT = datetime(2026, 11, 22, tzinfo=UTC)


def found_by_others(raw: bytes) -> list[bytes | None]:
    """Give what the standard library finds under the package's name; None: not to be decoded."""
    found: list[bytes | None] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for policy in (email.policy.compat32, email.policy.default):
            try:
                parts = list(email.message_from_bytes(raw, policy=policy).walk())
                named = [part for part in parts if NAME in (part.get_filename() or "").lower()]
                found += [cast("bytes | None", part.get_payload(decode=True)) for part in named]
            except (ValueError, TypeError, AttributeError, IndexError, LookupError):
                continue  # it breaks on some; it is held against where it reads
    return found


def is_the_package(payload: bytes | None) -> bool:
    """Whether a reader has the package, or shows its base64 because it missed the encoding."""
    if payload is None:
        return False
    try:
        return PACKAGE in (payload, b64decode(payload))
    except Base64Error:
        return False


def opened(entry: EntryDetail, blob: bytes) -> Opened:
    request = OpenRequest(entry.prefix + blob, AUTHSERV, AT, Environment.TEST)
    return open_message(request, smime.Trust((), ()))


def leaves_of(outline: Outline, shift: int = 0) -> list[tuple[str, int, int]]:
    """Give type, offset and size of each leaf; a forwarded message is entered."""
    waiting: list[Part] = [outline.root]
    found = []
    while waiting:
        part = waiting.pop()
        if part.is_multipart or part.children:
            waiting.extend(reversed(part.children))
        else:
            found.append((part.type, part.body_start - shift, part.octets))
    return found


def leaves_told(
    structure: Value, section: tuple[int, ...] = ()
) -> list[tuple[str, int, tuple[int, ...]]]:
    """Give type, size and section number of each leaf of a BODYSTRUCTURE (RFC 9051 §7.5.2)."""
    assert isinstance(structure, list)
    if isinstance(structure[0], list):
        parts = [each for each in structure if isinstance(each, list)]
        count = next(at for at, each in enumerate(structure) if not isinstance(each, list))
        return [
            leaf
            for number, part in enumerate(parts[:count], 1)
            for leaf in leaves_told(part, (*section, number))
        ]
    section = section or (1,)
    kind = b"/".join(cast("list[bytes]", structure[:2])).decode().lower()
    if kind in {"message/rfc822", "message/global"} and isinstance(structure[8], list):
        inner = structure[8]
        if inner[:2] == [b"text", b"plain"] and inner[6] == b"0":  # it was not entered
            return [(kind, int(cast("bytes", structure[6])), section)]
        deeper = section if isinstance(inner[0], list) else (*section, 1)
        return leaves_told(inner, deeper)
    return [(kind, int(cast("bytes", structure[6])), section)]


def differences(entry: EntryDetail, blob: bytes) -> list[str]:
    """Compare what the four readers of this site make of a stored message."""
    said: list[str] = []
    gate = scan(blob)
    webmail = OpenedMessage(cast("WebmailServices", None), entry)
    bridge = scan(entry.prefix + blob)
    if leaves_of(gate) != leaves_of(webmail.outline):
        said.append("gate and webmail")
    if leaves_of(gate) != leaves_of(bridge, len(entry.prefix)):
        said.append("gate and bridge")
    stored = Stored(entry.prefix, entry.index.header_octets, len(blob), lambda: webmail.outline)
    (structure,) = values(entry.index.bodystructure)
    told = []
    for kind, size, numbers in leaves_told(structure):
        asked = BodySection(b"BODY[]", numbers, SectionKind.WHOLE, frozenset(), None, peek=True)
        place = locate(asked, stored)
        if place is None and (kind, size) == ("text/plain", 0):
            continue  # what the grammar wants in a multipart without parts
        if not isinstance(place, Span) or place.head or place.length != size:
            said.append("BODYSTRUCTURE and BODY[]")
            continue
        told.append((kind, place.start, size))
    if told != leaves_of(gate):
        said.append("gate and IMAP")
    return said


@pytest.fixture
async def site(tmp_path: Path):
    async with mail_site(tmp_path) as opened_site:
        yield opened_site


def test_there_are_as_many_as_were_published() -> None:
    """372 messages; ours are not theirs, but no fewer."""
    assert len(messages()) >= 372


@pytest.mark.timeout(120)
async def test_all_readers_split_alike_and_no_package_reaches_a_patient_unread(
    site: MailSite,
) -> None:
    wrong: list[tuple[str, str]] = []
    counts = {"refused": 0, "filed": 0, "aside": 0, "mail": 0}
    taken = []
    for name, raw in messages().items():
        written = raw.replace(b"<a@b.test>", b"<lab@chu.test>")
        if isinstance(await site.receive(written, DOCTOR, PATIENT), Refused):
            counts["refused"] += 1
        else:
            taken.append(name)
    seen = {each.row.blob_id for each in await site.inbox(PATIENT)}
    to_bridge = {each.row.blob_id for each in await site.inbox(CABINET.application_address)}
    for name, entry in zip(taken, await site.inbox(DOCTOR), strict=True):
        octets = await site.store.blobs.octets(entry.row.blob_id)
        blob = await site.store.blobs.read(entry.row.blob_id, 0, octets)
        held = entry.row.blob_id not in seen
        others = found_by_others(blob)
        bridge = opened(entry, blob)
        filed = any(package.problem is None for package in bridge.packages)
        shown = OpenedMessage(cast("WebmailServices", None), entry).attachments()

        wrong += [(name, each) for each in differences(entry, blob)]
        if held != (entry.row.blob_id in to_bridge):
            wrong.append((name, "held and never opened, or opened and not held"))
        if not held and (
            any(map(is_the_package, others))
            or bridge.packages
            or any(NAME in each.name.lower() for each in shown)
        ):
            wrong.append((name, "a package the patient sees unread"))
        if filed and not all(map(is_the_package, others)):
            wrong.append((name, "filed, and others read something else"))
        if filed and (bridge.unreadable or scan(blob).ambiguous):
            wrong.append((name, "filed though ambiguous"))
        aside = bool(bridge.packages) or bridge.unreadable
        counts["filed" if filed else "aside" if held and aside else "mail"] += 1

    assert wrong == []
    # Each outcome happens: the messages are hostile, not broken.
    assert min(counts.values()) >= 5, counts
