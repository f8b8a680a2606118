"""Files from and to a browser: one that a form carries, and those that are handed out.

A file handed out is always a download, of a type we chose. Nothing a stranger sent is ever shown
by the browser itself in our origin: the type comes from the octets, the disposition is always
``attachment``, sniffing is off and the response is sandboxed (threats W3, X8).
"""

import base64
from typing import Final
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from mailserver.webmail.sanitise import plain
from record_bridge.life import ENDINGS, MAX_FILE

ACCEPTED: Final = ",".join(sorted(f".{ending}" for kinds in ENDINGS.values() for ending in kinds))
"""What a form lets choose, as HTML's ``accept`` says it; the record judges by the octets."""
_MAX_NAME: Final = 200

_MAGIC: Final = (
    (b"%PDF-", "application/pdf", ".pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (b"PK\x03\x04", "application/zip", ".zip"),
)
_OTHER: Final = "application/octet-stream"
_ACTIVE_ENDINGS: Final = frozenset(
    [
        "bat",
        "cmd",
        "com",
        "exe",
        "hta",
        "htm",
        "html",
        "jar",
        "js",
        "jse",
        "lnk",
        "mht",
        "mhtml",
        "msi",
        "ps1",
        "scr",
        "shtml",
        "svg",
        "vbe",
        "vbs",
        "wsf",
        "xht",
        "xhtml",
        "xsl",
        "xslt",
    ]
)
"""Endings a desktop runs when the file is opened; ``.txt`` is added to them."""


async def uploaded(request: Request) -> tuple[dict[str, str], str]:
    """Read the file of a form already checked.

    Returns:
        Its ``name`` and its ``content`` in base64, as the record's commands take them, and "";
        or nothing, and why it is refused.
    """
    given = (await request.form()).get("file")
    if not isinstance(given, UploadFile):
        return {}, "file_empty"
    content = await given.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        return {}, "file_too_large"
    name = (given.filename or "")[-_MAX_NAME:]
    return {"name": name, "content": base64.b64encode(content).decode("ascii")}, ""


def download(content: bytes, name: str) -> Response:
    """Give a file to keep.

    Args:
        content: its octets.
        name: what the sender calls it; made harmless here.
    """
    media_type, ending = _type_of(content)
    shown = _file_name(name, ending)
    plain_name = shown.encode("ascii", "replace").decode().replace("?", "_")
    return Response(
        content,
        media_type=media_type,
        headers={
            "Content-Disposition": (
                f"attachment; filename=\"{plain_name}\"; filename*=UTF-8''{quote(shown, safe='')}"
            ),
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


def _type_of(content: bytes) -> tuple[str, str]:
    for magic, media_type, ending in _MAGIC:
        if content.startswith(magic):
            return media_type, ending
    return _OTHER, ""


def _file_name(name: str, ending: str) -> str:
    last = plain(name, 150).replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c not in '"<>:|?*%;').strip(" .") or "fichier"
    if ending:
        return kept if kept.lower().endswith(ending) else kept + ending
    if kept.rpartition(".")[2].lower() in _ACTIVE_ENDINGS:
        return kept + ".txt"
    return kept
