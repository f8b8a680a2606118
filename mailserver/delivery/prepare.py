"""One message made ready to be stored: outline, cuts, index and what its signature says.

The pure part of both ways in. A message over ``INLINE_OCTETS`` is prepared in a thread, so that
the event loop never stands still for it (DESIGN §5).

Source: DESIGN §3 step 5, DESIGN D5b.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, Final

from certs.errors import CertsError, SandboxError
from certs.mime import MESSAGE_TYPES, Outline, Part, decode_body, find_named, scan, walk
from certs.recipients import Unusable
from certs.verdict import NO_SIGNATURE, UNREADABLE_SIGNATURE, SignatureVerdict
from mailserver.delivery.errors import Refused
from mailserver.delivery.rules import refusal
from mailserver.delivery.trace import cut, is_stranger
from mailserver.message.index import PACKAGE_NAME, MessageIndex, index
from record_bridge.formats.marks import PackageMarks

INLINE_OCTETS: Final = 128 * 1024
"""Larger messages are scanned in a thread: half a millisecond of the event loop."""

Verify = Callable[[bytes, datetime], Awaitable[SignatureVerdict]]
"""Judges the S/MIME signature of a whole message at an instant, in the worker pool."""
OpenOpaque = Callable[[bytes], Awaitable[bytes]]
"""Gives the content of an opaque signature, in the worker pool."""

CountDocuments = Callable[[bytes], Awaitable[int]]
"""Counts the documents listed in a message's packages, in the worker pool (RULES §2)."""
Examine = Callable[[bytes, datetime], Awaitable[tuple[SignatureVerdict, int]]]
"""Judges the signature and counts the documents of a message, in one call of the worker pool."""
JudgeCertificate = Callable[[bytes, str], Awaitable[Unusable | None]]
"""Says why mail to an address cannot be encrypted with a certificate now."""
Documents = PackageMarks
"""What the documents of a message say."""
ReadMarks = Callable[[bytes], Awaitable[Documents]]
"""Gives the X-MSS fields of a message by its documents, in the worker pool (threats S17)."""

_SMIME_TYPES: Final = frozenset(
    {
        "multipart/signed",
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "application/cms",
    }
)
_PACKAGE_HINT: Final = re.compile(rb"ihe.{0,64}?xdm|suhfx1hets56axa", re.DOTALL)
"""The name IHE_XDM.zip in any of its encodings: plain, percent, continued, base64 (lower case)."""
_OPAQUE_SUFFIXES: Final = (".p7m", ".p7c", ".p7z")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message ready for its transaction.

    Attributes:
        blob: the octets after cuts; offsets of ``index`` are theirs.
        outline: of the original.
        packages: parts named IHE_XDM.zip, in the clear.
    """

    raw: bytes
    blob: bytes
    outline: Outline
    index: MessageIndex
    packages: int


@dataclass(frozen=True, slots=True)
class Workers:
    """What opens strangers' bytes, in the worker pool or (certificates) a thread (DESIGN D4)."""

    verify: Verify
    open_opaque: OpenOpaque | None = None
    count_documents: CountDocuments | None = None
    read_marks: ReadMarks | None = None
    examine: Examine | None = None
    judge_certificate: JudgeCertificate | None = None

    async def judged(
        self, message: Prepared, at: datetime
    ) -> tuple[Prepared, SignatureVerdict, int]:
        """Judge a message, look inside it and count its documents.

        A signed report, the usual case, costs one call of the pool. When that call fails the
        steps are tried one by one, so that a package that breaks the counter does not cost the
        signature its verdict.
        """
        if self.examine is not None and message.packages and is_signed(message):
            try:
                return message, *await self.examine(message.raw, at)
            except CertsError:
                pass
        verdict = await judge(message, self.verify, at)
        message = await look_inside(message, self)
        return message, verdict, await self.count(message)

    async def marks(self, raw: bytes) -> Documents:
        """Give what a message's documents call for; nothing when they cannot be read."""
        if self.read_marks is None:
            return Documents()
        try:
            return await self.read_marks(raw)
        except CertsError:
            return Documents()

    async def count(self, message: Prepared) -> int:
        """Count the documents of a message; its archives, when they cannot be opened."""
        if not message.packages or self.count_documents is None:
            return message.packages
        try:
            return await self.count_documents(message.raw)
        except CertsError:
            return message.packages


