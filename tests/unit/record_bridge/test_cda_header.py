"""The header of a CDA document.

Source: CI-SIS §StructMin.
"""

import time

import pytest

from record_bridge.errors import MalformedCdaError
from record_bridge.formats.cda_header import Ii, parse_cda
from record_bridge.formats.safe_xml import MAX_DEPTH, MAX_OCTETS, MAX_TAGS
from tests.support.cda import PDF, CdaSpec, PatientSpec, cda


def test_a_document_is_read():
    header = parse_cda(
        cda(
            CdaSpec(
                extension="42", recipients=("801",), attending="802", replaces="1.2.3^7", version=3
            )
        )
    )

    assert header.unique_id == "1.2.250.1.213.999.1^42"
    assert (header.code, header.code_display) == ("11502-2", "CR d'examens biologiques")
    assert header.title == "Compte rendu ZZCANARYTITRE"
    assert (header.set_id, header.version_number, header.level) == ("1.2.250.1.213.999.set", 3, 3)
    assert header.parent_unique_id == "1.2.3^7"
    assert header.recipients[0].ids == (Ii("1.2.250.1.71.4.2.1", "801"),)
    assert header.attending_ids == (Ii("1.2.250.1.71.4.2.1", "802"),)
    assert header.authors[0].name == "DR Test AUTEUR"
    assert header.authors[0].profession == "Médecin - Généraliste"
    assert header.custodian.name == "LABORATOIRE DE TEST"
    assert (header.encounter.low, header.encounter.high) == ("20261101", "20261102")  # type: ignore[union-attr]  # the document has one


def test_a_uuid_names_its_document_in_either_case():
    """HL7 V3 writes them in capitals; senders write the parent's as their database gives it."""
    uuid = "90e1c8ec-f951-4b26-a305-a34848818dd6"
    first = parse_cda(cda(CdaSpec(unique_id=uuid.upper(), extension="a")))
    second = parse_cda(cda(CdaSpec(unique_id="1.2.9", replaces=f"{uuid}^a")))
    other = parse_cda(cda(CdaSpec(unique_id=uuid, extension="A")))

    assert second.parent_unique_id == first.unique_id == f"{uuid.upper()}^a"
    assert other.unique_id != first.unique_id


def test_the_patient_is_read():
    (patient,) = parse_cda(
        cda(CdaSpec(patients=(PatientSpec(used_family="ZZCANARYEPOUX"),)))
    ).patients

    assert patient.ins_ids == (Ii("1.2.250.1.213.1.4.10", "279039999000178"),)
    assert (patient.birth_families, patient.first_givens) == (
        ("ZZCANARY-NOM",),
        ("ZZCANARYPRENOM",),
    )
    assert (patient.birth_time, patient.sex, patient.birth_place) == ("19790328", "F", "99990")
    assert patient.display == "ZZCANARYEPOUX ZZCANARYPRENOM"


def test_what_is_missing_is_empty_not_guessed():
    spec = PatientSpec(
        ins=None, family=None, given=None, birth_date=None, sex=None, birth_place=None
    )
    (patient,) = parse_cda(cda(CdaSpec(patients=(spec,)))).patients

    assert patient.ins_ids == patient.birth_families == patient.first_givens == ()
    assert (patient.birth_time, patient.sex, patient.birth_place) == (None, None, "")


def test_a_wrapper_is_stepped_over():
    assert parse_cda(cda(CdaSpec(wrapped=True))) == parse_cda(cda())


def test_level_1_is_known_by_its_body():
    assert parse_cda(cda(CdaSpec(pdf=PDF))).level == 1


def test_a_large_pdf_is_no_obstacle():
    assert parse_cda(cda(CdaSpec(pdf=b"x" * 8_000_000))).level == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "not XML text", id="empty"),
        pytest.param(b"%PDF-1.4", "not XML text", id="a PDF"),
        pytest.param(b"<a/>", "no ClinicalDocument", id="another root"),
        pytest.param(b"<ClinicalDocument/>", "no ClinicalDocument", id="no namespace"),
        pytest.param(
            b'<x xmlns="urn:hl7-org:v3"><ClinicalDocument/><ClinicalDocument/></x>',
            "several documents",
            id="two",
        ),
        pytest.param(
            b'<ClinicalDocument xmlns="urn:hl7-org:v3"><ClinicalDocument/></ClinicalDocument>',
            "several documents",
            id="one in the other",
        ),
        pytest.param(
            b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>', "no single identifier", id="no id"
        ),
        pytest.param(
            b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1"/><id root="2"/></ClinicalDocument>',
            "no single identifier",
            id="two ids",
        ),
        pytest.param(
            b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id nullFlavor="NI"/></ClinicalDocument>',
            "no single identifier",
            id="null id",
        ),
        pytest.param(cda()[:-5], "not well formed", id="cut short"),
        pytest.param(b"\xff\xfe" + b"\x00\xd8", "not XML text", id="broken UTF-16"),
        pytest.param(
            cda(CdaSpec(prologue='<?xml version="1.0" encoding="ISO-8859-1"?>'))
            .decode()
            .encode("utf-16"),
            "not XML text",
            id="UTF-16 that says Latin-1",
        ),
    ],
)
def test_what_is_not_a_document_is_refused(content: bytes, reason: str):
    with pytest.raises(MalformedCdaError) as caught:
        parse_cda(content)

    assert caught.value.reason == reason


def nested(depth: int) -> bytes:
    inner = b"<x>" * (depth - 2) + b"</x>" * (depth - 2)
    return (
        b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/><component>'
        + inner
        + b"</component></ClinicalDocument>"
    )


