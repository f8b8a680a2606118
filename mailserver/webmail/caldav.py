"""CalDAV: a patient's two calendars, for the calendar programs of their telephone or computer.

``/caldav/<login>/agendas/sante/`` is what documents say, and only documents change it;
``/caldav/<login>/agendas/personnel/`` is what the patient notes, and they may write it. The login
is random: no address says whose agenda it is (RULES §11). It opens with a secret made on the
agenda's page, which opens nothing else; every answer that shows an appointment is an event of
the trail (RULES §13).

Source: RFC 4791 §5, RFC 4791 §7, RFC 6578 §3, RFC 6764 §5, RFC 7617 §2.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from lxml import etree
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.errors import CommandError, DavRequestError, MailServerError
from mailserver.webmail import dav
from mailserver.webmail.calendar_pages import still_opens
from mailserver.webmail.dav import CAL, CS, DAV, Told, element, href
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import services_of
from mailserver.webmail.snapshots import Snapshots
from record_bridge.calendar_objects import CalendarObject, objects_of, tags_of
from record_bridge.calendar_record import document_calendar, key_digest, own_objects
from record_bridge.errors import RecordBridgeError, RecordStateError
from record_bridge.formats.ical import MAX_OCTETS
from record_bridge.life_queries import CalendarKey

METHODS: Final = (
    "OPTIONS", "PROPFIND", "REPORT", "GET", "HEAD", "PUT", "DELETE", "PROPPATCH",
)  # fmt: skip
ALLOW: Final = ", ".join(METHODS)
CLASSES: Final = "1, 3, calendar-access"
DOCUMENTS: Final = "sante"
OWN: Final = "personnel"
_NAMES: Final = {DOCUMENTS: "Santé (documents)", OWN: "Santé (mes rendez-vous)"}
_COLOURS: Final = {DOCUMENTS: "#00695CFF", OWN: "#1565C0FF"}
_OBJECT_TYPE: Final = "text/calendar; charset=utf-8; component=VEVENT"
_MAX_PATH: Final = 500
_REFUSALS: Final = {
    "etag_differs": (412, ""),
    "no_such_entry": (404, ""),
    "uid_taken": (409, f"{CAL}no-uid-conflict"),
    "record_closed": (403, f"{DAV}need-privileges"),
    "too_many": (507, f"{DAV}quota-not-exceeded"),
    "calendar_too_large": (403, f"{CAL}max-resource-size"),
    "calendar_repeats": (403, f"{CAL}max-instances"),
    "not_a_calendar": (403, f"{CAL}valid-calendar-object-resource"),
}
"""What a client is told for each refusal of the record. Source: RFC 4791 §5.3.2.1."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and where.

    Attributes:
        calendar: ``sante``, ``personnel``, or "" for what lies above them.
        name: of an object, "" for a collection.
        level: steps below ``/caldav/``: 0 the root, 1 the principal, 2 its agendas.
    """

    key: CalendarKey
    calendar: str
    name: str
    level: int

    @property
    def home(self) -> str:
        """Address of the agendas."""
        return f"/caldav/{self.key.login}/agendas/"

    @property
    def actor(self) -> str:
        """The name in the trail."""
        return f"calendar:{self.key.id}"

    def address(self, calendar: str, name: str = "") -> str:
        """Address of a calendar or of one object."""
        return f"{self.home}{calendar}/{quote(name, safe='')}"


async def well_known(request: Request) -> Response:
    """Say where CalDAV is. Source: RFC 6764 §5."""
    del request
    return RedirectResponse("/caldav/", status_code=301)


async def serve(request: Request) -> Response:
    """Answer one request of a calendar program."""
    if request.method == "OPTIONS":
        return Response(status_code=200, headers={"DAV": CLASSES, "Allow": ALLOW})
    key = await _key_of(request)
    if key is None:
        challenge = {"WWW-Authenticate": 'Basic realm="Pli agenda", charset="UTF-8"'}
        return _headed(Response("", status_code=401, headers=challenge))
    asked = _place(request.url.path, key)
    if asked is None:
        return _headed(Response("", status_code=404))
    handlers = {
        "PROPFIND": _propfind,
        "REPORT": _report,
        "GET": _get,
        "HEAD": _get,
        "PUT": _put,
        "DELETE": _delete,
        "PROPPATCH": _proppatch,
    }
    try:
        return _headed(await handlers[request.method](request, asked))
    except DavRequestError as error:
        status = 403 if error.precondition else 400
        return _headed(_error(status, error.precondition))


def _headed(response: Response) -> Response:
    response.headers["DAV"] = CLASSES
    return response


def _error(status: int, precondition: str) -> Response:
    if not precondition:
        return Response("", status_code=status)
    return _xml(dav.error_body(precondition), status)


def _xml(content: bytes, status: int) -> Response:
    return Response(content, status_code=status, media_type="application/xml; charset=utf-8")


async def _key_of(request: Request) -> CalendarKey | None:
    """Source: RFC 7617 §2."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or len(given) > _MAX_PATH:
        return None
    try:
        login, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    services = services_of(request)
    found = await services.queries.life.calendar_key(
        key_digest(secret), "device", services.clock()
    )
    if found is None or found.login != login.strip().lower():
        return None
    return found if await still_opens(services, found) else None


