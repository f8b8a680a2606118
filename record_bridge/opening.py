"""Open one fetched message: who sent it, is it signed, which documents does it carry.

Runs in the sandbox: everything here reads strangers' bytes. Whatever they hold, the answer is a
value; a package or a document that cannot be read is a `Problem` in its place, so that it is
counted and explained. Only the header above the message's own is believed, and of it only the
field of the configured server.

Source: DESIGN §3 step 11, RULES §2, RULES §3, RULES §5, threats X1 to X10.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from certs import mime, path, smime
from certs.addresses import parse_addr_spec, parse_address_list, single_from
from certs.errors import CertsError, MalformedAddressError
from certs.mime import Outline, Part
from certs.verdict import SignatureVerdict
from record_bridge import cda_body, identity, lab_results, medications
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats import auth_results, xds_metadata
from record_bridge.formats.cda_header import CdaHeader, load_cda, read_header
from record_bridge.formats.xdm import XdmPackage, open_package, read_metadata
from record_bridge.formats.xds_metadata import DocumentEntry, SubmissionSet
from record_bridge.model import (
    AgendaAct,
    Claim,
    Environment,
    ErrorCode,
    InsMatricule,
    Lists,
    Occurrence,
    Opened,
    OpenedDocument,
    OpenedPackage,
    Problem,
    Reason,
)

PACKAGE_NAME: Final = "ihe_xdm.zip"
MAX_PACKAGES: Final = 20
MAX_NESTING: Final = 4
"""Signatures inside forwarded messages inside signatures..."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_CLAIM: Final = Claim(None, None)
_NOTIFICATIONS: Final = frozenset({"message/disposition-notification", "message/delivery-status"})
_CMS_TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """One message to open.

    Attributes:
        raw: the message as fetched, the server's prefix included, CRLF line ends.
        authserv_id: the only server whose Authentication-Results is believed.
        at: aware UTC instant of reception, at which certificates are judged.
        environment: of the site.
    """

    raw: bytes
    authserv_id: str
    at: datetime
    environment: Environment


def open_message(request: OpenRequest, trust: smime.Trust) -> Opened:
    """Open one message of an application mailbox.

    Args:
        request: the message.
        trust: anchors and revocation lists for its signature.

    Returns:
        Everything the rules need; never raises for what the message holds.

    Source: DESIGN §3 step 11.
    """
    raw = request.raw
    outline = mime.scan(raw)
    evidence = path.Evidence(trust.anchors, trust.crls, request.at)
    verdict = smime.verify_outline(raw, outline, evidence)
    results = auth_results.parse(
        [f.value for f in outline.fields(auth_results.FIELD_NAME)], request.authserv_id
    )
    packages = tuple(
        _opened_package(found, request.environment) for found in _packages(raw, outline)
    )
    if outline.ambiguous:  # two correct readers could see two different messages
        packages = tuple(replace(p, problem=_problem(Reason.MESSAGE_AMBIGUOUS)) for p in packages)
    delivered = (_address(f.value) for f in outline.fields("delivered-to"))
    return_paths = outline.fields("return-path")
    return Opened(
        delivered_to=tuple(dict.fromkeys(filter(None, delivered))),
        return_path=_address(return_paths[0].value) if return_paths else None,
        from_address=_from_address(outline),
        notify_to=_notify_to(outline),
        message_id=outline.text("message-id")[:998],
        subject=outline.text("subject")[:998],
        auth=results,
        verdict=verdict,
        packages=packages,
        unreadable=outline.ambiguous,
    )


def list_occurrences(raw: bytes) -> tuple[Occurrence, ...]:
    """What one raw message counts for: one occurrence for each listed document.

    Counts exactly what `open_message` yields, from the raw mail alone; never raises.

    Source: RULES §2.
    """
    outline = mime.scan(raw)
    found: list[Occurrence] = []
    for candidate in _packages(raw, outline):
        package = _opened_package(candidate, Environment.TEST)
        found.extend(occurrences(package))
    return tuple(found)


def count_occurrences(raw: bytes) -> int:
    """How many occurrences one raw message counts for; 0 without a package.

    The number that `list_occurrences` gives, without reading the documents.

    Source: RULES §2.
    """
    return _count(raw, mime.scan(raw))


def examine(raw: bytes, trust: smime.Trust, at: datetime) -> tuple[SignatureVerdict, int]:
    """Judge a message's signature and count its occurrences, for the gate, on one scan."""
    outline = mime.scan(raw)
    verdict = smime.verify_outline(raw, outline, path.Evidence(trust.anchors, trust.crls, at))
    return verdict, _count(raw, outline)


def _count(raw: bytes, outline: Outline) -> int:
    return sum(_listed(found.content) for found in _packages(raw, outline))