def test_depth_is_bounded():
    assert parse_cda(nested(MAX_DEPTH)).unique_id == "1.2"
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(MalformedCdaError):
            parse_cda(nested(depth))


def padded(size: int) -> bytes:
    start = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/><title>'
    end = b"</title></ClinicalDocument>"
    return start + b"a" * (size - len(start) - len(end)) + end


def test_size_is_bounded():
    assert parse_cda(padded(MAX_OCTETS)).unique_id == "1.2"
    for size in (MAX_OCTETS + 1, 50_000_000):
        with pytest.raises(MalformedCdaError, match="too large"):
            parse_cda(padded(size))


def tagged(count: int) -> bytes:
    start = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2"/><component>'
    return start + b"<a/>" * (count - 5) + b"</component></ClinicalDocument>"


def test_the_number_of_tags_is_bounded():
    assert parse_cda(tagged(MAX_TAGS)).unique_id == "1.2"
    with pytest.raises(MalformedCdaError, match="too many tags"):
        parse_cda(tagged(MAX_TAGS + 1))


@pytest.mark.parametrize("name", ["recordTarget", "author", "relatedDocument", "templateId"])
def test_repetitions_are_bounded(name: str):
    def repeated(count: int) -> bytes:
        return cda(CdaSpec(extra_header=f"<{name}/>" * count))

    assert parse_cda(repeated(190))
    with pytest.raises(MalformedCdaError, match="too many"):
        parse_cda(repeated(201))


@pytest.mark.parametrize(
    "encoding",
    [
        "utf-8",
        "UTF8",
        "iso-8859-1",
        "ISO8859-1",
        "latin-1",
        "iso-8859-15",
        "windows-1252",
        "cp1252",
    ],
)
def test_usual_encodings_are_read(encoding: str):
    text = cda(
        CdaSpec(title="Été", prologue=f'<?xml version="1.0" encoding="{encoding}"?>')
    ).decode()

    assert parse_cda(text.encode(encoding)).title == "Été"


def test_a_byte_order_mark_is_no_obstacle():
    assert parse_cda(b"\xef\xbb\xbf" + cda()) == parse_cda(cda())


@pytest.mark.parametrize("declared", ["UTF-16", "utf-16", "UTF-8", ""])
@pytest.mark.parametrize("mark", ["utf-16", "utf-16-be"])
def test_utf_16_is_read_whatever_it_calls_itself(mark: str, declared: str):
    prologue = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = "\ufeff" * (mark == "utf-16-be") + cda(CdaSpec(title="Été", prologue=prologue)).decode()

    assert parse_cda(text.encode(mark)) == parse_cda(cda(CdaSpec(title="Été")))


def test_a_declaration_that_is_only_quoted_in_utf_16_stays_as_it_is():
    quoted = '<![CDATA[<?xml version="1.0" encoding="UTF-16"?>]]>'
    text = cda(CdaSpec(title="ZZ", prologue="")).decode().replace("ZZ<", quoted + "<", 1)

    assert parse_cda(text.encode("utf-16")).title == '<?xml version="1.0" encoding="UTF-16"?>'


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_utf_8_that_calls_itself_utf_16_is_utf_8(mark: bytes):
    text = cda(CdaSpec(title="Été", prologue='<?xml version="1.0" encoding="utf-16"?>'))

    assert parse_cda(mark + text).title == "Été"


def test_a_mark_of_utf_8_is_believed_over_the_name():
    text = cda(CdaSpec(title="Été", prologue='<?xml version="1.0" encoding="ISO-8859-1"?>'))

    assert parse_cda(b"\xef\xbb\xbf" + text).title == "Été"
    with pytest.raises(MalformedCdaError):
        parse_cda(b"\xef\xbb\xbf" + text.decode().encode("latin-1"))


@pytest.mark.parametrize("before", [b"\r\n", b"  ", b"\xef\xbb\xbf\r\n"])
def test_blanks_around_the_document_are_no_obstacle(before: bytes):
    assert parse_cda(before + cda() + b"\r\n\r\n") == parse_cda(cda())


@pytest.mark.parametrize(
    "quoted",
    [
        "<!-- <!DOCTYPE html> -->",
        "<![CDATA[<!DOCTYPE html><!ENTITY x 'y'>]]>",
        "<?note <!DOCTYPE html> ?>",
        "<!-- <![CDATA[ --><!-- <!DOCTYPE html> -->",
    ],
)
def test_a_document_may_quote_a_doctype(quoted: str):
    text = cda().decode()

    assert parse_cda(text.replace("<realmCode", quoted + "<realmCode", 1).encode())
    assert parse_cda(text.replace("ZZCANARYTEXTE", quoted, 1).encode())


@pytest.mark.parametrize(
    "written",
    [
        "<!DOCTYPE x>",
        "<!-- --><!DOCTYPE x><!-- -->",
        "<!-- <![CDATA[ --><!DOCTYPE x><!-- ]]> -->",
        "<?a <!-- ?><!DOCTYPE x><?b --> ?>",
        "<![CDATA[<!DOCTYPE x>",
        "<!-- <!DOCTYPE x>",
    ],
)
def test_a_doctype_does_not_hide_behind_what_only_looks_like_a_quotation(written: str):
    text = cda().decode()

    with pytest.raises(MalformedCdaError) as caught:
        parse_cda(text.replace("<ClinicalDocument", written + "<ClinicalDocument", 1).encode())

    assert caught.value.reason == "doctype"


def test_quotations_that_never_end_are_looked_at_once():
    started = time.process_time()

    with pytest.raises(MalformedCdaError):
        parse_cda(cda() + b"<!--" * 900_000 + b"<!DOCTYPE x>")

    assert time.process_time() - started < 2
