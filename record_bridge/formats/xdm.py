"""IHE_XDM.zip: a package opened without trusting a word of it, and made.

Nothing is ever extracted to a disk. The central directory is read here, byte by byte, and every
archive that two readers could read in two ways is refused whole: overlaps, gaps, data before or
after, names that differ between the two headers, twins, links, paths that climb, ZIP64,
encryption, archives inside. Sizes are bounded as declared, then counted while inflating.

Source: PKWARE APPNOTE §4.3, PKWARE APPNOTE §4.4, ITI TF-2 §3.32, CI-SIS §EchangeDoc, threats X1
to X3.
"""

import io
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from record_bridge.errors import MalformedPackageError


@dataclass(frozen=True, slots=True)
class XdmLimits:
    """Bounds of an archive. Real packages hold two to ten files of less than 3 MB each."""

    max_archive_bytes: int = 50 * 1024 * 1024
    max_files: int = 1000
    max_total_bytes: int = 100 * 1024 * 1024
    max_ratio: int = 200
    max_name_bytes: int = 255


DEFAULT_LIMITS: Final = XdmLimits()


@dataclass(frozen=True, slots=True)
class PackagedDocument:
    """One file of a package.

    Attributes:
        uri: name inside the archive, with ``/``; when building: relative to the subset folder.
    """

    uri: str
    content: bytes


@dataclass(frozen=True, slots=True)
class XdmPackage:
    """A package whose archive is sound.

    Attributes:
        metadata: METADATA.XML of its one submission set.
        folder: folder of METADATA.XML, ending in ``/``.
        documents: every other file, in archive order, wherever it lies.
    """

    metadata: bytes
    folder: str
    documents: tuple[PackagedDocument, ...]
    by_name: dict[str, PackagedDocument] = field(default_factory=dict, repr=False, compare=False)

    def resolve(self, uri: str) -> PackagedDocument | None:
        """The file a URI of the metadata names; None when there is none.

        The URI is taken relative to METADATA.XML's folder, to its parent or to the folder of
        ``IHE_XDM`` (all are seen in the wild), as it is or with its ``%20`` decoded, in any case,
        never outside the package.

        Raises:
            MalformedPackageError: two readings name two files.
        """
        written = uri.replace("\\", "/").removeprefix("./")
        names = {name for name in (written, unquote(written)) if _is_safe_name(name)}
        parent, root = _outer(self.folder), _outer(_outer(self.folder))
        found = [
            self.by_name.get(_key(base + name))
            for name in names
            for base in (self.folder, parent, root)
            if base != root or _key(base + name).startswith(_key(parent) + "/")
        ]
        files = {f.uri: f for f in found if f is not None}
        if len(files) > 1:
            raise MalformedPackageError("ambiguous URI")
        return next(iter(files.values()), None)


def open_package(archive: bytes, limits: XdmLimits = DEFAULT_LIMITS) -> XdmPackage:
    """Open an IHE_XDM.zip in memory.

    Raises:
        MalformedPackageError: the archive is unsafe or broken, holds no METADATA.XML, or several.

    Source: ITI TF-2 §3.32.4.1, threats X1 to X3.
    """
    files = tuple(
        PackagedDocument(entry.name, content) for entry, content in _inflated(archive, limits)
    )
    metadata = [f for f in files if _is_metadata(f.uri)]
    if not metadata:
        raise MalformedPackageError("no METADATA.XML")
    if len(metadata) > 1:
        raise MalformedPackageError("several submission sets")
    others = tuple(f for f in files if f is not metadata[0])
    return XdmPackage(
        metadata=metadata[0].content,
        folder=metadata[0].uri.rpartition("/")[0] + "/",
        documents=others,
        by_name={_key(f.uri): f for f in others},
    )


def read_metadata(archive: bytes, limits: XdmLimits = DEFAULT_LIMITS) -> bytes:
    """The METADATA.XML of an archive, alone: no document is inflated.

    Raises:
        MalformedPackageError: `open_package` would raise it, too; that it is not raised does not
            say that `open_package` would succeed.
    """
    found = [
        (entry, data_at)
        for entry, data_at in _checked(archive, limits)
        if _is_metadata(entry.name) and not entry.name.endswith("/")
    ]
    if len(found) != 1:
        raise MalformedPackageError("no METADATA.XML" if not found else "several submission sets")
    return _content(archive, *found[0])