def _listed(content: bytes | None) -> int:
    """How many documents a package lists; one when it cannot be listed."""
    if content is None:
        return 1
    try:
        # What lists one document and what cannot be opened are both one occurrence: the
        # documents are inflated only for a listing of several.
        if not xds_metadata.lists_several(read_metadata(content)):
            return 1
        listing = xds_metadata.parse(open_package(content).metadata)
    except MalformedDocumentError:
        return 1
    return max(1, len(listing.entries))


def occurrences(package: OpenedPackage) -> tuple[Occurrence, ...]:
    """What one opened package counts for.

    Source: RULES §2 (an archive that cannot be listed is one occurrence).
    """
    if not package.documents:
        digest = hashlib.sha256(package.content).digest()
        return (Occurrence("", digest, listed=False),)
    return tuple(Occurrence(d.unique_id, d.sha256) for d in package.documents)


# --- finding packages ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """A part named IHE_XDM.zip; content is None when it cannot be decoded."""

    content: bytes | None
    raw_part: bytes
    forwarded: bool


def _packages(raw: bytes, outline: Outline) -> Iterator[_Found]:
    """Every package of a message, outer ones first, at most MAX_PACKAGES."""
    waiting: list[tuple[bytes, Outline, bool, int]] = [(raw, outline, False, 0)]
    count = 0
    while waiting:
        source, tree, forwarded, depth = waiting.pop(0)
        parts: list[tuple[Part, bool]] = [(tree.root, forwarded)]
        while parts:
            part, inside = parts.pop()
            parts.extend(
                (child, inside or part.type in mime.MESSAGE_TYPES)
                for child in reversed(_enclosed(part))
            )
            if mime.is_named(part, PACKAGE_NAME):
                count += 1
                if count > MAX_PACKAGES:
                    return
                yield _Found(
                    _decoded(source, part), source[part.body_start : part.body_end], inside
                )
            elif part.type in _CMS_TYPES and depth < MAX_NESTING:
                inner = _signed_content(source, part)
                if inner is not None:
                    waiting.append((inner, mime.scan(inner), inside, depth + 1))


def _enclosed(part: Part) -> tuple[Part, ...]:
    """The parts inside a part, less the message that a notification gives back.

    A disposition or delivery notification holds the whole message it is about: a report that was
    sent from here and comes back with its receipt is nobody's new document.

    Source: RFC 8098 §3, RFC 3464 §2, CI-SIS §LPS-MSS.
    """
    is_report = part.type == "multipart/report" and any(
        child.type in _NOTIFICATIONS for child in part.children
    )
    if not is_report:
        return part.children
    return tuple(child for child in part.children if child.type not in mime.MESSAGE_TYPES)


def _decoded(raw: bytes, part: Part) -> bytes | None:
    try:
        return mime.decode_strictly(raw, part)
    except CertsError:
        return None


def _signed_content(raw: bytes, part: Part) -> bytes | None:
    """What an opaque signature holds; None for anything else (encrypted, broken)."""
    try:
        return smime.content(raw[part.header_start : part.body_end])
    except CertsError:
        return None


# --- opening one package ---------------------------------------------------------------------


def _problem(reason: Reason) -> Problem:
    return Problem(ErrorCode.OTHER, reason)


def _opened_package(found: _Found, environment: Environment) -> OpenedPackage:
    """A package with its documents; unreadable things are problems in their place."""
    content = found.content
    if content is None:
        return OpenedPackage(
            found.raw_part, found.forwarded, (), _problem(Reason.PACKAGE_UNREADABLE)
        )

    def refused(reason: Reason) -> OpenedPackage:
        return OpenedPackage(content, found.forwarded, (), _problem(reason))

    try:
        package = open_package(content)
    except MalformedDocumentError:
        return refused(Reason.PACKAGE_UNREADABLE)
    try:
        listing = xds_metadata.parse(package.metadata)
    except MalformedDocumentError:
        return refused(Reason.METADATA_UNREADABLE)
    if not listing.entries:
        return refused(Reason.METADATA_UNREADABLE)
    files: dict[str, _File] = {}
    documents = tuple(
        _opened_document(entry, _file(package, entry.uri, files), listing, environment)
        for entry in listing.entries
    )
    return OpenedPackage(content, found.forwarded, documents, _package_problem(documents))


def _package_problem(documents: tuple[OpenedDocument, ...]) -> Problem | None:
    """What is wrong with a package as a whole: two patients, or one identifier twice."""
    patients = identity.one_patient([d.claim for d in documents])
    if patients is not None:
        return patients
    contents: dict[str, bytes] = {}
    for document in documents:
        if contents.setdefault(document.unique_id, document.sha256) != document.sha256:
            return _problem(Reason.SAME_ID_OTHER_BYTES)
    return None


