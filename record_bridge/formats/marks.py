"""What the X-MSS fields of a message say of its documents, and whose they are, read from them.

The server writes them on what its users submit, whatever their clients wrote (threats S17), so
that a receiver may believe them. For the worker pool: it opens strangers' archives and XML.

Source: RULES §5, MSS-CL §3.8.1 (X-MSS-CODECDA), MSS-CL §3.8.2 (X-MSS-INS).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certs.errors import CertsError
from certs.mime import decode_strictly, find_named, scan
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats.cda_header import CdaHeader, parse_cda
from record_bridge.formats.xdm import open_package

PACKAGE_NAME = "IHE_XDM.zip"
MAX_CODES = 50
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_BIRTH_DATE = re.compile(r"\d{8}")


@dataclass(frozen=True, slots=True)
class PackageMarks:
    """What the packages of a message say.

    Attributes:
        fields: the X-MSS fields to write; none when no CDA could be read.
        one_patient: False when two documents, or two patients of one, bear INS numbers that
            cannot be one person's.
    """

    fields: tuple[tuple[str, str], ...] = ()
    one_patient: bool = True


def package_marks(raw: bytes) -> PackageMarks:
    """Read every CDA of a whole message's packages."""
    headers = list(_headers(raw))
    return PackageMarks(_fields(headers), _of_one_patient(headers))


def _of_one_patient(headers: Sequence[CdaHeader]) -> bool:
    """Say whether some INS number is common to all who bear one: people may have two (NIA)."""
    numbers = [
        {(each.root, "".join(each.extension.split()).upper()) for each in patient.ins_ids}
        for header in headers
        for patient in header.patients
        if patient.ins_ids
    ]
    return not numbers or bool(set.intersection(*numbers))


def _fields(headers: Sequence[CdaHeader]) -> tuple[tuple[str, str], ...]:
    if not headers:
        return ()
    codes = dict.fromkeys(header.code for header in headers if _CODE.fullmatch(header.code))
    qualified = "O" if all(map(_is_qualified, headers)) else "N"
    named = (("X-MSS-CODECDA", ",".join([*codes][:MAX_CODES])),) if codes else ()
    return (*named, ("X-MSS-INS", qualified))


def _headers(raw: bytes) -> Iterator[CdaHeader]:
    for part in find_named(scan(raw), PACKAGE_NAME):
        try:
            package = open_package(decode_strictly(raw, part))
        except (CertsError, MalformedDocumentError):
            continue
        for document in package.documents:
            if not document.uri.lower().endswith(".xml"):
                continue
            try:
                yield parse_cda(document.content)
            except MalformedDocumentError:
                continue


def _is_qualified(header: CdaHeader) -> bool:
    """Say whether the INS is whole: number, birth name, first birth name, birth date, sex."""
    if len(header.patients) != 1:
        return False
    patient = header.patients[0]
    return bool(
        len(patient.ins_ids) == 1
        and patient.birth_families
        and patient.first_givens
        and patient.sex
        and _BIRTH_DATE.fullmatch(patient.birth_time or "")
    )