def build_package(
    metadata: bytes,
    documents: Sequence[PackagedDocument],
    *,
    sender: str = "",
    subset: str = "SUBSET01",
) -> bytes:
    """Make an IHE_XDM.zip; the same input makes the same bytes.

    Args:
        metadata: see `xds_metadata.encode`; its URIs are those of ``documents``.
        documents: their ``uri`` is relative to the subset folder, 8.3 and upper case by profile.
        sender: organisation shown in README.TXT.
        subset: name of the subset folder, at most eight characters.

    Source: ITI TF-2 §3.32.4.1, CI-SIS §EchangeDoc.
    """
    links = "".join(f'<li><a href="IHE_XDM/{subset}/{d.uri}">{d.uri}</a></li>' for d in documents)
    index = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>IHE_XDM</title></head>'
        f"<body><ul>{links}</ul></body></html>"
    )
    readme = (
        f"Emetteur\r\n{sender}\r\n\r\nApplication de l'emetteur\r\nPli\r\n\r\n"
        "Instructions\r\nOuvrir INDEX.HTM\r\n\r\n"
        f"Arborescence\r\nIHE_XDM/{subset}\r\n"
    )
    files = [
        ("INDEX.HTM", index.encode()),
        ("README.TXT", readme.encode()),
        (f"IHE_XDM/{subset}/METADATA.XML", metadata),
        *((f"IHE_XDM/{subset}/{d.uri}", d.content) for d in documents),
    ]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
        for name, content in files:
            # what would inflate suspiciously well is stored as it is
            info = zipfile.ZipInfo(name)
            info.create_system = 0
            packed = len(zlib.compress(content, 6))
            suspicious = packed * DEFAULT_LIMITS.max_ratio < 2 * len(content)
            info.compress_type = zipfile.ZIP_STORED if suspicious else zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return written.getvalue()


# --- the archive -----------------------------------------------------------------------------

_END: Final = struct.Struct("<4s4H2LH")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_FLAG_DESCRIPTOR: Final = 0x0008
_FLAG_UTF8: Final = 0x0800
_FLAGS_ALLOWED: Final = 0x0006 | _FLAG_DESCRIPTOR | _FLAG_UTF8
"""Deflate effort bits, sizes after the data, UTF-8 names; the rest is encryption or patches."""

_STORED: Final = 0
_DEFLATED: Final = 8
_TAIL: Final = b"\x00\r\n"
"""What may stand behind the archive: a buffer that was sent whole, the end of a line."""
_MAX_TAIL: Final = 0xFFFF
"""The longest comment: no reader looks further back for the end (PKWARE APPNOTE §4.3.16)."""
_EXTRA_REFUSED: Final = frozenset({0x0001, 0x6375, 0x7075, 0x0017, 0x9901})
"""ZIP64, a second comment, a second name, and two ways of encryption."""

_ARCHIVES: Final = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x1f\x8b\x08",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"MSCF",
)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def _refuse(*, when: bool, reason: str) -> None:
    if when:
        raise MalformedPackageError(reason)


def _inflated(archive: bytes, limits: XdmLimits) -> list[tuple[_Entry, bytes]]:
    """Every file with its content; all checks are done before the first byte is inflated."""
    contents = [
        (entry, _content(archive, entry, data_at)) for entry, data_at in _checked(archive, limits)
    ]
    return [(entry, content) for entry, content in contents if not entry.name.endswith("/")]


def _checked(archive: bytes, limits: XdmLimits) -> list[tuple[_Entry, int]]:
    """Every entry with where its data begins, once the archive's structure is sound."""
    try:
        entries, directory_at = _central_directory(archive, limits)
        spans = sorted((_span(archive, entry) for entry in entries), key=lambda span: span[0])
    except struct.error:
        raise MalformedPackageError("cut short") from None
    reached = 0
    for start, _, end in spans:
        _refuse(when=start < reached, reason="overlap")
        _refuse(when=start > reached, reason="hidden bytes")
        reached = end
    _refuse(when=reached != directory_at, reason="hidden bytes")
    where = {start: data_at for start, data_at, _ in spans}
    return [(entry, where[entry.offset]) for entry in entries]