def _place(path: str, key: CalendarKey) -> Asked | None:
    """Where an address leads; None when it is not one of this key's."""
    steps = path.removeprefix("/caldav").strip("/").split("/") if len(path) < _MAX_PATH else ["?"]
    if steps == [""]:
        return Asked(key, "", "", 0)
    if steps[0] != key.login or len(steps) > 4 or (len(steps) > 1 and steps[1] != "agendas"):
        return None
    calendar = steps[2] if len(steps) > 2 else ""
    if calendar not in ("", DOCUMENTS, OWN):
        return None
    return Asked(key, calendar, steps[3] if len(steps) > 3 else "", len(steps))


async def _objects(services: WebmailServices, asked: Asked) -> Mapping[str, CalendarObject]:
    """The objects of a calendar by name, as this key may know them."""
    patient_id = asked.key.patient_id
    if asked.calendar == OWN:
        found = own_objects(await services.queries.life.own_entries(patient_id))
    else:
        dated = await document_calendar(services.queries, patient_id, asked.key.viewer)
        found = objects_of(dated, asked.key.detail)
    return {each.name: each for each in found}


async def _note(services: WebmailServices, asked: Asked) -> bool:
    """Have the reading written to the trail; nothing is shown when it cannot be."""
    arguments = {
        "patient_id": asked.key.patient_id,
        "kind": "calendar_read",
        "actor": asked.actor,
    }
    try:
        await services.record("note_access", arguments)
    except (OSError, MailServerError, RecordBridgeError):
        return False
    return True


# --- what is read ----------------------------------------------------------------------------


async def _propfind(request: Request, asked: Asked) -> Response:
    depth = request.headers.get("depth", "infinity").strip().lower()
    if depth not in ("0", "1"):
        raise DavRequestError("depth", f"{DAV}propfind-finite-depth")
    wanted = dav.read_propfind(await request.body())
    services = services_of(request)
    snapshots: Snapshots = request.app.state.snapshots
    if asked.name:
        found = (await _objects(services, asked)).get(asked.name)
        if found is None:
            return Response("", status_code=404)
        told = [Told(asked.address(asked.calendar, asked.name), _named(asked, found))]
        return _xml(dav.multistatus(told, wanted), 207)
    told = []
    if asked.calendar:
        objects = await _objects(services, asked)
        told.append(_told_calendar(asked, objects, snapshots))
        if depth == "1":
            told += [
                Told(asked.address(asked.calendar, name), _named(asked, each))
                for name, each in objects.items()
            ]
    else:
        told.append(Told(_above(asked), _of_collection(asked)))
        if asked.level == 2 and depth == "1":
            for calendar in (DOCUMENTS, OWN):
                below = Asked(asked.key, calendar, "", 3)
                objects = await _objects(services, below)
                told.append(_told_calendar(below, objects, snapshots))
        elif depth == "1":
            below = Asked(asked.key, "", "", asked.level + 1)
            told.append(Told(_above(below), _of_collection(below)))
    return _xml(dav.multistatus(told, wanted), 207)


