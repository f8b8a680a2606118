"""What the X-MSS fields say, read from the documents themselves."""

from dataclasses import replace

import pytest

from record_bridge.formats.marks import PackageMarks, package_marks
from tests.support.cda import CdaSpec, PatientSpec, cda
from tests.support.xdm import mail, package


def test_the_code_and_a_whole_ins_are_told():
    assert package_marks(mail(package(cda()))) == PackageMarks(
        (("X-MSS-CODECDA", CdaSpec().code), ("X-MSS-INS", "O"))
    )


def test_several_documents_give_each_code_once():
    second = replace(CdaSpec(), code="PRESC-BIO", unique_id="1.2.250.1.213.999.77")
    raw = mail(package(cda(), cda(second)), package(cda()))

    assert package_marks(raw).fields[0] == ("X-MSS-CODECDA", f"{CdaSpec().code},PRESC-BIO")


@pytest.mark.parametrize(
    "missing",
    [{"ins": None}, {"family": None}, {"given": None}, {"birth_date": "1979"}, {"sex": None}],
)
def test_a_partial_ins_is_told_as_such(missing):
    raw = mail(package(cda(CdaSpec(patients=(PatientSpec(**missing),)))))

    assert package_marks(raw).fields[1] == ("X-MSS-INS", "N")


@pytest.mark.parametrize(
    "raw", [b"", mail(), mail(b"PK no archive"), mail(package(cda())[:-30])], ids=range(4)
)
def test_nothing_is_told_of_what_cannot_be_read(raw):
    assert package_marks(raw) == PackageMarks()


PERSON = PatientSpec()
TWIN = replace(PERSON, ins="279035121518990")


def of(*patients: PatientSpec) -> bytes:
    return cda(CdaSpec(patients=patients))


@pytest.mark.parametrize(
    ("packages", "one"),
    [
        ((package(of(PERSON), of(PERSON)),), True),
        ((package(of(PERSON)), package(of(replace(PERSON, given="CAMILE")))), True),
        ((package(of(PERSON), of(replace(PERSON, ins=None))),), True),
        ((package(of(PERSON), of(TWIN)),), False),
        ((package(of(PERSON)), package(of(TWIN))), False),
        ((package(of(PERSON, TWIN)),), False),
    ],
    ids=[
        "twice one", "another spelling", "one without a number", "two documents",
        "two packages", "two in one document",
    ],
)  # fmt: skip
def test_documents_of_two_numbers_are_told(packages, one):
    assert package_marks(mail(*packages)).one_patient is one