def _central_directory(archive: bytes, limits: XdmLimits) -> tuple[list[_Entry], int]:
    """The entries in order, and the offset of the directory.

    Source: PKWARE APPNOTE §4.3.12, PKWARE APPNOTE §4.3.16.
    """
    _refuse(when=len(archive) > limits.max_archive_bytes, reason="too large")
    end_at = archive.rfind(b"PK\x05\x06")
    _refuse(when=end_at < 0, reason="not a zip archive")
    _, disk, start_disk, here, count, size, offset, comment = _END.unpack_from(archive, end_at)
    tail = len(archive) - (end_at + _END.size + comment)
    _refuse(when=not 0 <= tail <= _MAX_TAIL, reason="hidden bytes")
    _refuse(when=bool(archive[len(archive) - tail :].strip(_TAIL)), reason="hidden bytes")
    _refuse(when=bool(disk or start_disk) or here != count, reason="several disks")
    is_zip64 = count == 0xFFFF or 0xFFFFFFFF in (size, offset)
    is_zip64 = is_zip64 or archive[max(end_at - 20, 0) : end_at].startswith(b"PK\x06\x07")
    _refuse(when=is_zip64, reason="zip64")
    _refuse(when=count > limits.max_files, reason="too many files")
    _refuse(when=offset + size != end_at, reason="hidden bytes")
    entries: list[_Entry] = []
    at = offset
    for _ in range(count):
        entry, at = _central_entry(archive, at, limits)
        entries.append(entry)
    _refuse(when=at != end_at, reason="hidden bytes")
    names = {_key(entry.name) for entry in entries}
    _refuse(when=len(names) != len(entries), reason="twin names")
    total = sum(entry.size for entry in entries)
    _refuse(when=total > limits.max_total_bytes, reason="inflates too much")
    return entries, offset


def _central_entry(archive: bytes, at: int, limits: XdmLimits) -> tuple[_Entry, int]:
    """One central header and where the next begins.

    Source: PKWARE APPNOTE §4.3.12.
    """
    (mark, _, _, flags, method, _, _, crc, packed, size, name_len, extra_len, comment_len,
     disk, _, attributes, offset) = _CENTRAL.unpack_from(archive, at)  # fmt: skip
    _refuse(when=mark != b"PK\x01\x02", reason="no central header")
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_len
    raw_name = archive[name_at:extra_at]
    extra = archive[extra_at : extra_at + extra_len]
    _refuse(when=len(raw_name) != name_len or len(extra) != extra_len, reason="cut short")
    _refuse(when=disk != 0, reason="several disks")
    _refuse(when=0xFFFFFFFF in (packed, size, offset), reason="zip64")
    _refuse(when=bool(flags & ~_FLAGS_ALLOWED), reason="encrypted")
    _refuse(when=method not in (_STORED, _DEFLATED), reason="compression method")
    _refuse_extra(extra)
    name = _name(raw_name, flags, limits)
    # the type of file is kept by Unix writers; others leave these bits empty
    kind = (attributes >> 28) & 0xF
    _refuse(when=kind not in ((0, 4) if name.endswith("/") else (0, 8)), reason="link")
    _refuse(when=name.endswith("/") and size != 0, reason="folder with content")
    _refuse(when=method == _STORED and size != packed, reason="lying sizes")
    _refuse(when=size > limits.max_ratio * packed, reason="inflates too much")
    entry = _Entry(name, raw_name, flags, method, crc, packed, size, offset)
    return entry, extra_at + extra_len + comment_len


def _refuse_extra(extra: bytes) -> None:
    """Walk the extra fields: none may carry a second truth.

    Source: PKWARE APPNOTE §4.5.
    """
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        _refuse(when=kind in _EXTRA_REFUSED, reason="zip64" if kind == 1 else "extra field")
        at += 4 + size
    _refuse(when=at > len(extra), reason="extra field")