async def _report(request: Request, asked: Asked) -> Response:
    if not asked.calendar or asked.name:
        raise DavRequestError("report", f"{DAV}supported-report")
    report = dav.read_report(await request.body())
    services = services_of(request)
    objects = await _objects(services, asked)
    wanted = dav.PropFind(report.names)
    token, truncated = "", ""
    match report:
        case dav.CalendarQuery():
            told = [_told(asked, name) for name in _matching(report, objects)]
        case dav.MultiGet():
            told = [_told_href(asked, given, objects) for given in report.hrefs]
        case dav.SyncCollection():
            snapshots: Snapshots = request.app.state.snapshots
            changes = snapshots.since(
                _calendar_key(asked), report.state, tags_of(objects.values()), report.limit
            )
            if changes is None:
                raise DavRequestError("token", f"{DAV}valid-sync-token")
            told = [_told(asked, name) for name in (*changes.changed, *changes.gone)]
            token = changes.state
            truncated = asked.address(asked.calendar) if changes.truncated else ""
    shown = [(each, objects.get(name)) for each, name in told]
    has_content = dav.CALENDAR_DATA in report.names and any(found for _, found in shown)
    if has_content and not await _note(services, asked):
        return Response("", status_code=503)
    answers = [
        Told(address, None if found is None else _of_object(asked, found))
        for address, found in shown
    ]
    return _xml(dav.multistatus(answers, wanted, token=token, truncated=truncated), 207)


def _told(asked: Asked, name: str) -> tuple[str, str]:
    return asked.address(asked.calendar, name), name


def _told_href(asked: Asked, given: str, objects: Mapping[str, CalendarObject]) -> tuple[str, str]:
    """The address as given, and the object's name when it is one of this calendar."""
    path = urlsplit(given).path
    name = unquote(path.rpartition("/")[2])
    prefix = asked.address(asked.calendar)
    here = unquote(path).startswith(prefix) and name in objects
    return (path if path.isascii() else prefix), name if here else ""


def _matching(query: dav.CalendarQuery, objects: Mapping[str, CalendarObject]) -> Sequence[str]:
    """Source: RFC 4791 §9.9."""
    if query.impossible:
        return ()
    found = []
    for name, each in objects.items():
        # an appointment without a length is met at its instant
        end = each.end_at
        before = query.until is not None and each.start_at >= query.until
        after = query.since is not None and (
            end <= query.since if end > each.start_at else each.start_at < query.since
        )
        other = query.uid is not None and query.uid.encode() not in each.content
        if not (before or after or other):
            found.append(name)
    return found


async def _get(request: Request, asked: Asked) -> Response:
    if not asked.name:
        return Response("", status_code=405, headers={"Allow": ALLOW})
    services = services_of(request)
    found = (await _objects(services, asked)).get(asked.name)
    if found is None:
        return Response("", status_code=404)
    tag = f'"{found.etag}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    if request.method == "GET" and not await _note(services, asked):
        return Response("", status_code=503)
    return Response(found.content, headers={"ETag": tag, "Content-Type": _OBJECT_TYPE})


# --- what is written -------------------------------------------------------------------------


async def _put(request: Request, asked: Asked) -> Response:
    if asked.calendar != OWN or not asked.name:
        return _error(403, f"{DAV}need-privileges")
    kind = request.headers.get("content-type", "text/calendar").partition(";")[0].strip().lower()
    if kind != "text/calendar":
        return _error(403, f"{CAL}supported-calendar-data")
    content = await request.body()
    if len(content) > MAX_OCTETS:
        return _error(403, f"{CAL}max-resource-size")
    try:
        ics = content.decode()
    except UnicodeDecodeError:
        return _error(403, f"{CAL}valid-calendar-data")
    if not asked.name.isprintable() or len(asked.name) > 120:
        return Response("", status_code=403)
    arguments = {"name": asked.name, "ics": ics, "expected": _expected(request)}
    done, refusal = await _run(request, asked, "own_entry_put", arguments)
    if refusal is not None:
        return refusal
    status = 201 if done["created"] else 204
    return Response(status_code=status, headers={"ETag": f'"{done["etag"]}"'})


async def _delete(request: Request, asked: Asked) -> Response:
    if asked.calendar != OWN or not asked.name:
        return _error(403, f"{DAV}need-privileges")
    arguments = {"name": asked.name, "expected": _expected(request)}
    _, refusal = await _run(request, asked, "own_entry_delete", arguments)
    return Response(status_code=204) if refusal is None else refusal


def _expected(request: Request) -> str | None:
    """The tag that the object must have now: "" for none, "*" for any, None: not said.

    Source: RFC 9110 §13.1.
    """
    if request.headers.get("if-none-match", "").strip() == "*":
        return ""
    given = request.headers.get("if-match")
    return None if given is None else given.strip().strip('"')


