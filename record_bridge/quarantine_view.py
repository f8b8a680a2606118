"""What an item of quarantine shows: the document, whose it says it is, who that may be; pure.

Source: RULES §5.
"""

from collections.abc import Mapping
from typing import Any

from record_bridge.formats.cda_header import CdaHeader, CdaPatient
from record_bridge.identity import differences, same_name
from record_bridge.model import InsTraits, Sex


def is_near(candidate: Mapping[str, Any], matricule: str, person: CdaPatient | None) -> bool:
    """Whether an identity of the structure, born that day or so numbered, may be the person."""
    if matricule and candidate["matricule"] == matricule:
        return True
    if person is None:
        return False
    families = any(same_name(each, candidate["family"]) for each in person.birth_families)
    givens = any(same_name(each, candidate["given"]) for each in person.first_givens)
    return families or givens


def document_json(header: CdaHeader) -> dict[str, Any]:
    """What the document is, as it is written there."""
    return {
        "title": header.title,
        "type": header.code_display,
        "author": header.authors[0].name if header.authors else "",
        "custodian": header.custodian.name,
        "effective_time": header.effective_time,
    }


def claimed_json(person: CdaPatient) -> dict[str, Any]:
    """Who the document says it is about, as it is written there."""
    return {
        "ids": [{"ins": each.extension, "oid": each.root} for each in person.ins_ids],
        "family": ", ".join(person.birth_families),
        "given": ", ".join(person.first_givens),
        "birth_date": person.birth_time,
        "sex": person.sex,
        "birth_place": person.birth_place or None,
        "shown_as": person.display,
    }


def candidate_json(row: Mapping[str, Any], claimed: InsTraits | None) -> dict[str, Any]:
    """An identity of the structure, and which of its traits differ from those claimed."""
    local = InsTraits(
        row["family"], row["given"], row["birth_date"], Sex(row["sex"]), row["birth_place"]
    )
    return {
        "ins": row["matricule"],
        "oid": row["oid"],
        "family": row["family"],
        "given": row["given"],
        "birth_date": row["birth_date"],
        "sex": row["sex"],
        "birth_place": row["birth_place"],
        "status": row["status"],
        "doubtful": bool(row["doubtful"]),
        "fictitious": bool(row["fictitious"]),
        "differs": None if claimed is None else list(differences(claimed, local)),
    }
