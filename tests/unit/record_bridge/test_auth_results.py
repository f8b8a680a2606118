"""The field by which the server tells the bridge who sent (RULES §4).

Source: RFC 8601 §2.2.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge.formats.auth_results import AuthResults, encode, names_authserv_id, parse

OURS = "mail.pli.test"


def value_of(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    assert name == b"Authentication-Results"
    return value


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(AuthResults(OURS), id="nothing known"),
        pytest.param(
            AuthResults(
                OURS, "CN=a,OU=1,O=CHU D'ÉVREUX,C=FR", "lab@chu.test", None, "pass", "l@c.test"
            ),
            id="operator",
        ),
        pytest.param(AuthResults(OURS, 'CN="a;b\\c=d%41"', "", None, "fail"), id="hostile DN"),
        pytest.param(AuthResults(OURS, None, None, "dr@cabinet.test", "policy"), id="submission"),
    ],
)
def test_what_was_written_is_read_back(results: AuthResults):
    assert results == parse([value_of(encode(results))], OURS)


@pytest.mark.parametrize(
    ("results", "field"),
    [
        pytest.param(
            AuthResults("Mail.Pli.test"),
            b"Authentication-Results: mail.pli.test;\r\n x-mssante=none;\r\n auth=none;\r\n"
            b" smime=none\r\n",
            id="nothing known",
        ),
        pytest.param(
            AuthResults(
                OURS, "CN=a,O=\u00c9t\u00e9 50%", "lab@chu.test", None, "pass", "l@c.test"
            ),
            b"Authentication-Results: mail.pli.test;\r\n"
            b' x-mssante=pass policy.operator="CN=a,O=%C3%89t%C3%A9 50%25"\r\n'
            b'  smtp.mailfrom="lab@chu.test";\r\n auth=none;\r\n smime=pass\r\n'
            b'  body.smime-identifier="l@c.test"\r\n',
            id="operator",
        ),
        pytest.param(
            AuthResults(OURS, submitter="dr@cabinet.test", smime="good"),
            b"Authentication-Results: mail.pli.test;\r\n x-mssante=none;\r\n"
            b' auth=pass smtp.auth="dr@cabinet.test";\r\n smime=neutral\r\n',
            id="submission, and no word of RFC 7281",
        ),
    ],
)
def test_the_field_is_written_as_other_readers_know_it(results: AuthResults, field: bytes):
    """RFC 8601 §2.2."""
    assert field == encode(results)


@pytest.mark.parametrize(
    ("value", "results"),
    [
        pytest.param(
            b'x-mssante=fail policy.operator="CN=x" smtp.mailfrom="a@b.test"',
            AuthResults(OURS),
            id="an operator that did not pass",
        ),
        pytest.param(
            b'x-mssante="pass" policy.operator="CN=x"', AuthResults(OURS), id="not the word pass"
        ),
        pytest.param(
            b'auth=fail smtp.auth="dr@b.test"', AuthResults(OURS), id="a login that did not pass"
        ),
        pytest.param(
            b'auth=pass policy.operator="CN=x"; x-mssante=pass smtp.auth="dr@b.test"',
            AuthResults(OURS),
            id="each method proves its own facts only",
        ),
        pytest.param(b"auth=pass", AuthResults(OURS), id="a login of nobody"),
        pytest.param(b"", AuthResults(OURS), id="nothing"),
        pytest.param(
            b"AUTH=Pass (as it was) SMTP.Auth=dr@b.test;;",
            AuthResults(OURS, submitter="dr@b.test"),
            id="other capitals, a comment, no quotes",
        ),
        pytest.param(
            rb'auth=pass smtp.auth="dr\"a\\b%40c.test"',
            AuthResults(OURS, submitter='dr"a\\b@c.test'),
            id="quoted pairs",
        ),
        pytest.param(
            b"smime=good body.smime-identifier=a@b.test",
            AuthResults(OURS, smime="neutral", signer="a@b.test"),
            id="no word of RFC 7281",
        ),
        pytest.param(b"auth;pass;smtp.auth", None, id="no pairs"),
        pytest.param(b"auth=pass smtp.auth;=;dr@b.test", None, id="pairs in pieces"),
        pytest.param(b"auth=pass smtp.auth dr@b.test x", None, id="words in threes"),
        pytest.param(b"auth=pass smtp.auth (a (b)) = dr@b.test", None, id="nested comments"),
    ],
)
def test_only_what_passed_is_believed(value: bytes, results: AuthResults | None):
    """RULES §4: the origin is what the server saw, and nothing that it did not."""
    assert results == parse([b" mail.pli.test;" + value], OURS)


def test_a_configured_name_in_capitals_is_the_same_server():
    assert parse([value_of(encode(AuthResults(OURS)))], "MAIL.pli.test") == AuthResults(OURS)


@pytest.mark.parametrize(("octets", "believed"), [(8192, True), (8193, False)])
def test_a_field_over_the_limit_is_cut_and_not_believed(octets: int, *, believed: bool):
    padded = value_of(encode(AuthResults(OURS))).strip().ljust(octets)
    stranger = b"evil.test;".ljust(octets)

    assert (parse([padded], OURS) is not None) is believed
    assert names_authserv_id(stranger, OURS) is not believed


texts = st.text(max_size=60).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t))


@given(texts, texts, texts)
def test_any_text_survives_and_adds_no_line(dn: str, sender: str, signer: str):
    written = AuthResults(OURS, dn, sender, None, "pass", signer)
    field = encode(written)

    assert written == parse([value_of(field)], OURS)
    assert all(line[:1] == b" " for line in field.split(b"\r\n")[1:-1])
    assert b"\n" not in field.replace(b"\r\n", b"")


def test_a_stranger_s_field_is_not_believed():
    assert parse([value_of(encode(AuthResults("evil.test", "CN=x")))], OURS) is None


def test_two_fields_with_our_name_are_believed_neither():
    field = value_of(encode(AuthResults(OURS, "CN=x")))

    assert parse([field, field], OURS) is None


def test_a_stranger_s_field_beside_ours_is_ignored():
    results = AuthResults(OURS, "CN=x", "a@b.test")
    values = [value_of(encode(AuthResults("evil.test", "CN=y"))), value_of(encode(results))]

    assert results == parse(values, OURS)


@pytest.mark.parametrize(
    "value",
    [
        b" mail.pli.test; auth=pass smtp.auth=a@b; auth=pass smtp.auth=c@d",
        b" mail.pli.test; auth=pass smtp.auth=a smtp.auth=b",
        b' mail.pli.test; auth=pass smtp.auth="a',
        b" mail.pli.test; auth=pass smtp.auth",
        b" mail.pli.test; auth pass",
        b" mail.pli.test; (" + b"x" * 9000 + b")",
    ],
)
def test_a_field_in_another_form_is_not_believed(value: bytes):
    assert parse([value], OURS) is None


@pytest.mark.parametrize(
    "value",
    [
        b"mail.pli.test; none",
        b" MAIL.pli.TEST ;x",
        b" (c) mail.pli.test 1; x",
        b' "mail.pli.test"; x',
        b"\r\n mail.pli.test/1; x",
        b" (a (c)) mail.pli.test;",
        b"\tmail.pli.test",
        b" (a \\) b) mail.pli.test; x",
        b" (a \\( b) mail.pli.test; x",
        b"(a)mail.pli.test(b)1; x",
    ],
)
def test_no_spelling_hides_our_name_from_the_cut(value: bytes):
    assert names_authserv_id(value, OURS)


def test_another_name_is_not_cut():
    assert not names_authserv_id(b" mail.pli.test.evil.test; auth=pass", OURS)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(value: bytes):
    parsed = parse([b" mail.pli.test;" + value], OURS)

    assert parsed is None or isinstance(parsed, AuthResults)
