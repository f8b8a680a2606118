"""SASL on any octets.

A response ends in a challenge, a claim or one of the package's errors; nothing else happens.
No response of a stranger makes a claim with a name that is empty where one is needed, or too long.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.sasl.errors import SaslError
from mailserver.sasl.offer import Offer
from mailserver.sasl.steps import (
    NAME_OCTETS,
    Challenge,
    Channel,
    PasswordClaim,
    ScramClaim,
    decode_initial,
    decode_response,
)
from mailserver.sasl.tokens import TokenIssuer

OFFER = Offer(lambda _login: b"s" * 16, tokens=True)
CHANNEL = Channel(b"b" * 32, "f" * 64)
PIECES = st.lists(
    st.sampled_from(
        [b"n,,", b"y,,", b"p=tls-server-end-point,,", b"n=a", b",", b"r=", b"abc", b"\0", b"\x01",
         b"auth=Bearer ", b"user=", b"c=", b"biws", b"p=", b"=2C", b"=", b"\xff", b"a@b.test"]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(OFFER.names(CHANNEL)),
    st.lists(st.one_of(st.none(), PIECES, st.binary(max_size=60)), min_size=1, max_size=4),
)
def test_any_exchange_ends_as_it_may(mechanism: str, responses: list[bytes | None]) -> None:
    exchange = OFFER.begin(mechanism, CHANNEL, "nonce")
    for response in responses:
        try:
            step = exchange.respond(response)
        except SaslError:
            return
        if isinstance(step, Challenge):
            continue
        assert len(step.login.encode()) <= NAME_OCTETS
        if isinstance(step, PasswordClaim | ScramClaim):
            assert step.login
        return


@given(st.binary(max_size=100))
def test_any_line_is_decoded_or_refused(line: bytes) -> None:
    for decode in (decode_initial, decode_response):
        try:
            decode(line)
        except SaslError:
            continue


@given(
    st.one_of(
        st.text(max_size=200), st.from_regex(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
    )
)
def test_no_text_is_a_token(token: str) -> None:
    issuer = TokenIssuer("i", "a", "ES256", lambda _signature, _signed: None)
    from datetime import UTC, datetime

    assert issuer.subject(token, datetime(2026, 1, 1, tzinfo=UTC)) is None
