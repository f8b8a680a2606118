"""What a document is found by, and what is asked for."""

from datetime import UTC, datetime

import pytest

from record_bridge.search_words import (
    INSIDE,
    LONG,
    MAX_ASKED,
    MAX_OTHERS,
    MAX_TITLE,
    MAX_WORD,
    Described,
    asked,
    kept,
    matches,
    tokens,
)

AT = datetime(2026, 3, 11, 23, 30, tzinfo=UTC)  # the 12th in Paris


def described(title: str = "", **changes: object) -> Described:
    values = {"title": title, "type_code": "none", "author": "", "custodian": "", "at": AT}
    return Described(**(values | changes))  # type: ignore[arg-type]


def finds(words: str, document: Described) -> bool:
    """Say it naively: each asked word begins a token."""
    found = tokens(document)
    return all(any(token.startswith(word) for token in found) for word in asked(words))


@pytest.mark.parametrize(
    "words",
    [
        "echographie", "ÉCHOGRAPHIE", "Écho", "e\u0301cho", "écho cœur", "coeur écho", "l'écho",
        "échographie du cœur", "graphie", "COEU", "biologiques", "cr d'examens", "Lœwe", "elise",
        "labo", "mars 2026", "12/03/2026", "2026-03-12", "12.3.2026", "12 mars 2026", "03/2026",
        "2026", "mars", "bilan-2025", "20 avril 2024", "avril 2024", "20/04/2024", "2024-04",
        "écho 2026 élise",
    ],
)  # fmt: skip
def test_what_finds_a_document(words: str) -> None:
    document = described(
        "Échographie du cœur (bilan-2025, suite du 20 avril 2024)",
        type_code="11502-2",
        author="Dr Élise LŒWE",
        custodian="Laboratoire",
    )

    assert finds(words, document)


@pytest.mark.parametrize(
    "words", ["11/03/2026", "avril 2026", "2023", "cardio", "aphie", "20/03/2024", "écho rein"]
)
def test_what_does_not(words: str) -> None:
    assert not finds(words, described("Échographie du cœur, suite du 20 avril 2024"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  -- ", ()),
        ("de la thyroïde", ("thyroide",)),
        ("De la", ("de", "la")),
        ("le 12/03/2026", ("=20260312",)),
        ("31/02/2020", ("31", "02", "2020")),
        ("2026-13", ("2026", "13")),
        ("covid covid-19", ("covid", "19")),
        ("=20260312", ("20260312",)),
        ("a" * (MAX_WORD + 1), ("a" * MAX_WORD,)),
        (
            " ".join(f"x{n}" for n in range(MAX_ASKED + 1)),
            tuple(f"x{n}" for n in range(MAX_ASKED)),
        ),
    ],
)
def test_what_is_asked_for(text: str, expected: tuple[str, ...]) -> None:
    assert asked(text) == expected


def test_a_stranger_s_texts_fill_no_more_than_their_share() -> None:
    many = " ".join(f"x{n}" for n in range(1000))

    found = tokens(
        described(many, author=many.replace("x", "y"), custodian=many.replace("x", "z"))
    )

    assert [token for token in found if token[0] == "x"] == [f"x{n}" for n in range(MAX_TITLE)]
    assert sum(token[0] == "y" for token in found) == MAX_OTHERS
    assert sum(token[0] == "z" for token in found) == MAX_OTHERS
    dates = " ".join(f"{day}/01/2020" for day in range(1, 29)) + " 01/01/2021" * 50
    assert sum(token.startswith("=") for token in tokens(described(dates * 4))) <= MAX_TITLE + 1


def test_long_words_are_cut_and_found_by_their_inside() -> None:
    long, short = "b" * LONG, "c" * (LONG - 1)
    found = tokens(described(f"{long} {short} {'1' * LONG} {'d' * (MAX_WORD + 1)}"))

    assert [t for t in found if t[0] == "b"] == ["b" * LONG, "b" * (LONG - 2), "b" * INSIDE]
    assert [t for t in found if t[0] == "c"] == [short]
    assert [t for t in found if t[0] == "1"] == ["1" * LONG]
    assert max(map(len, found)) == MAX_WORD


def test_tokens_are_one_column_without_doubles_or_quotes() -> None:
    column = kept(described('Bilan "bilan" \\ Bilan\tbilan'))

    assert column == " bilan mars 2026 =20260312"


@pytest.mark.parametrize("year", [1, 9999])
def test_a_day_at_an_end_of_time_is_no_trouble(year: int) -> None:
    at = (
        datetime(year, 1, 1, tzinfo=UTC)
        if year == 1
        else datetime(year, 12, 31, 23, 30, tzinfo=UTC)
    )

    assert tokens(described("Bilan", at=at))[0] == "bilan"


def test_another_text_is_matched_by_the_same_words() -> None:
    assert matches(asked("cardi"), "Contrôle cardiaque")
    assert matches(asked("controle graphie"), "Contrôle d'échographie")
    assert not matches(asked("contrôle rein"), "Contrôle cardiaque")
