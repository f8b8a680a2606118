"""FHIR R4 resources of what a viewer may see; pure.

Identifiers of resources are opaque: ``<patient>-<letter><rest>``, where the rest says nothing of a
person; that of a document is made of its unique id, so that no numbering has a gap.

Source: HL7 FHIR R4 (4.0.1), IHE-MHD §3.67 and §3.68, MSS-FACTS §6.1 and §6.5.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from directory.codes import class_label
from record_bridge.formats.dtm import paris_midnight
from record_bridge.life_queries import OwnEntry
from record_bridge.model import ActKind, AgendaStatus
from record_bridge.queries import (
    AccessView,
    AgendaView,
    DocumentKind,
    DocumentView,
    PatientView,
)

Resource = dict[str, Any]
"""Any: what JSON is."""

CLASS_SYSTEM: Final = (
    "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
)
LOINC: Final = "http://loinc.org"
TYPE_SYSTEM: Final = "urn:oid:1.2.250.1.213.1.1.4.12"
"""Types of documents that LOINC has not (TRE_A04)."""
MASKING_SYSTEM: Final = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ATC: Final = "http://www.whocc.no/atc"
INS_TYPES: Final = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
EVENT_TYPES: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
OBSERVERS: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
MASKS: Final = {
    "masked_ps": "MASQUE_PS",
    "invisible_patient": "INVISIBLE_PATIENT",
    "invisible_representatives": "INVISIBLE_REPRESENTANTS_LEGAUX",
}
STATUSES: Final = {
    "current": "current",
    "superseded": "superseded",
    "withdrawn": "entered-in-error",
}
APPOINTMENTS: Final = {
    AgendaStatus.PROPOSED.value: "proposed",
    AgendaStatus.TO_SCHEDULE.value: "proposed",
    AgendaStatus.CONFIRMED.value: "booked",
    AgendaStatus.HISTORY.value: "fulfilled",
    AgendaStatus.DISMISSED.value: "cancelled",
}
"""An entry of the agenda as a status of Appointment."""
_NO_APPOINTMENT: Final = frozenset(
    {ActKind.VACCINATION.value, ActKind.PRESCRIPTION.value, ActKind.CERTIFICATE.value}
)
_MAY_LACK_TIMES: Final = frozenset({"proposed", "cancelled"})
"""Source: HL7 FHIR R4, Appointment, constraint app-3."""
_LOINC_CODE: Final = re.compile(r"\d{1,7}-\d")
_OID: Final = re.compile(r"[0-2](\.\d+)+")
_INS_TYPE: Final = {
    "1.2.250.1.213.1.4.8": "INS-NIR",
    "1.2.250.1.213.1.4.9": "INS-NIA",
    "1.2.250.1.213.1.4.10": "INS-NIR-TEST",
    "1.2.250.1.213.1.4.11": "INS-NIR-DEMO",
}
_DIGEST_CHARACTERS: Final = 32
_DIGEST: Final = re.compile(rf"[0-9a-f]{{{_DIGEST_CHARACTERS}}}")
_NUMBER_CHARACTERS: Final = 13
"""Of a digest, those that are a document's number: 52 bits."""


def document_id(patient_id: int, unique_id: str) -> str:
    """Give the id of a document's DocumentReference and Binary."""
    digest = hashlib.sha256(unique_id.encode()).hexdigest()
    return f"{patient_id}-d{digest[:_DIGEST_CHARACTERS]}"


def document_number(resource_id: str) -> int:
    """Give the number of the document of an id, in ``record_bridge.queries.number_of``'s sense.

    -1 when it is no document's id.
    """
    digest = resource_id.partition("-d")[2]
    return int(digest[:_NUMBER_CHARACTERS], 16) if _DIGEST.fullmatch(digest) else -1


def patient_of(resource_id: str) -> int | None:
    """Give the patient whose resource has this id; None when it is no id of ours."""
    head = resource_id.partition("-")[0]
    return int(head) if head.isascii() and head.isdigit() and len(head) < 16 else None


