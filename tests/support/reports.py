"""Reports about a demo site's patients: as documents, and as whole messages for the proofs."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.cda import CdaSpec, PatientSpec, acts, cda, follow_up
from tests.support.site import DemoSite
from tests.support.xdm import mail, package

_ROOT = "1.2.250.1.213.999.77"


def patient_spec(patient: Mapping[str, Any]) -> PatientSpec:
    """Give a row of ``demo.json`` as a document names the patient."""
    return PatientSpec(
        ins=patient["ins"],
        oid=patient["oid"],
        family=patient["family"],
        given=patient["given"],
        birth_date=patient["birth_date"].replace("-", ""),
        sex=patient["sex"],
        birth_place=patient["birth_place"],
        other_ids=(),
    )


def unique_root(name: str) -> str:
    """Give an OID that is the same for the same name and differs for another."""
    return f"{_ROOT}.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], 'big')}"


def discharge_letter(
    patient: Mapping[str, Any], name: str, follow_up_at: str | None = None
) -> bytes:
    """Write a discharge letter with a requested consultation.

    Args:
        patient: a row of ``demo.json``.
        name: the same name gives the same document id.
        follow_up_at: HL7 time, or None for "to be scheduled".
    """
    return cda(
        CdaSpec(
            unique_id=unique_root(name),
            patients=(patient_spec(patient),),
            code="11490-0",
            code_display="Lettre de liaison à la sortie d'un établissement de soins",
            title="Lettre de liaison à la sortie",
            set_id=unique_root(name + "/set"),
            custodian="1750000026",
            custodian_name="Hôpital Nord",
            author_organization="1750000026",
            narrative="Hospitalisation pour bilan cardiologique. Évolution favorable, retour à "
            "domicile. Une consultation de contrôle est demandée.",
            acts=acts(follow_up(follow_up_at)),
        )
    )


def report_maker(site: DemoSite) -> Callable[[str], bytes]:
    """Give a function that makes, for a Message-ID, an unsigned message with a fresh report."""
    patient = site.demo["patients"][0]
    sender = site.demo["operators"][0]["sender"]
    recipient = site.demo["practitioners"][0]["address"]

    def make(message_id: str) -> bytes:
        document = discharge_letter(patient, message_id)
        return mail(package(document), sender=sender, to=recipient, message_id=message_id)

    return make