async def _run(
    request: Request, asked: Asked, command: str, arguments: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Response | None]:
    """Have the record's writer do something; give what it says, or the refusal."""
    whole = {**arguments, "patient_id": asked.key.patient_id, "actor": asked.actor}
    try:
        return await services_of(request).record(command, whole), None
    except (CommandError, RecordStateError) as error:
        reason = error.code if isinstance(error, CommandError) else error.reason
        return {}, _error(*_REFUSALS.get(reason, (403, "")))
    except (OSError, MailServerError):
        return {}, Response("", status_code=503)


async def _proppatch(request: Request, asked: Asked) -> Response:
    """Refuse each property: names and colours of a calendar are kept by its program."""
    names = dav.read_proppatch(await request.body())
    address = asked.address(asked.calendar, asked.name) if asked.calendar else _above(asked)
    return _xml(dav.refused_properties(address, names), 207)


# --- properties ------------------------------------------------------------------------------


def _above(asked: Asked) -> str:
    return ("/caldav/", f"/caldav/{asked.key.login}/", asked.home)[asked.level]


def _common(asked: Asked) -> dict[str, dav.Value]:
    principal = f"/caldav/{asked.key.login}/"
    return {
        f"{DAV}current-user-principal": (href(principal),),
        f"{DAV}owner": (href(principal),),
        f"{DAV}current-user-privilege-set": _privileges(asked),
    }


def _privileges(asked: Asked) -> tuple["etree._Element", ...]:
    names = ["read", "read-current-user-privilege-set"]
    if asked.calendar == OWN:
        names += ["write", "write-content", "bind", "unbind"]
    return tuple(element(f"{DAV}privilege", element(f"{DAV}{name}")) for name in names)


def _of_collection(asked: Asked) -> dict[str, dav.Value]:
    """The root, the principal, or the home of the calendars."""
    kinds = [element(f"{DAV}collection")]
    values = _common(asked) | {f"{DAV}displayname": "Agenda santé"}
    if asked.level < 2:
        values[f"{CAL}calendar-home-set"] = (href(asked.home),)
        values[f"{DAV}principal-URL"] = (href(f"/caldav/{asked.key.login}/"),)
    if asked.level == 1:
        kinds.append(element(f"{DAV}principal"))
    values[f"{DAV}resourcetype"] = tuple(kinds)
    return values


def _calendar_key(asked: Asked) -> str:
    return f"{asked.key.id}/{asked.calendar}"


def _told_calendar(
    asked: Asked, objects: Mapping[str, CalendarObject], snapshots: Snapshots
) -> Told:
    state = snapshots.keep(_calendar_key(asked), tags_of(objects.values()))
    values: dict[str, dav.Value] = _common(asked) | {
        f"{DAV}resourcetype": (element(f"{DAV}collection"), element(f"{CAL}calendar")),
        f"{DAV}displayname": _NAMES[asked.calendar],
        f"{DAV}getetag": f'"{state}"',
        f"{CS}getctag": f'"{state}"',
        f"{DAV}sync-token": dav.SYNC_PREFIX + state,
        f"{DAV}supported-report-set": (
            _supported(f"{CAL}calendar-query"),
            _supported(f"{CAL}calendar-multiget"),
            _supported(f"{DAV}sync-collection"),
        ),
        f"{CAL}supported-calendar-component-set": (element(f"{CAL}comp", name="VEVENT"),),
        f"{CAL}supported-calendar-data": (
            element(f"{CAL}calendar-data", **{"content-type": "text/calendar", "version": "2.0"}),
        ),
        f"{CAL}max-resource-size": str(MAX_OCTETS),
        f"{CAL}max-instances": "1",
        f"{dav.APPLE}calendar-color": _COLOURS[asked.calendar],
    }
    return Told(asked.address(asked.calendar), values)


def _supported(report: str) -> "etree._Element":
    return element(f"{DAV}supported-report", element(f"{DAV}report", element(report)))


def _named(asked: Asked, found: CalendarObject) -> dict[str, dav.Value]:
    """What PROPFIND tells of an object: that it is there, never what it says."""
    return _common(asked) | {
        f"{DAV}resourcetype": (),
        dav.ETAG: f'"{found.etag}"',
        f"{DAV}getcontenttype": _OBJECT_TYPE,
        f"{DAV}getcontentlength": str(len(found.content)),
    }


def _of_object(asked: Asked, found: CalendarObject) -> dict[str, dav.Value]:
    return _named(asked, found) | {dav.CALENDAR_DATA: found.content.decode()}
