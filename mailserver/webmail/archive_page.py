"""A patient takes their whole record with them: one archive of what they see (RULES §7).

It is made in a thread, in memory while it is small and in a nameless file otherwise, and sent by
pieces; two are made at a time.
"""

import asyncio
from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import IO, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mailserver.webmail.commanding import run
from mailserver.webmail.record_pages import OwnRecord, wanted_record
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, services_of, signed_in
from record_bridge.exporting import Wanted, export_record

IN_MEMORY: Final = 32 * 1024 * 1024
PIECE: Final = 256 * 1024
AT_A_TIME: Final = 2


async def _archive(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await wanted_record(request, visitor)
    wanted = await _wanted(services, record)
    making: asyncio.Semaphore = request.app.state.archives
    out = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed once it was sent
    async with making:
        await asyncio.to_thread(export_record, services.queries.path, wanted, out)
    headers = {"Content-Disposition": 'attachment; filename="mon-dossier.zip"'}
    return StreamingResponse(_pieces(out), media_type="application/zip", headers=headers)


async def _wanted(services: WebmailServices, record: OwnRecord) -> Wanted:
    """What the archive is to hold, once it is in the trail that it was made."""
    seen = await services.queries.documents(record.patient.id, record.viewer, superseded=True)
    arguments = {
        "patient_id": record.patient.id,
        "kind": "record_exported",
        "documents": [each.unique_id for each in seen],
        "actor": record.actor,
    }
    await run(services, "note_access", arguments)
    accesses = await services.queries.accesses(record.patient.id, record.viewer)
    return Wanted(
        record.patient.id,
        services.clock(),
        frozenset(each.id for each in seen),
        [
            {
                "at": each.at,
                "actor": each.actor,
                "kind": each.kind,
                "facts": {} if each.title is None else {"title": each.title},
            }
            for each in accesses
        ],
    )


async def _pieces(out: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        out.seek(0)
        while piece := await asyncio.to_thread(out.read, PIECE):
            yield piece
    finally:
        out.close()


archive = signed_in(_archive)
