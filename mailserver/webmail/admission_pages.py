"""Mon admission: what a structure gives to read and fill in beforehand, and what was done of it.

For the patient and who represents them; a relative who helps is not shown it. A filled form is
given back through the page of the patient's files, the one whose form carries a file.

Source: RULES §7, MSS-FACTS §7.1.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailserver.webmail.files import download
from mailserver.webmail.life_pages import opened, page_values, tried
from mailserver.webmail.pages import render
from mailserver.webmail.record_pages import OwnRecord, note_access, wanted_record
from mailserver.webmail.session import Visitor, services_of, signed_in
from record_bridge.admission import reads_packs
from record_bridge.life import ENDINGS
from record_bridge.pack_queries import Pack, PackItem

PAGE = "/dossier/admission"


async def _packs(request: Request, visitor: Visitor) -> Response:
    record = await opened(request, visitor)
    if not reads_packs(record.viewer):
        raise HTTPException(404)
    shown = await services_of(request).queries.packs.shown(record.patient.id)
    values = await page_values(request, record)
    return render("admission.html", visitor, values | {"packs": shown})


async def _wanted(request: Request, visitor: Visitor) -> tuple[OwnRecord, Pack]:
    """Give the pack of the page's address.

    Raises:
        HTTPException: 404 when the visitor is not shown it.
    """
    record = await wanted_record(request, visitor)
    number = int(request.path_params["pack"])
    if reads_packs(record.viewer):
        for pack in await services_of(request).queries.packs.shown(record.patient.id):
            if pack.id == number:
                return record, pack
    raise HTTPException(404)


async def _wanted_item(request: Request, visitor: Visitor) -> tuple[OwnRecord, PackItem]:
    record, pack = await _wanted(request, visitor)
    number = int(request.path_params["item"])
    found = next((item for item in pack.items if item.id == number), None)
    if found is None:
        raise HTTPException(404)
    return record, found


async def _item_file(request: Request, visitor: Visitor) -> Response:
    record, item = await _wanted_item(request, visitor)
    await note_access(request, record, "file", None)
    content = await services_of(request).queries.packs.content(item.id)
    return download(content, f"{item.title}.{ENDINGS[item.media_type][0]}")


async def _item_read(request: Request, visitor: Visitor) -> Response:
    _, item = await _wanted_item(request, visitor)
    return await tried(request, visitor, PAGE, ("pack_item_acknowledge", {"id": item.id}))


async def _acknowledge(request: Request, visitor: Visitor) -> Response:
    _, pack = await _wanted(request, visitor)
    return await tried(request, visitor, PAGE, ("pack_acknowledge", {"id": pack.id}))


packs = signed_in(_packs)
item_file = signed_in(_item_file)
item_read = signed_in(_item_read)
acknowledge = signed_in(_acknowledge)
