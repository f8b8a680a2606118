"""What a FHIR search asks for, and which resources it means; pure.

Invariants: a parameter, modifier, prefix or value that is not understood is refused, never left
out (``Prefer: handling=lenient`` leaves out unknown names only); what identifies a person is taken
from a POST body, never from an address.

Source: HL7 FHIR R4, Search; IHE-MHD §3.67.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from mailserver.webmail.fhir_resources import Resource, document_kind
from record_bridge.formats.dtm import paris_instant
from record_bridge.queries import DocumentKind

DEFAULT_COUNT: Final = 20
"""Source: MSS-FACTS §6.5 (TD3.1, batches of 20)."""
MAX_COUNT: Final = 100
MAX_PAGE: Final = 100_000
MAX_VALUES: Final = 50
_CONTROL: Final = ("_count", "page", "_format")
PERSONAL: Final = frozenset({"identifier", "patient.identifier"})
"""Names whose values say who somebody is: in a POST body only."""
_DATE: Final = re.compile(
    r"(?P<prefix>eq|ge|gt|le|lt)?(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d))?)?)?"
)


class SearchError(Exception):
    """A search that is not understood.

    Attributes:
        code: of the OperationOutcome's issue.
        text: which rule is broken, a constant of this program.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Search:
    """A search that is understood.

    Attributes:
        wanted: (name, alternatives) of each parameter that selects; all must hold.
        patient: id of ``patient``, None when it is not given.
        identifier: (system, value) of ``patient.identifier`` or of a Patient's ``identifier``.
    """

    kind: str
    wanted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    patient: int | None = None
    identifier: tuple[str, str] | None = None
    count: int = DEFAULT_COUNT
    page: int = 1


def _codings(concept: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each.get("system", ""), each["code"]) for each in concept.get("coding", ())]


def _plain(name: str) -> Callable[[Resource], list[tuple[str, str]]]:
    return lambda resource: [("", str(resource[name]))]


def _concept(name: str) -> Callable[[Resource], list[tuple[str, str]]]:
    return lambda resource: _codings(resource[name])


def _labels(name: str) -> Callable[[Resource], list[tuple[str, str]]]:
    return lambda resource: [found for each in resource[name] for found in _codings(each)]


def _master(resource: Resource) -> list[tuple[str, str]]:
    given = resource["masterIdentifier"]
    return [(given["system"], given["value"])]


def _dated(*names: str) -> Callable[[Resource], str | None]:
    return lambda resource: next((resource[each] for each in names if each in resource), None)


Tokens = Callable[[Resource], list[tuple[str, str]]]
TOKENS: Final[Mapping[str, Mapping[str, Tokens]]] = {
    "DocumentReference": {
        "_id": _plain("id"),
        "status": _plain("status"),
        "type": _concept("type"),
        "category": _labels("category"),
        "security-label": _labels("securityLabel"),
        "identifier": _master,
    },
    "Patient": {"_id": _plain("id")},
    "Appointment": {"_id": _plain("id"), "status": _plain("status")},
    "Immunization": {
        "_id": _plain("id"),
        "status": _plain("status"),
        "vaccine-code": _concept("vaccineCode"),
    },
    "AuditEvent": {"_id": _plain("id"), "subtype": lambda resource: _coded(resource["subtype"])},
}
"""Token parameters of each type, and where their values stand."""
_KINDS: Final = frozenset({"status", "type", "category", "security-label"})
"""Parameters of documents that are the same for all of a kind."""
DATES: Final[Mapping[str, Callable[[Resource], str | None]]] = {
    "DocumentReference": _dated("date"),
    "Appointment": _dated("start"),
    "Immunization": _dated("occurrenceDateTime"),
    "AuditEvent": _dated("recorded"),
}
"""What ``date`` means for each type."""


def _coded(values: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(each["system"], each["code"]) for each in values]


def parameters(kind: str) -> dict[str, str]:
    """Give the parameters of a type with their FHIR types, for the CapabilityStatement."""
    found = dict.fromkeys(TOKENS[kind], "token")
    if kind in DATES:
        found["date"] = "date"
    if kind == "Patient":
        found["identifier"] = "token"
    else:
        found |= {"patient": "reference", "patient.identifier": "token"}
    return found


@dataclass(slots=True)
class _Reading:
    kind: str
    base: str
    values: dict[str, list[str]] = field(default_factory=dict)

    def one(self, name: str) -> str | None:
        given = self.values.get(name, ())
        if len(given) > 1:
            raise SearchError("invalid", "this parameter is given once")
        return given[0] if given else None


def parse(
    kind: str, items: Iterable[tuple[str, str]], *, base: str, posted: bool, lenient: bool = False
) -> Search:
    """Read a search.

    Args:
        kind: type of resources.
        items: names and values as they came, decoded.
        base: address of this interface, for absolute references.
        posted: they came in a body.
        lenient: unknown names are left out.

    Raises:
        SearchError: something is not understood.
    """
    known = parameters(kind)
    reading = _Reading(kind, base)
    for name, value in items:
        if name not in known and name not in _CONTROL:
            if lenient and ":" not in name:
                continue
            raise SearchError("not-supported", "a search parameter is not known here")
        if name in PERSONAL and not posted and (kind == "Patient" or name != "identifier"):
            raise SearchError("security", "who somebody is goes into the body of POST _search")
        reading.values.setdefault(name, []).append(value)
    if (reading.one("_format") or "json") not in {
        "json",
        "application/json",
        "application/fhir+json",
    }:
        raise SearchError("not-supported", "JSON is the only format")
    person = reading.one("identifier" if kind == "Patient" else "patient.identifier")
    wanted = [
        (name, _alternatives(value))
        for name, given in reading.values.items()
        for value in given
        if name in TOKENS[kind] or name == "date"
    ]
    for name, alternatives in wanted:
        if name == "date":
            for each in alternatives:
                _span(each)
    reference = reading.one("patient")
    return Search(
        kind,
        tuple(wanted),
        None if reference is None else _patient(reference, base),
        None if person is None else _identifier(person),
        _number(reading.one("_count"), DEFAULT_COUNT, MAX_COUNT),
        _number(reading.one("page"), 1, MAX_PAGE),
    )


