"""What is sought and what is searched are folded alike; a message gives the text that people see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.mime import scan
from mailserver.message.search_text import (
    BREAK,
    MAX_BODY,
    MAX_HEADER,
    MAX_PART,
    fold,
    header_field_has,
    search_text,
    trigrams,
)

LETTER = (
    "From: =?utf-8?Q?Zo=C3=A9_L=C5=93uillet?= <zoe@x.test>\r\n"
    "Subject: Compte rendu\r\n d'hospitalisation\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    "L’hôpital\r\na reçu  l'œuf.\r\n"
).encode()


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        pytest.param("TROPONINE", "troponine", id="case"),
        pytest.param("Hépatite À ç Ñ", "hepatite a c n", id="accents"),
        pytest.param("e\u0301te\u0301", "ete", id="accents written apart"),
        pytest.param("ŒDÈME, cœur, Æther", "oedeme, coeur, aether", id="ligatures"),
        pytest.param("\ufb01bre e\ufb03cace", "fibre efficace", id="typographic ligatures"),
        pytest.param("l’hôpital d‘Aix", "l'hopital d'aix", id="apostrophes"),
        pytest.param("a\r\n\t b\u00a0c\u202fd", "a b c d", id="blanks of every kind"),
        pytest.param("Straße STRASSE", "strasse strasse", id="sharp s"),
        pytest.param("x²", "x2", id="compatibility forms"),
        pytest.param("İstanbul", "istanbul", id="dotted capital i"),
        pytest.param("médi\u00adca\u200bment", "medicament", id="what no eye sees"),
        pytest.param(f"a{BREAK}b\x00c", "a b c", id="our own break"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_folding_makes_one_of_what_people_write_in_several_ways(written, folded):
    assert fold(written) == folded


@given(st.text())
def test_what_is_folded_stays_as_it_is(text):
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.text(), st.text())
def test_a_part_cut_at_blanks_is_found_in_the_whole(before, part, after):
    assert fold(f" {part} ").strip() in fold(f"{before} {part} {after}")


@given(st.text())
def test_no_folded_text_holds_the_break(text):
    assert BREAK not in fold(text)


@pytest.mark.parametrize(
    ("needle", "runs"),
    [
        pytest.param("", (), id="nothing"),
        pytest.param("ab", (), id="one under"),
        pytest.param("abc", ("abc",), id="three"),
        pytest.param("abcd", ("abc", "bcd"), id="four"),
        pytest.param("aaaaaa", ("aaa",), id="each once"),
    ],
)
def test_trigrams_are_the_runs_of_three(needle, runs):
    assert trigrams(needle) == runs


def test_a_message_gives_its_decoded_header_and_text():
    text = search_text(LETTER, scan(LETTER))

    assert text.whole
    assert text.header == (
        f"{BREAK}from: zoe loeuillet <zoe@x.test>"
        f"{BREAK}subject: compte rendu d'hospitalisation"
        f"{BREAK}content-type: text/plain; charset=utf-8"
    )
    assert "l'hopital a recu l'oeuf." in text.body


@pytest.mark.parametrize(
    ("name", "needle", "found"),
    [
        pytest.param("subject", "rendu d'hosp", True, id="over a folded line"),
        pytest.param("subject", "zoe", False, id="in another field"),
        pytest.param("from", "zoe", True, id="decoded"),
        pytest.param("from", "", True, id="is there"),
        pytest.param("to", "", False, id="is not there"),
        pytest.param("sub", "compte", False, id="part of a name"),
        pytest.param("subject", "subject", False, id="the name is not the value"),
    ],
)
def test_a_field_is_looked_at_by_its_name(name, needle, found):
    assert header_field_has(search_text(LETTER, scan(LETTER)).header, name, needle) is found


def test_no_needle_is_found_across_two_parts():
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nleft\r\n"
        b"--b\r\n\r\nright\r\n--b--\r\n"
    )

    text = search_text(raw, scan(raw))

    assert BREAK in text.body
    assert "left right" not in text.body
    assert fold(f"left{BREAK}right") not in text.body


def test_the_header_of_an_enclosed_message_is_part_of_the_body():
    inner = b"Subject: =?utf-8?Q?Enclos=C3=A9?=\r\n\r\nText\r\n"
    raw = b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\n" + inner

    text = search_text(raw, scan(raw))

    assert "enclose" in text.body
    assert "enclose" not in text.header


def test_what_was_read_of_attachments_is_folded_in():
    assert "creatinine" in search_text(LETTER, scan(LETTER), ["Créatinine"]).body


@pytest.mark.parametrize(
    ("octets", "whole"),
    [
        pytest.param(MAX_BODY, True, id="at the limit"),
        pytest.param(MAX_BODY + 1, False, id="one over"),
        pytest.param(MAX_BODY * 4, False, id="far over"),
    ],
)
def test_a_body_over_the_limit_is_cut_and_says_so(octets, whole):
    raw = b"Subject: x\r\n\r\n" + b"a" * octets

    text = search_text(raw, scan(raw))

    assert text.whole is whole
    assert len(text.body) == MAX_BODY


@pytest.mark.parametrize(
    ("octets", "whole"),
    [
        pytest.param(MAX_PART, True, id="at the limit"),
        pytest.param(MAX_PART + 1, False, id="one over"),
        pytest.param(MAX_PART * 3, False, id="far over"),
    ],
)
def test_a_part_of_more_octets_than_are_read_is_cut_at_a_line_end_and_says_so(octets, whole):
    head, last = "été\r\n".encode(), "é\r\n".encode()
    body = head + b" " * (octets - len(head) - len(last)) + last
    raw = b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + body

    text = search_text(raw, scan(raw))

    assert text.whole is whole
    assert text.body == ("ete e " if whole else "ete ")


def test_a_part_that_finds_no_room_left_makes_the_text_less_than_whole():
    raw = b"Subject: x\r\n\r\n" + b"a" * MAX_BODY

    assert not search_text(raw, scan(raw), ["more"]).whole
    assert search_text(raw, scan(raw), [""]).whole


@pytest.mark.parametrize("octets", [MAX_HEADER, MAX_HEADER * 3])
def test_a_header_over_the_limit_is_cut_and_says_so(octets):
    raw = b"Subject: " + b"a" * octets + b"\r\n\r\nbody\r\n"

    text = search_text(raw, scan(raw))

    assert not text.whole
    assert len(text.header) == MAX_HEADER