def _name(raw: bytes, flags: int, limits: XdmLimits) -> str:
    _refuse(when=len(raw) > limits.max_name_bytes, reason="name")
    try:
        name = raw.decode("utf-8" if flags & _FLAG_UTF8 else "cp437")
    except UnicodeDecodeError:
        raise MalformedPackageError("name") from None
    # .NET before 4.6.1 separates folders so, tar begins at the folder it stands in; what climbs
    # or is a twin then is refused like any
    name = name.replace("\\", "/")
    if name == "./":
        return name
    name = name.removeprefix("./")
    _refuse(when=not _is_safe_name(name.removesuffix("/")), reason="name")
    return name


def _is_safe_name(name: str) -> bool:
    """Relative, without climbing, control characters or drives."""
    if any(c in '\\:*?"<>|' or not c.isprintable() for c in name):
        return False
    return all(part.strip(" .") for part in name.split("/"))


def _outer(folder: str) -> str:
    """The folder that holds a folder; both end in ``/``, the archive itself is ""."""
    held = folder.rstrip("/").rpartition("/")
    return held[0] + held[1]


def _key(name: str) -> str:
    """The form in which two names are twins."""
    return unicodedata.normalize("NFKC", name.removesuffix("/")).casefold()


def _span(archive: bytes, entry: _Entry) -> tuple[int, int, int]:
    """Start of the local header, of the data, and the end of all that belongs to the entry.

    Source: PKWARE APPNOTE §4.3.7, PKWARE APPNOTE §4.3.9.
    """
    (mark, _, flags, method, _, _, crc, packed, size, name_len, extra_len) = _LOCAL.unpack_from(
        archive, entry.offset
    )
    _refuse(when=mark != b"PK\x03\x04", reason="no local header")
    name_at = entry.offset + _LOCAL.size
    data_at = name_at + name_len + extra_len
    _refuse(when=archive[name_at : name_at + name_len] != entry.raw_name, reason="two names")
    _refuse(when=(flags, method) != (entry.flags, entry.method), reason="two headers")
    _refuse_extra(archive[name_at + name_len : data_at])
    central = (entry.crc, entry.packed, entry.size)
    end = data_at + entry.packed
    if flags & _FLAG_DESCRIPTOR:
        _refuse(
            when=any((crc, packed, size)) and (crc, packed, size) != central, reason="lying sizes"
        )
        if archive[end : end + 4] == b"PK\x07\x08" and (
            struct.unpack_from("<3L", archive, end + 4) == central
        ):
            end += 16
        else:
            _refuse(when=struct.unpack_from("<3L", archive, end) != central, reason="lying sizes")
            end += 12
    else:
        _refuse(when=(crc, packed, size) != central, reason="lying sizes")
    _refuse(when=end > len(archive), reason="cut short")
    return entry.offset, data_at, end


def _content(archive: bytes, entry: _Entry, data_at: int) -> bytes:
    """Inflate one file, never past its declared size."""
    packed = archive[data_at : data_at + entry.packed]
    if entry.method == _STORED:
        content = packed
    else:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflater.decompress(packed, entry.size + 1)
        except zlib.error:
            raise MalformedPackageError("broken data") from None
        whole = inflater.eof and not inflater.unused_data and not inflater.unconsumed_tail
        _refuse(when=not whole, reason="lying sizes")
    _refuse(when=len(content) != entry.size, reason="lying sizes")
    _refuse(when=zlib.crc32(content) != entry.crc, reason="checksum")
    is_archive = content.startswith(_ARCHIVES) or content[257:262] == b"ustar"
    _refuse(when=is_archive, reason="archive inside")
    return content


def _is_metadata(name: str) -> bool:
    """``[anything/]IHE_XDM/<folder>/METADATA.XML`` in any case.

    A prefix is tolerated: real senders zip the folder that holds IHE_XDM.
    """
    parts = name.casefold().split("/")
    return len(parts) >= 3 and parts[-1] == "metadata.xml" and parts[-3] == "ihe_xdm"