def document_reference(
    view: DocumentView, patient_id: int, base: str, visible: Collection[str]
) -> Resource:
    """Describe a document.

    Args:
        view: of a document that the viewer sees.
        patient_id: whose.
        base: address of this interface.
        visible: unique ids of every document that the viewer sees: no other is referred to.

    Source: IHE-MHD §3.67.
    """
    own_id = document_id(patient_id, view.unique_id)
    is_oid = _OID.fullmatch(view.unique_id) is not None
    kind = DocumentKind(view.status, view.class_code, view.type_code, view.visibility)
    described = document_kind(kind)
    described["type"]["coding"][0]["display"] = view.type_label
    attachment: Resource = {
        "contentType": "text/xml",
        "language": "fr-FR",
        "url": f"{base}/Binary/{own_id}",
        "size": view.octets,
        "title": view.title,
    }
    if view.effective_at is not None:
        attachment["creation"] = _instant(view.effective_at)
    resource: Resource = {
        "resourceType": "DocumentReference",
        "id": own_id,
        "masterIdentifier": {
            "system": "urn:ietf:rfc:3986",
            "value": f"urn:oid:{view.unique_id}" if is_oid else view.unique_id,
        },
        **described,
        "subject": {"reference": f"Patient/{patient_id}"},
        "date": _instant(view.received_at),
        "description": view.title,
        "content": [{"attachment": attachment}],
    }
    if view.author:
        resource["author"] = [{"display": view.author}]
    if view.custodian:
        resource["custodian"] = {"display": view.custodian}
    if view.parent_unique_id in visible:
        parent = document_id(patient_id, view.parent_unique_id)
        target = {"reference": f"DocumentReference/{parent}"}
        resource["relatesTo"] = [{"code": "replaces", "target": target}]
    return _versioned(resource, view.received_at)


def document_kind(kind: DocumentKind) -> Resource:
    """Describe what documents of a kind have in common: status, type, category, labels."""
    is_loinc = _LOINC_CODE.fullmatch(kind.type_code) is not None
    system = LOINC if is_loinc else TYPE_SYSTEM
    label = class_label(kind.class_code)
    labels = [{"system": CONFIDENTIALITY, "code": "N"}] + [
        {"system": MASKING_SYSTEM, "code": MASKS[code]}
        for code in kind.visibility
        if code in MASKS
    ]
    category = {"system": CLASS_SYSTEM, "code": kind.class_code, "display": label}
    return {
        "status": STATUSES[kind.status],
        "type": {"coding": [{"system": system, "code": kind.type_code}]},
        "category": [{"coding": [category]}],
        "securityLabel": [{"coding": [label]} for label in labels],
    }


def patient(view: PatientView) -> Resource:
    """Describe a person."""
    kind = _INS_TYPE.get(view.oid)
    identifier: Resource = {
        "use": "official",
        "system": f"urn:oid:{view.oid}",
        "value": view.matricule,
    }
    if kind is not None:
        identifier["type"] = {"coding": [{"system": INS_TYPES, "code": kind}]}
    return _versioned(
        {
            "resourceType": "Patient",
            "id": str(view.id),
            "identifier": [identifier],
            "name": [{"use": "official", "family": view.family, "given": [view.given]}],
            "gender": {"M": "male", "F": "female"}.get(view.sex, "unknown"),
            "birthDate": f"{view.birth_date[:4]}-{view.birth_date[4:6]}-{view.birth_date[6:8]}",
        }
    )


def appointments(
    entries: Sequence[AgendaView], own: Sequence[OwnEntry], patient_id: int
) -> list[Resource]:
    """What the agenda holds that has a day to be kept, in its order; the patient's own last."""
    found = [
        _appointment(each, patient_id) for each in entries if each.kind not in _NO_APPOINTMENT
    ]
    found += [_own(each, patient_id) for each in own]
    return [each for each in found if each is not None]


def _appointment(view: AgendaView, patient_id: int) -> Resource | None:
    status = APPOINTMENTS[view.status]
    times = _times(view.day, view.start_at, view.end_at)
    if not times and status not in _MAY_LACK_TIMES:
        return None
    accepted = "needs-action" if status == "proposed" else "accepted"
    source = document_id(patient_id, view.source_unique_id)
    resource: Resource = {
        "resourceType": "Appointment",
        "id": f"{patient_id}-a{_digest(view.source_unique_id, view.ordinal)}",
        "status": status,
        "description": view.title,
        "supportingInformation": [{"reference": f"DocumentReference/{source}"}],
        **times,
        "participant": [{"actor": {"reference": f"Patient/{patient_id}"}, "status": accepted}],
    }
    return _versioned(resource, view.changed_at)


