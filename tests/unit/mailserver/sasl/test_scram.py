"""SCRAM against the published example, and against clients and men in the middle that lie.

The example of RFC 7677 §3 is the one official vector of SCRAM-SHA-256; the other proofs are made
by a client of the tests that derives its keys with ``hashlib`` alone. Source: RFC 5802 §5,
RFC 5802 §6, RFC 5929 §4.1.
"""

from base64 import b64decode, b64encode

import pytest

from mailserver.sasl.errors import ForbiddenError, MalformedError
from mailserver.sasl.scram import ITERATIONS, Scram, ScramKeys, derive, match
from mailserver.sasl.steps import Challenge, Channel, ScramClaim
from tests.support.scram import ScramClient

# RFC 7677 §3
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
OUR_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
BINDING = b"\x01" * 32


def scram(channel: Channel = Channel(), *, plus: bool = False) -> Scram:  # noqa: B008 - frozen
    return Scram(channel, plus=plus, nonce=OUR_NONCE, salt=lambda _login: SALT)


def keys(word: str = "pencil") -> ScramKeys:
    derived = derive(word, SALT)
    assert derived is not None
    return derived


def finished(exchange: Scram, client: ScramClient) -> ScramClaim:
    challenge = exchange.respond(client.first())
    assert isinstance(challenge, Challenge)
    claim = exchange.respond(client.final(challenge.octets))
    assert isinstance(claim, ScramClaim)
    return claim


def test_the_example_of_rfc_7677_is_spoken_to_the_letter() -> None:
    exchange = scram()

    assert exchange.respond(None) == Challenge(b"")
    assert exchange.respond(CLIENT_FIRST) == Challenge(SERVER_FIRST)
    claim = exchange.respond(CLIENT_FINAL)
    assert isinstance(claim, ScramClaim)
    assert claim.login == "user"
    assert match(claim, [keys("other"), keys()]) == (1, SERVER_FINAL)
    assert match(claim, [keys("other")]) is None
    assert match(claim, []) is None