def _alternatives(value: str) -> tuple[str, ...]:
    found = tuple(value.split(","))
    if not all(found) or len(found) > MAX_VALUES:
        raise SearchError("invalid", "a search value is empty, or there are too many")
    return found


def _number(text: str | None, default: int, largest: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < 1:
        raise SearchError("invalid", "a count is a whole number from 1")
    return min(int(text), largest)


def _patient(reference: str, base: str) -> int:
    name = reference.removeprefix(base + "/").removeprefix("Patient/")
    if not (name.isascii() and name.isdigit()) or len(name) > 15:
        raise SearchError("invalid", "a patient is written Patient/ID")
    return int(name)


def _identifier(value: str) -> tuple[str, str]:
    system, bar, number = value.partition("|")
    if not bar or not system.startswith("urn:oid:") or not number:
        raise SearchError("invalid", "an identifier is written urn:oid:OID|NUMBER")
    return system.removeprefix("urn:oid:"), number


def _span(text: str) -> tuple[str, datetime, datetime]:
    """Give the prefix and the instants that a date stands for: from, and before.

    A date without an hour is a civil one of France (RULES §8).
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise SearchError("invalid", "a date is written AAAA-MM-JJ after eq, ge, gt, le or lt")
    prefix = found["prefix"] or "eq"
    try:
        if found["hour"] is not None:
            start = datetime.fromisoformat(text.removeprefix(found["prefix"] or ""))
            return prefix, start, start + timedelta(seconds=1 if found["second"] else 60)
        year, month, day = (int(found[name] or 1) for name in ("year", "month", "day"))
        first = datetime(year, month, day)  # noqa: DTZ001 - civil time
        if found["day"] is not None:
            after = first + timedelta(days=1)
        elif found["month"] is not None:
            after = datetime(year + month // 12, month % 12 + 1, 1)  # noqa: DTZ001 - as above
        else:
            after = datetime(year + 1, 1, 1)  # noqa: DTZ001 - as above
        return prefix, paris_instant(first), paris_instant(after)
    except (ValueError, OverflowError) as error:
        raise SearchError("invalid", "there is no such date") from error


def kinds_of(search: Search) -> Callable[[DocumentKind], bool] | None:
    """Give which kinds of documents a search means, None when it looks at more of them."""
    if search.kind != "DocumentReference" or any(name not in _KINDS for name, _ in search.wanted):
        return None

    def is_wanted(kind: DocumentKind) -> bool:
        return bool(select(search, [document_kind(kind)]))

    return is_wanted


def select(search: Search, resources: Sequence[Resource]) -> list[Resource]:
    """Give the resources that a search means, in their order."""
    tokens = TOKENS[search.kind]
    return [
        each
        for each in resources
        if all(
            _is_dated(DATES[search.kind](each), alternatives)
            if name == "date"
            else _is_among(tokens[name](each), alternatives)
            for name, alternatives in search.wanted
        )
    ]


def _is_among(values: Sequence[tuple[str, str]], alternatives: Sequence[str]) -> bool:
    for wanted in alternatives:
        system, bar, code = wanted.rpartition("|")
        for has_system, has_code in values:
            if code == has_code and (not bar or system == has_system):
                return True
    return False


def _is_dated(text: str | None, alternatives: Sequence[str]) -> bool:
    if text is None:
        return False
    at = datetime.fromisoformat(text) if "T" in text else _span(text)[1]
    at = at.astimezone(UTC)
    for wanted in alternatives:
        prefix, start, after = _span(wanted)
        if {
            "eq": start <= at < after,
            "ge": at >= start,
            "gt": at >= after,
            "le": at < after,
            "lt": at < start,
        }[prefix]:
            return True
    return False


def links(search: Search, patient: int | None, total: int, base: str) -> dict[str, str]:
    """Give the addresses of this page and its neighbours; a person is named by the opaque id."""
    chosen = [(name, ",".join(alternatives)) for name, alternatives in search.wanted]
    if patient is not None and search.kind != "Patient":
        chosen.append(("patient", str(patient)))
    elif patient is not None:
        chosen = [("_id", str(patient))]

    def address(page: int) -> str:
        query = urlencode([*chosen, ("_count", str(search.count)), ("page", str(page))])
        return f"{base}/{search.kind}?{query}"

    found = {"self": address(search.page)}
    if search.page * search.count < total:
        found["next"] = address(search.page + 1)
    if search.page > 1:
        found["previous"] = address(search.page - 1)
    return found


def page_of(search: Search, found: Sequence[Resource]) -> Sequence[Resource]:
    """Give one page."""
    start = (search.page - 1) * search.count
    return found[start : start + search.count]