def _own(entry: OwnEntry, patient_id: int) -> Resource:
    last = entry.last_day or entry.day
    times = _times(entry.day, entry.start_at, entry.end_at, last)
    status = "cancelled" if entry.cancelled else "booked"
    resource: Resource = {
        "resourceType": "Appointment",
        "id": f"{patient_id}-o{_digest(entry.uid, 0)}",
        "status": status,
        "description": entry.title,
        **times,
        "participant": [{"actor": {"reference": f"Patient/{patient_id}"}, "status": "accepted"}],
    }
    return _versioned(resource, entry.changed_at)


def _times(
    day: date | None, start_at: datetime | None, end_at: datetime | None, last: date | None = None
) -> Resource:
    """Give start and end; a day without an hour is the whole day in France."""
    if start_at is not None:
        return {
            "start": _instant(start_at),
            "end": _instant(end_at if end_at is not None and end_at > start_at else start_at),
        }
    if day is None:
        return {}
    after = (last or day) + timedelta(days=1)
    return {"start": _instant(paris_midnight(day)), "end": _instant(paris_midnight(after))}


def immunizations(entries: Sequence[AgendaView], patient_id: int) -> list[Resource]:
    """The vaccinations that documents say were given."""
    return [
        _immunization(each, patient_id)
        for each in entries
        if each.kind == ActKind.VACCINATION.value and each.status != AgendaStatus.DISMISSED.value
    ]


def _immunization(view: AgendaView, patient_id: int) -> Resource:
    vaccine: Resource = {"text": view.title}
    if view.atc:
        vaccine["coding"] = [{"system": ATC, "code": view.atc}]
    resource: Resource = {
        "resourceType": "Immunization",
        "id": f"{patient_id}-i{_digest(view.source_unique_id, view.ordinal)}",
        "status": "completed",
        "vaccineCode": vaccine,
        "patient": {"reference": f"Patient/{patient_id}"},
        "primarySource": False,
    }
    if view.start_at is not None:
        resource["occurrenceDateTime"] = _instant(view.start_at)
    elif view.day is not None:
        resource["occurrenceDateTime"] = view.day.isoformat()
    else:
        resource["occurrenceString"] = "date inconnue"
    return _versioned(resource, view.changed_at)


def audit_events(views: Sequence[AccessView], patient_id: int) -> list[Resource]:
    """Who opened the record, as its patient is shown it."""
    return [_audit_event(each, patient_id) for each in views]


def _audit_event(view: AccessView, patient_id: int) -> Resource:
    entity: Resource = {"what": {"reference": f"Patient/{patient_id}"}}
    if view.title is not None:
        entity["description"] = view.title
    seed = f"{view.at.isoformat()}\0{view.actor}"
    resource: Resource = {
        "resourceType": "AuditEvent",
        "id": f"{patient_id}-e{_digest(seed + view.kind, 0)}",
        "type": {"system": EVENT_TYPES, "code": "rest"},
        "subtype": [{"system": "urn:pli:trail", "code": view.kind}],
        "action": "R",
        "recorded": _instant(view.at),
        "outcome": "0",
        "agent": [{"who": {"display": view.actor}, "requestor": True}],
        "source": {
            "observer": {"display": "Pli"},
            "type": [{"system": OBSERVERS, "code": "4"}],
        },
        "entity": [entity],
    }
    return _versioned(resource, view.at)


def _versioned(resource: Resource, at: datetime | None = None) -> Resource:
    """Add the version: the same resource has the same, whoever asks and when."""
    text = json.dumps(resource, sort_keys=True, ensure_ascii=True)
    meta: Resource = {"versionId": hashlib.sha256(text.encode()).hexdigest()[:16]}
    if at is not None:
        meta["lastUpdated"] = _instant(at)
    kind, own_id = resource.pop("resourceType"), resource.pop("id")
    return {"resourceType": kind, "id": own_id, "meta": meta, **resource}


def _digest(text: str, ordinal: int) -> str:
    return hashlib.sha256(f"{text}\0{ordinal}".encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bundle(
    resources: Sequence[Resource], total: int, links: Mapping[str, str], base: str
) -> Resource:
    """Give one page of a search's answer. Source: HL7 FHIR R4, Bundle."""
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": [{"relation": name, "url": url} for name, url in links.items()],
        "entry": [
            {
                "fullUrl": f"{base}/{each['resourceType']}/{each['id']}",
                "resource": each,
                "search": {"mode": "match"},
            }
            for each in resources
        ],
    }


def outcome(code: str, text: str) -> Resource:
    """Give an OperationOutcome; texts are constants of this program."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": code, "diagnostics": text}],
    }