def test_a_wrong_proof_of_the_example_fails_in_every_bit() -> None:
    exchange = scram()
    exchange.respond(CLIENT_FIRST)
    claim = exchange.respond(CLIENT_FINAL)
    assert isinstance(claim, ScramClaim)
    for bit in range(256):
        proof = bytearray(claim.proof)
        proof[bit // 8] ^= 1 << bit % 8
        assert match(ScramClaim("user", claim.message, bytes(proof)), [keys()]) is None


@pytest.mark.parametrize(
    ("secret", "usable"),
    [("abcd-efgh", True), (" !~", True), ("é" * 20, False), ("a\x7f", False), ("a\tb", False)],
)
def test_only_a_secret_that_saslprep_leaves_alone_has_keys(secret: str, usable: bool) -> None:  # noqa: FBT001
    assert (derive(secret, SALT) is not None) is usable
    assert "abcd" not in repr(derive("abcd", SALT))


@pytest.mark.parametrize("plus", [True, False])
def test_a_client_of_the_tests_gets_in_and_knows_the_server(plus: bool) -> None:  # noqa: FBT001
    channel = Channel(BINDING)
    client = ScramClient("dr@a.test", "pencil", BINDING if plus else None)

    found = match(finished(scram(channel, plus=plus), client), [keys()])
    assert found is not None
    client.check(found[1])


def test_a_comma_and_an_equals_sign_in_a_name_are_read() -> None:
    assert finished(scram(), ScramClient("a,b=c", "pencil")).login == "a,b=c"


def test_a_binding_to_another_certificate_is_refused() -> None:
    exchange = scram(Channel(BINDING), plus=True)
    client = ScramClient("dr", "pencil", b"\x02" * 32)
    challenge = exchange.respond(client.first())
    assert isinstance(challenge, Challenge)
    with pytest.raises(ForbiddenError):
        exchange.respond(client.final(challenge.octets))


def test_a_client_that_was_kept_from_seeing_plus_is_refused() -> None:
    with pytest.raises(ForbiddenError):
        scram(Channel(BINDING)).respond(b"y,,n=user,r=abc")
    assert isinstance(scram(Channel()).respond(b"y,,n=user,r=abc"), Challenge), "without TLS"


@pytest.mark.parametrize("flag", [b"n", b"y"])
def test_a_flag_changed_on_the_way_is_seen_in_the_last_message(flag: bytes) -> None:
    exchange = scram()
    client = ScramClient("dr", "pencil")
    first = client.first()
    challenge = exchange.respond({b"n": b"y", b"y": b"n"}[flag] + first[1:])
    assert isinstance(challenge, Challenge)
    client.flag = flag.decode()
    with pytest.raises(ForbiddenError):
        exchange.respond(client.final(challenge.octets))


@pytest.mark.parametrize("kind", [b"tls-unique", b"tls-exporter", b"TLS-SERVER-END-POINT"])
def test_another_kind_of_binding_is_refused(kind: bytes) -> None:
    with pytest.raises(ForbiddenError):
        scram(Channel(BINDING), plus=True).respond(b"p=" + kind + b",,n=user,r=abc")


def test_plus_without_tls_or_without_a_binding_is_refused() -> None:
    with pytest.raises(ForbiddenError):
        scram(plus=True).respond(b"p=tls-server-end-point,,n=user,r=abc")
    for flag in (b"n", b"y"):
        with pytest.raises(MalformedError):
            scram(Channel(BINDING), plus=True).respond(flag + b",,n=user,r=abc")
    with pytest.raises(MalformedError):
        scram(Channel(BINDING)).respond(b"p=tls-server-end-point,,n=user,r=abc")


def test_acting_as_somebody_else_is_forbidden() -> None:
    assert isinstance(scram().respond(b"n,a=user,n=user,r=abc"), Challenge)
    with pytest.raises(ForbiddenError):
        scram().respond(b"n,a=bob,n=user,r=abc")


@pytest.mark.parametrize(
    "first",
    [
        b"", b"n", b"n,,", b"n,,n=user", b"n,,r=abc", b"n,,n=,r=abc", b"n,,n=user,r=",
        b"n,,n=user,r=a,b", b"n,,m=x,n=user,r=abc", b"n,,n=us=er,r=abc", b"n,,n=us=2c,r=abc",
        b"z,,n=user,r=abc", b"n,n=user,r=abc", b"n,a=,n=user,r=abc", b"n,,r=abc,n=user",
        b"n,,n=\xff,r=abc", b"n,,n=us\0er,r=abc", b"n,,n=user,r=a\x7f", b"n,,n=user,r=\xc3\xa9",
        b"n,,n=" + b"u" * 256 + b",r=abc", b" n,,n=user,r=abc", b"n,,n=user,r=abc\n",
        b"p=,,n=user,r=abc", b"N,,n=user,r=abc",
    ],
)  # fmt: skip
def test_what_is_no_first_message_is_malformed(first: bytes) -> None:
    with pytest.raises(MalformedError):
        scram().respond(first)


def test_extensions_are_read_over_and_signed() -> None:
    exchange = scram()
    assert isinstance(exchange.respond(CLIENT_FIRST + b",x=y"), Challenge)
    final = CLIENT_FINAL.replace(b",p=", b",z=1,p=")
    claim = exchange.respond(final)
    assert isinstance(claim, ScramClaim)
    assert b",x=y," in claim.message
    assert claim.message.endswith(b",z=1")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"r=rOpr", b"r=xOpr", ForbiddenError),
        (b"%hvYD", b"%hvYE", ForbiddenError),
        (b"c=biws", b"c=eSws", ForbiddenError),
        (b"c=biws", b"c=*", MalformedError),
        (b"c=biws", b"c=biw", MalformedError),
        (b"c=biws,", b"", MalformedError),
        (b",p=", b",q=", MalformedError),
        (b"p=dHzb", b"p=", MalformedError),
        (b"ndVQ=", b"ndVR=", MalformedError),
        (b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", b"p=*", MalformedError),
        (b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", b"p=" + b64encode(b"x" * 33), MalformedError),
        (b"VQ=", b"VQ=\xff", MalformedError),
    ],
)  # fmt: skip
def test_a_last_message_that_does_not_fit_the_first_is_refused(
    old: bytes, new: bytes, error: type[Exception]
) -> None:
    exchange = scram()
    exchange.respond(CLIENT_FIRST)
    with pytest.raises(error):
        exchange.respond(CLIENT_FINAL.replace(old, new))


def test_a_name_nobody_has_is_challenged_like_any_other() -> None:
    known, unknown = scram().respond(CLIENT_FIRST), scram().respond(
        CLIENT_FIRST.replace(b"user", b"nobody")
    )  # fmt: skip
    assert known == unknown
    assert b",i=%d" % ITERATIONS in SERVER_FIRST
