"""What leaves the trust space is fixed, and goes only where a person may be written to.

Source: RULES §14, RFC 3834 §5.
"""

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from itertools import product

import pytest

from mailserver.notify.texts import (
    ALPHABET,
    CODE_SIGNS,
    GIVE_UP_AFTER,
    MAX_ADDRESS,
    Letter,
    Letterhead,
    News,
    NotPersonalAddressError,
    announcement,
    code_digest,
    code_of,
    confirmation,
    encode,
    is_over,
    next_try,
    notification,
    personal_address,
    reminder_id,
)

AT = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)
HEAD = Letterhead("prevenir@operateur.example", "https://pli.example/")


@pytest.mark.parametrize(
    ("news", "expected"),
    [
        (
            News(messages=1),
            (
                "Vous avez un nouveau message dans votre messagerie de santé. "
                "Connectez-vous pour le lire."
            ),
        ),
        (
            News(messages=2),
            (
                "Vous avez de nouveaux messages dans votre messagerie de santé. "
                "Connectez-vous pour les lire."
            ),
        ),
        (
            News(documents=1),
            (
                "Vous avez un nouveau document dans votre dossier de santé. "
                "Connectez-vous pour le lire."
            ),
        ),
        (
            News(1, 1),
            (
                "Vous avez un nouveau message dans votre messagerie de santé et un nouveau document "
                "dans votre dossier de santé. Connectez-vous pour les lire."
            ),
        ),
    ],
    ids=["one message", "messages", "one document", "both"],
)
def test_the_sentence_says_what_kind_of_thing_is_new(news, expected):
    assert announcement(news) == expected


def test_there_are_eight_sentences_and_a_ninth_whatever_the_numbers():
    """Nothing that varies with what came leaves, not even how much of it."""
    many = {
        announcement(News(messages, documents, reminder))
        for messages, documents, reminder in product(range(50), range(50), (False, True))
        if messages or documents or reminder
    }
    sentences = {line for each in many for line in each.split("\n")}

    assert len(many) == 17
    assert len(sentences) == 9
    assert not any(re.search(r"\d", each) for each in many)


def test_a_reminder_says_that_there_is_one_and_nothing_else():
    assert announcement(News(reminder=True)) == (
        "Votre agenda de santé a un rappel. Connectez-vous pour le lire."
    )
    assert announcement(News(1, 0, reminder=True)) == (
        f"{announcement(News(1))}\n{announcement(News(reminder=True))}"
    )


def test_the_reminder_of_a_day_is_one_message_and_says_nothing_of_whose_it_is():
    day = AT.date()
    names = {
        reminder_id(head, mailbox, each)
        for head in (HEAD, Letterhead(HEAD.sender, "https://autre.example/"))
        for mailbox in (1, 12)
        for each in (day, day + timedelta(days=1))
    }

    assert len(names) == 8
    assert reminder_id(HEAD, 1, day) == reminder_id(HEAD, 1, day)
    assert all(re.fullmatch("[0-9a-f]{32}", name) for name in names)


def test_nothing_new_is_not_announced():
    assert not News()
    with pytest.raises(ValueError, match="nothing"):
        announcement(News())


def test_a_message_on_the_wire_has_fixed_headers_and_no_program_answers_it():
    text = notification(News(1), HEAD)
    raw = encode(Letter("zz@ailleurs.example", "Sujet fixe", text, "0" * 32, AT), HEAD)
    read = message_from_bytes(raw, policy=policy.default)

    assert {name.lower() for name in read} == {
        "from", "to", "subject", "date", "message-id", "auto-submitted", "content-type",
        "content-transfer-encoding", "mime-version",
    }  # fmt: skip
    assert read["auto-submitted"] == "auto-generated"
    assert read["message-id"] == f"<{'0' * 32}@operateur.example>"
    assert read.get_content().replace("\r\n", "\n") == text
    assert re.findall(r"https?://\S+", text) == ["https://pli.example/"]
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert raw.isascii()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (" Camille.Z@Ailleurs.EXAMPLE ", "Camille.Z@ailleurs.example"),
        ("a+b@a.b.example", "a+b@a.b.example"),
        ("é@ailleurs.example", None),
        ("a@localhost", None),
        ("a@[192.0.2.1]", None),
        ("a@192.0.2.1", None),
        ('"a b"@ailleurs.example', None),
        ("a@ailleurs.example, b@ailleurs.example", None),
        ("a@ailleurs.example\r\nBcc: b@ailleurs.example", None),
        ("A <a@ailleurs.example>", None),
        ("", None),
        ("ailleurs.example", None),
        ("dr@cabinet.mssante.fr", None),
        ("279035121518989@patient.mssante.fr", None),
        ("a@hosted.example", None),
        ("a@below.hosted.example", None),
        ("a@nothosted.example", "a@nothosted.example"),
    ],
)
def test_an_address_is_one_person_s_outside_the_trust_space(given, expected):
    if expected is None:
        with pytest.raises(NotPersonalAddressError):
            personal_address(given, {"hosted.example"})
    else:
        assert personal_address(given, {"hosted.example"}) == expected


@pytest.mark.parametrize(
    ("octets", "taken"), [(MAX_ADDRESS, True), (MAX_ADDRESS + 1, False), (900, False)]
)
def test_an_address_has_at_most_254_octets(octets, taken):
    rest = octets - len("a@.example")
    labels = [("a" * 49 + ".") * 20][0][: rest - 1] + "b"
    address = f"a@{labels}.example"
    assert len(address) == octets
    if taken:
        assert personal_address(address) == address
    else:
        with pytest.raises(NotPersonalAddressError):
            personal_address(address)


def test_a_code_is_read_however_it_is_spaced_and_only_itself():
    code = code_of(bytes(range(CODE_SIGNS)))

    assert len(code) == CODE_SIGNS
    assert set(code) <= set(ALPHABET)
    assert 256 % len(ALPHABET) == 0, "each sign is as likely"
    assert code_digest(f" {code[:5].lower()}-{code[5:]} ") == code_digest(code)
    assert code_digest(code[:-1] + "Z") != code_digest(code)
    assert f"{code[:5]} {code[5:]}" in confirmation(code, HEAD)


def test_retries_grow_and_end_after_a_day():
    waits = [(next_try(AT, attempts) - AT).total_seconds() for attempts in range(1, 7)]

    assert waits == [60, 300, 900, 3600, 3600, 3600]
    assert not is_over(None, AT)
    assert not is_over(AT, AT + GIVE_UP_AFTER - timedelta(microseconds=1))
    assert is_over(AT, AT + GIVE_UP_AFTER)