_NO_LINES: Final = Lists()


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a package, read once however often the metadata lists it."""

    content: bytes
    sha256: bytes
    sha1: str
    header: CdaHeader | None
    acts: tuple[AgendaAct, ...] = ()
    lists: Lists = _NO_LINES
    media_type: str = ""


def _file(package: XdmPackage, uri: str, files: dict[str, _File]) -> _File | None:
    """The file that a URI names, read; None when there is none, or not one."""
    try:
        packed = package.resolve(uri)
    except MalformedDocumentError:
        return None
    if packed is None:
        return None
    if packed.uri not in files:
        files[packed.uri] = _read(packed.content)
    return files[packed.uri]


def _read(content: bytes) -> _File:
    sha256 = hashlib.sha256(content).digest()
    # SHA-1 by profile: it guards against accidents only, ours is the other one
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    try:
        root = load_cda(content)
        header = read_header(root)
        acts = cda_body.acts(root, header)
        lists = Lists(lab_results.results(root, header), medications.medications(root))
    except MalformedDocumentError:
        return _File(content, sha256, sha1, None)
    return _File(content, sha256, sha1, header, acts, lists, cda_body.level1_media_type(root))


def read_acts(content: bytes) -> tuple[AgendaAct, ...]:
    """The acts of a document that was filed once; none when it cannot be read any more."""
    return _read(content).acts


def read_number(content: bytes) -> tuple[InsMatricule, ...] | None:
    """The INS of whom a document is about, none when it gives none.

    None when it cannot be read, or is about two persons or numbers: nobody's (RULES §5).
    """
    header = _read(content).header
    if header is None or len(header.patients) > 1:
        return None
    numbers = identity.numbers_of(header.patients[0]) if header.patients else ()
    return numbers if len(numbers) <= 1 else None


def read_head(content: bytes) -> CdaHeader | None:
    """The header of a document that was filed once; None when it cannot be read any more."""
    return _read(content).header


def read_lists(content: bytes) -> Lists:
    """What a document that was filed once adds to lists; nothing when it is unreadable."""
    return _read(content).lists


def _opened_document(
    entry: DocumentEntry, file: _File | None, listing: SubmissionSet, environment: Environment
) -> OpenedDocument:
    if file is None:
        digest = hashlib.sha256(b"").digest()
        problem = _problem(Reason.DOCUMENT_MISSING)
        return OpenedDocument(entry, b"", digest, None, _NO_CLAIM, problem=problem)
    if file.header is None:
        problem = _problem(Reason.DOCUMENT_UNREADABLE)
        return OpenedDocument(entry, file.content, file.sha256, None, _NO_CLAIM, problem=problem)
    return OpenedDocument(
        entry,
        file.content,
        file.sha256,
        file.header,
        identity.claim_of(file.header, entry, listing, environment),
        acts=file.acts,
        lists=file.lists,
        media_type=file.media_type,
        problem=_disagreement(entry, file, file.header.unique_id),
    )


def _disagreement(entry: DocumentEntry, file: _File, unique_id: str) -> Problem | None:
    """What the metadata says otherwise than the document; a missing hash differs (threat X4).

    The profile says SHA-1; a sender's SHA-256 of the same octets agrees no less.
    """
    if entry.size_text and entry.size != len(file.content):
        return _problem(Reason.SIZE_DIFFERS)
    if entry.hash not in (file.sha1, file.sha256.hex()):
        return _problem(Reason.HASH_DIFFERS)
    if entry.unique_id and _bare_id(entry.unique_id) != _bare_id(unique_id):
        return _problem(Reason.ID_DIFFERS)
    if entry.availability == xds_metadata.DEPRECATED:
        return _problem(Reason.WITHDRAWAL_ASKED)
    return None


def _bare_id(text: str) -> str:
    """An identifier without what senders add to it: a URN's prefix, an empty extension, a case.

    A UUID is its number under 2.25 as well, because XDS knows only OIDs.

    Source: ITU-T X.667 §6.3, ITI TF-3 §4.2.3.2.26.
    """
    bare = text.strip().lower().removeprefix("urn:oid:").removeprefix("urn:uuid:")
    root, _, extension = bare.partition("^")
    if _UUID.fullmatch(root):
        root = f"2.25.{int(root.replace('-', ''), 16)}"
    return f"{root}^{extension}" if extension else root


# --- header fields ---------------------------------------------------------------------------


def _address(value: bytes) -> str:
    """One address between angle brackets or bare, lower case; "" for the null one or none."""
    text = value.strip().removeprefix(b"<").removesuffix(b">")
    if not text:
        return ""
    try:
        return parse_addr_spec(text).text.lower()
    except MalformedAddressError:
        return ""


def _from_address(outline: Outline) -> str | None:
    try:
        return single_from(outline).text.lower()
    except MalformedAddressError:
        return None


def _notify_to(outline: Outline) -> str | None:
    fields = outline.fields("disposition-notification-to")
    if len(fields) != 1:
        return None
    try:
        listed = parse_address_list(fields[0].value)
    except MalformedAddressError:
        return None
    return listed[0].address.text.lower() if len(listed) == 1 else None
