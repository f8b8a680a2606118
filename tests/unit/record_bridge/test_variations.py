"""The same document as other senders would write and pack it, and documents that are damaged.

`scripts/prove_samples --mutations N FOLDER` does the same to published documents.

Source: RULES §5, threats X3 and X4.
"""

import random

import pytest

from record_bridge.model import InsMatricule, InsTraits, Sex
from tests.support.cda import (
    OID_TEST,
    PDF,
    CdaSpec,
    PatientSpec,
    cda,
    follow_up,
    prescription,
    vaccination,
)
from tests.support.variations import (
    DAMAGING,
    HARMLESS,
    outcome,
    people,
    shows_what_is_written,
    summary,
    words_written,
    wrapped,
)

PATIENT = PatientSpec(family="ZZ-D'ÉLAN", given="ZZLéa", used_family="ZZAUTRE")
IDENTITIES = people(
    InsMatricule(str(PATIENT.ins), OID_TEST),
    InsTraits("ZZ-D'ÉLAN", "ZZLÉA", "19790328", Sex.FEMALE, "99990"),
)
DOCUMENTS = {
    "level 1": cda(CdaSpec(patients=(PATIENT,), pdf=PDF)),
    "level 3": cda(
        CdaSpec(
            patients=(PATIENT,),
            acts=(follow_up("20261224"), vaccination("20260301"), prescription("20261101", None)),
            attending="801234567897",
        )
    ),
    "wrapped": cda(CdaSpec(patients=(PATIENT,), wrapped=True)),
}
SEEDS = range(3)
VARIED = [
    pytest.param(name, content, id=f"{name}, {kind}")
    for name, vary in HARMLESS.items()
    for kind, content in DOCUMENTS.items()
    if vary(content, random.Random(0)) is not None  # not every document has what is varied
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "content"), VARIED)
def test_what_changes_nothing_is_filed_for_the_same_patient(name: str, content: bytes, seed: int):
    rng = random.Random(seed)
    plain = outcome(wrapped(content, rng), IDENTITIES)
    changed = HARMLESS[name](content, rng)
    assert changed is not None
    found = outcome(wrapped(changed, rng), IDENTITIES)

    assert (plain.patient, found.patient) == (1, 1)
    assert plain.document is not None
    assert found.document is not None
    assert summary(found.document) == summary(plain.document)
    assert words_written(content) <= words_written(changed)
    assert shows_what_is_written(changed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("name", DAMAGING)
def test_what_is_damaged_is_filed_for_nobody(name: str, content: bytes, seed: int):
    code, damage = DAMAGING[name]
    rng = random.Random(seed)
    changed = damage(content, rng)

    assert changed is not None
    found = outcome(wrapped(changed, rng, of=content), IDENTITIES)
    assert (found.patient, found.code) == (None, code)


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"hash": "0" * 40}, 906),
        ({"hash": ""}, 906),
        ({"size": 1}, 906),
        ({"unique_id": "1.2.3"}, 906),
        ({"uri": "NONE.XML"}, 906),
        ({"patient_id": f"299129999900199^^^&{OID_TEST}&ISO^NH"}, 906),
        ({"patient_id": f"{PATIENT.ins}^^^&1.2.250.1.213.1.4.11&ISO^NH"}, 906),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_metadata_that_says_otherwise_files_for_nobody(
    metadata: dict[str, object], code: int, seed: int
):
    content = DOCUMENTS["level 3"]
    found = outcome(wrapped(content, random.Random(seed), **metadata), IDENTITIES)

    assert (found.patient, found.code) == (None, code)
