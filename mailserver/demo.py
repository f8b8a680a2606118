"""The demo site: two structures, their people and patients, two fictitious operators.

Everybody is fictitious: the domains end in ``.test``, the INS are of the test OID with commune
codes that no commune has (RULES §11). ``demo.json`` says every password, so a demo site never
holds anything real; ``pli init`` refuses it for production.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from certs.issue import Issued, KeyKind
from certs.keystore import KeyStore
from certs.names import dn_string
from directory.trust_list import ListedDomain
from mailserver.app import local_commands
from mailserver.control import Owner
from mailserver.installation import OPERATOR_FIELDS, OPERATOR_ORGANISATION
from mailserver.practice import write_list
from mailserver.settings import FairUse, Site, write_private

TEST_OID = "1.2.250.1.213.1.4.10"
RECEIVER_OFFSETS = (26, 27)
"""The operators' receivers listen beside the site's SMTP port."""


@dataclass(frozen=True, slots=True)
class _Structure:
    id: str
    name: str
    organization: str
    domain: str
    patient_domain: str


@dataclass(frozen=True, slots=True)
class _Person:
    structure: str
    local: str
    type: str
    name: str
    rpps: str | None


@dataclass(frozen=True, slots=True)
class _Patient:
    ins: str
    family: str
    given: str
    birth_date: str
    sex: str
    birth_place: str
    logins: tuple[tuple[str, str], ...]
    """(structure, webmail login); the login is not the INS."""


@dataclass(frozen=True, slots=True)
class _Operator:
    domain: str
    sender: str
    organisation: str
    unit: str


_STRUCTURES = (
    _Structure(
        "cardiologie",
        "Service de cardiologie, hôpital de démonstration",
        "750000018",
        "hopital-demo.mssante.test",
        "patient.mssante.test",
    ),
    _Structure(
        "cabinet",
        "Cabinet médical de démonstration",
        "75000001600015",
        "cabinet-demo.mssante.test",
        "patient-cabinet.mssante.test",
    ),
)
_PEOPLE = (
    _Person("cardiologie", "alice.martin", "PER", "Alice Martin", "10100000019"),
    _Person("cardiologie", "bruno.leroy", "PER", "Bruno Leroy", "10100000027"),
    _Person("cardiologie", "secretariat", "ORG", "Secrétariat de cardiologie", None),
    _Person("cabinet", "chloe.bernard", "PER", "Chloé Bernard", "10100000035"),
)
_PATIENTS = (
    _Patient(
        "285037599001728", "DURAND", "CAMILLE", "1985-03-14", "F", "75990",
        (("cardiologie", "camille.durand"), ("cabinet", "camille.durand.cabinet")),
    ),
    _Patient(
        "172067599102348", "PETIT", "LOUIS", "1972-06-02", "M", "75991",
        (("cardiologie", "louis.petit"),),
    ),
)  # fmt: skip
_OPERATORS = (
    _Operator(
        "hopital-nord.mssante.test",
        "cardiologie@hopital-nord.mssante.test",
        "HOPITAL NORD DE PRATIQUE",
        "1750000026",
    ),
    _Operator(
        "labo-est.mssante.test",
        "resultats@labo-est.mssante.test",
        "LABORATOIRE EST DE PRATIQUE",
        "1750000034",
    ),
)


async def make_demo(site: Site, *, at: datetime) -> None:
    """Fill a fresh site and write ``demo.json`` (0600).

    Raises:
        CommandError: the site is not fresh.
    """
    settings = site.settings()
    operators = _make_operators(site, at)
    site.write_settings(
        settings.model_copy(
            update={
                "routes": {
                    row["domain"]: f"{row['receiver']['host']}:{row['receiver']['port']}"
                    for row in operators
                },
                "fair_use": FairUse.none(),
            }
        )
    )
    async with local_commands(site, Owner.MAIL) as mail:
        structures = [
            await mail["structure_add"](
                {
                    "id": structure.id,
                    "name": structure.name,
                    "organization": structure.organization,
                    "domain": structure.domain,
                    "patient_domain": structure.patient_domain,
                }
            )
            for structure in _STRUCTURES
        ]
        mailboxes = [await _open_mailbox(mail, person) for person in _PEOPLE]
    async with local_commands(site, Owner.BRIDGE) as bridge:
        for patient in _PATIENTS:
            for structure, _login in patient.logins:
                identity = _identity(patient, structure)
                await bridge["patient_add"](identity)
                for person in _PEOPLE:
                    if person.structure == structure and person.rpps is not None:
                        await bridge["right_give"](
                            {
                                **{key: identity[key] for key in ("ins", "oid", "structure")},
                                "kind": "care_team",
                                "holder": person.rpps,
                                "actor": "cli:demo",
                            }
                        )
    async with local_commands(site, Owner.MAIL) as mail:
        patients = [
            await _open_patient(mail, patient, structure, login)
            for patient in _PATIENTS
            for structure, login in patient.logins
        ]
    document: dict[str, Any] = {
        "host": settings.host,
        "ports": settings.ports.model_dump(),
        "ca_file": str(site.pki / "root.pem"),
        "structures": [
            {
                key: row[key]
                for key in ("id", "name", "domain", "patient_domain", "application_address")
            }
            for row in structures
        ],
        "practitioners": [row for row in mailboxes if row["rpps"] is not None],
        "services": [row for row in mailboxes if row["rpps"] is None],
        "patients": patients,
        "operators": operators,
    }
    write_private(
        site.demo_file, json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n"
    )


async def _open_mailbox(mail: Any, person: _Person) -> dict[str, Any]:
    domain = next(s.domain for s in _STRUCTURES if s.id == person.structure)
    address = f"{person.local}@{domain}"
    await mail["account_add"](
        {
            "address": address,
            "type": person.type,
            "structure": person.structure,
            "rpps": person.rpps,
            "name": person.name,
            "profession": "" if person.rpps is None else "10",
            "specialty": "" if person.rpps is None else "SM26",
            "filing": True,
        }
    )
    holder = None
    if person.type == "ORG":
        # A team's mailbox is shared with somebody, who holds its password.
        first = next(each for each in _PEOPLE if each.structure == person.structure)
        holder = f"{first.local}@{domain}"
        await mail["mailbox_share"]({"address": address, "person": holder})
    device = await mail["device_add"]({"address": address, "name": "demo", "person": holder})
    account = await mail["account_login"]({"address": address, "login": person.local})
    return {
        **account,
        "address": address,
        "password": device["password"],
        "rpps": person.rpps,
        "name": person.name,
        "structure": person.structure,
    }


def _identity(patient: _Patient, structure: str) -> dict[str, Any]:
    return {
        "ins": patient.ins,
        "oid": TEST_OID,
        "family": patient.family,
        "given": patient.given,
        "birth_date": patient.birth_date,
        "sex": patient.sex,
        "birth_place": patient.birth_place,
        "status": "qualifiee",
        "structure": structure,
    }


async def _open_patient(
    mail: Any, patient: _Patient, structure: str, login: str
) -> dict[str, Any]:
    opened = await mail["patient_open"](
        {"structure": structure, "ins": patient.ins, "login": login}
    )
    identity = _identity(patient, structure)
    del identity["status"]
    return {**identity, **opened}


def _make_operators(site: Site, at: datetime) -> list[dict[str, Any]]:
    """Issue the operators' certificates and write the signed trust list."""
    pki = KeyStore(site.pki).load_practice()
    settings = site.settings()
    entries = [
        ListedDomain(domain, _subject(site.pki / "server.pem"), "Site de démonstration")
        for structure in _STRUCTURES
        for domain in (structure.domain, structure.patient_domain)
    ]
    rows: list[dict[str, Any]] = []
    for operator, offset in zip(_OPERATORS, RECEIVER_OFFSETS, strict=True):
        folder = site.demo_directory / operator.domain
        inbox = folder / "inbox"
        for each in (site.demo_directory, folder, inbox):
            each.mkdir(mode=0o700, exist_ok=True)
        fields = {**OPERATOR_FIELDS, "OU": operator.unit, "O": operator.organisation}
        tls = pki.issue_server(
            at,
            (f"smtp.{operator.domain}", "localhost", "127.0.0.1"),
            {"CN": f"smtp.{operator.domain}", **fields},
        )
        seal = pki.issue_seal(
            at, operator.sender, operator.organisation, key_kind=KeyKind.RSA_2048
        )
        files = {**_save(folder, "tls", tls), **_save(folder, "smime", seal)}
        entries.append(
            ListedDomain(operator.domain, _subject(folder / "tls.pem"), operator.organisation)
        )
        rows.append(
            {
                "domain": operator.domain,
                "sender": operator.sender,
                "certificate_file": files["tls.pem"],
                "key_file": files["tls.key"],
                "smime_certificate_file": files["smime.pem"],
                "smime_key_file": files["smime.key"],
                "receiver": {
                    "host": "127.0.0.1",
                    "port": settings.ports.smtp - 25 + offset,
                    "dir": str(inbox),
                },
            }
        )
    signer = pki.issue_list_signer(at, OPERATOR_ORGANISATION)
    write_list(site, signer, entries, at)
    return rows


def _save(folder: Path, stem: str, issued: Issued) -> dict[str, str]:
    certificate, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    write_private(certificate, issued.bundle)
    write_private(key, issued.key)
    return {certificate.name: str(certificate), key.name: str(key)}


def _subject(certificate: Path) -> str:
    return dn_string(x509.load_pem_x509_certificate(certificate.read_bytes()).subject)
