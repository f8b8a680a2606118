"""What people read: dates in Paris, sizes, plurals."""

import ast
import re
from datetime import UTC, date, datetime

import pytest

from mailserver.webmail import text_fr
from mailserver.webmail.pages import HERE


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 7, 1, 22, 5, tzinfo=UTC), "2 juillet 2026 à 0 h 05"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "1er janvier 2027 à 0 h 30"),
        (datetime(2026, 6, 30, 22, 0, tzinfo=UTC), "1er juillet 2026"),
        (None, "date inconnue"),
    ],
)
def test_a_moment_is_said_in_paris(at, expected):
    assert text_fr.moment(at).replace("\u00a0", " ") == expected


def test_a_civil_day_is_said_in_both_forms_and_anything_else_as_it_is():
    assert text_fr.civil_day("19850314").replace("\u00a0", " ") == "14 mars 1985"
    assert text_fr.civil_day("1985-03-14").replace("\u00a0", " ") == "14 mars 1985"
    assert text_fr.civil_day("1985") == "1985"
    assert text_fr.short_month(date(2026, 8, 1)) == "août"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [(999, "999 octets"), (1000, "1 ko"), (12_400, "12 ko"), (1_440_000, "1,4 Mo")],
)
def test_a_size_is_said_for_people(octets, expected):
    assert text_fr.size(octets) == expected


@pytest.mark.parametrize(("count", "expected"), [(0, "0 mot"), (1, "1 mot"), (2, "2 mots")])
def test_none_and_one_are_singular_in_french(count, expected):
    assert text_fr.plural(count, "mot", "mots") == expected


def test_who_opened_a_record_is_never_more_than_a_kind_of_person():
    assert text_fr.actor("account:3", "account:3") == "Vous"
    assert text_fr.actor("account:4", "account:3") == "Le patient"  # as a parent reads it
    assert text_fr.actor("practitioner:1", "account:3") == "Un professionnel de la structure"
    assert text_fr.actor("cli:1000", "account:3") == "L'administration du site"


@pytest.mark.parametrize(
    ("subject", "own", "shown"),
    [
        (
            "XDM/1.0/DDM+CR d'examens biologiques PAT-TROIS DOMINIQUE 28/03/1979",
            "CR d'examens biologiques",
            "CR d'examens biologiques PAT-TROIS DOMINIQUE 28/03/1979",
        ),
        (
            "[Annule et remplace] XDM/1.0/DDM+Synthese medicale DURAND Camille 14/03/1985",
            "Synthèse médicale (remplace un envoi précédent)",
            "Synthèse médicale DURAND Camille 14/03/1985 (remplace un envoi précédent)",
        ),
        (
            "XDM/1.0/DDM+Lettre de liaison a la sortie d'un etabl DURAND Camille 14/03/1985",
            "Lettre de liaison à la sortie d'un établissement de soins",
            "Lettre de liaison à la sortie d'un établissement de soins DURAND Camille 14/03/1985",
        ),
        (
            "XDM/1.0/DDM+2 documents DE LA TOUR Jean-Paul 14/03/1985",
            "2 documents",
            "2 documents DE LA TOUR Jean-Paul 14/03/1985",
        ),
        ("XDM/1.0/DDM+", "Document de santé", "Document de santé"),
        ("XDM/1.0/DDM", "XDM/1.0/DDM", "XDM/1.0/DDM"),
        ("Bonjour", "Bonjour", "Bonjour"),
        ("", "", ""),
    ],
)
def test_a_subject_written_for_programs_becomes_a_title(subject, own, shown):
    assert text_fr.subject_title(subject, own=True) == own
    assert text_fr.subject_title(subject, own=False) == shown


@pytest.mark.parametrize(
    ("written", "spaced"),
    [
        ("Retour : accueil", "Retour\u00a0: accueil"),
        ("« déjà fait » ?", "«\u00a0déjà fait\u00a0»\u00a0?"),
        ("à 10:30 ; sinon", "à 10:30\u00a0; sinon"),
        ("C'est tout.", "C'est tout."),
    ],
)
def test_no_line_begins_with_a_sign(written: str, spaced: str) -> None:
    assert text_fr.spaced(written) == spaced


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [
        ("19790328", "birth_date", "28\u00a0mars 1979"),
        ("1979", "birth_date", "1979"),
        ("F", "sex", "Féminin"),
        ("99990", "birth_place", "99990"),
        ("", "sex", "absent"),
    ],
)
def test_a_trait_is_written_for_people(value: str, name: str, shown: str) -> None:
    assert text_fr.trait(value, name) == shown


@pytest.mark.parametrize("module", sorted(HERE.glob("*.py")), ids=lambda path: path.stem)
def test_a_sentence_in_python_keeps_its_signs_on_the_line_of_their_word(module):
    tree = ast.parse(module.read_text("utf-8"))
    comments = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in comments
    ]
    loose = re.compile(r"(^|\S) [:;?!»](\s|$)|« \w")
    assert [each for each in said if loose.search(each)] == []
