"""Code lists: known codes have their label and class, unknown ones are not refused."""

from directory import codes


def test_the_value_set_holds_each_type_once():
    types = codes.known_types()

    assert len(types) == len(set(types)) == 114


def test_each_type_has_a_class_that_pages_can_show():
    assert {codes.class_of(code) for code in codes.known_types()} <= set(codes.CLASSES)


def test_a_known_type_gives_its_label_and_class():
    assert codes.type_label("11502-2") == "CR d'examens biologiques"
    assert codes.class_of("57833-6") == "42"


def test_an_unknown_type_has_no_label_and_counts_as_a_report():
    assert codes.type_label("99999-9") is None
    assert codes.class_of("99999-9") == "10"


def test_a_profession_is_read_in_each_written_form():
    assert codes.profession_label("10") == "médecin"
    assert codes.profession_label("G15_10/SM26") == "médecin, qualifié en médecine générale"
    assert codes.profession_label("G15_60") == "infirmier"
    assert codes.profession_label("G15_00") == ""