def read_all(body: bytes | BinaryIO) -> bytes:
    """Give the octets of a body that may lie in a spooled file."""
    if isinstance(body, bytes):
        return body
    body.seek(0)
    return body.read()


def prepare(raw: bytes, authserv_id: str) -> Prepared | Refused:
    """Scan a message, cut what strangers may not write, and index the rest; pure."""
    outline = scan(raw)
    refused = refusal(raw, outline)
    if refused is not None:
        return refused
    blob = cut(raw, outline, is_stranger(authserv_id))
    indexed = index(blob, outline if blob is raw else None)
    packages = len(find_named(outline, PACKAGE_NAME))
    if not packages and outline.ambiguous and _may_hold_a_package(raw, outline):
        # Another reader may see the package that this one does not (S20).
        packages = 1
    if bool(packages) != indexed.has_package:
        indexed = indexed._replace(has_package=bool(packages))
    return Prepared(raw, blob, outline, indexed, packages)


def _may_hold_a_package(raw: bytes, outline: Outline) -> bool:
    """Whether the name of a package is anywhere, also in a message that came in base64."""
    packed = (
        decode_body(raw, part)
        for part in walk(outline)
        if part.type in MESSAGE_TYPES and not part.children and part.encoding != "7bit"
    )
    return any(_PACKAGE_HINT.search(octets.lower()) for octets in (raw, *packed))


async def prepared(body: bytes | BinaryIO, octets: int, authserv_id: str) -> Prepared | Refused:
    """Prepare a message, off the event loop when it is large."""
    if isinstance(body, bytes) and octets <= INLINE_OCTETS:
        return prepare(body, authserv_id)
    return await asyncio.to_thread(lambda: prepare(read_all(body), authserv_id))


def is_opaque(part: Part) -> bool:
    """Whether a part is one CMS object: an opaque signature or an encryption."""
    if part.is_multipart or part.children:
        return False
    name = part.filename
    return part.type in _SMIME_TYPES or (
        name is not None and name.lower().endswith(_OPAQUE_SUFFIXES)
    )


def is_signed(message: Prepared) -> bool:
    """Whether the outermost structure claims to be a signature."""
    root = message.outline.root
    return root.type in _SMIME_TYPES or is_opaque(root)


async def judge(message: Prepared, verify: Verify, at: datetime) -> SignatureVerdict:
    """Judge the signature of a message; a verdict always, whatever happens to the worker."""
    if not is_signed(message):
        return NO_SIGNATURE
    try:
        return await verify(message.raw, at)
    except CertsError:
        return UNREADABLE_SIGNATURE


async def look_inside(message: Prepared, workers: Workers) -> Prepared:
    """Look for packages inside opaque signatures; the message is the same when there is none.

    What cannot be opened (encrypted, malformed) holds none that anybody here could read. A
    signature inside the message (forwarded, attached) is opened by the counter, which is the
    bridge's own reader. When the worker itself fails, nobody can tell that there is none: the
    message counts as a package, so that the bridge says what it is, and a patient's entry waits.
    """
    if message.packages or not any(map(is_opaque, walk(message.outline))):
        return message
    packages = 0
    try:
        if workers.count_documents is not None:
            packages = await workers.count_documents(message.raw)
        elif workers.open_opaque is not None and is_opaque(message.outline.root):
            inner = await asyncio.to_thread(scan, await workers.open_opaque(message.raw))
            packages = len(find_named(inner, PACKAGE_NAME))
    except SandboxError:
        packages = 1
    except CertsError:
        return message
    if not packages:
        return message
    return replace(message, packages=packages, index=message.index._replace(has_package=True))


def retry_key(peer_dn: str, reverse_path: str, recipient: str, sha256: bytes) -> bytes:
    """Give the key under which a repeated delivery to one recipient is known.

    Source: DESIGN §3 step 8.
    """
    digest = hashlib.sha256()
    for value in (peer_dn, reverse_path, recipient.lower()):
        octets = value.encode("utf-8", "surrogatepass")
        digest.update(len(octets).to_bytes(4, "big") + octets)
    digest.update(sha256)
    return digest.digest()
