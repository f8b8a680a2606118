"""Lets mail clients in, for IMAP and submission alike: an exchange, then its claim.

Invariants: only device passwords, recorded certificates and recorded subjects of the configured
identity provider open a mailbox (RULES §12); an unknown login and a wrong secret are the same
answer after the same work; every wrong login is counted, whatever the mechanism, and when too many
were wrong the claim is not looked at.

Source: RFC 4422 §3, RULES §12, threats S10.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from mailserver.fairness import Fairness
from mailserver.sasl.errors import ForbiddenError, MalformedError
from mailserver.sasl.offer import Offer
from mailserver.sasl.steps import (
    Attempt,
    CertificateClaim,
    Challenge,
    Channel,
    Claim,
    Outcome,
    PasswordClaim,
    ScramClaim,
    TokenClaim,
    decode_initial,
    decode_response,
    encode_challenge,
)
from mailserver.sasl.tokens import TokenIssuer
from mailserver.store.accounts import Accounts
from mailserver.store.model import Bearer, DeviceKind, Login

NONCE_OCTETS = 18
"""144 random bits, 24 characters of base64url."""

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge in base64 and gives the line that comes back."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A claim that holds; ``last`` proves us to the client, when its mechanism does that."""

    login: Login
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Authentication:
    """Who may log in.

    Args:
        accounts: the store's.
        fairness: counts wrong logins.
        tokens: the identity provider's, when the site has one.
    """

    accounts: Accounts
    fairness: Fairness
    tokens: TokenIssuer | None = None

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """Give what may be announced on a connection where secrets may be said."""
        return self._offer.names(channel)

    @property
    def _offer(self) -> Offer:
        return Offer(self.accounts.scram_salt, self.tokens is not None)

    async def log_in(self, attempt: Attempt, ask: Ask, at: datetime) -> Login | Outcome:
        """Hold an exchange.

        Args:
            attempt: what the client began with.
            ask: brings a challenge to the client and its answer back; both are base64.
            at: aware UTC now.

        Returns:
            What was opened, and to whom, or why nothing was.

        Raises:
            UnknownMechanismError: it is not offered here.
            AbortedError, MalformedError: the client cancelled, or sent what cannot be read.
        """
        nonce = secrets.token_urlsafe(NONCE_OCTETS)
        mechanism = self._offer.begin(attempt.mechanism, attempt.channel, nonce)
        initial = attempt.initial
        try:
            step = mechanism.respond(None if initial is None else decode_initial(initial))
            while isinstance(step, Challenge):
                line = await ask(encode_challenge(step.octets))
                step = mechanism.respond(decode_response(line))
        except ForbiddenError as forbidden:
            return self._refused(attempt.host, forbidden.login)
        return await self._judge(step, attempt.host, ask, at)

    async def check_password(
        self, claim: PasswordClaim, host: str, at: datetime
    ) -> Login | Outcome:
        """Judge a password that came without an exchange, as IMAP's LOGIN brings it."""
        return await self._judge(claim, host, _nothing_to_ask, at)

    async def _judge(self, claim: Claim, host: str, ask: Ask, at: datetime) -> Login | Outcome:
        if not self.fairness.may_log_in(host, claim.login):
            return Outcome.LATER
        granted = await self._check(claim, at)
        if granted is None:
            # Counted first: a client that hangs up instead of reading why has failed as well.
            refused = self._refused(host, claim.login)
            if claim.refusal:
                # What comes back says only that it was read. Source: RFC 7628 §3.2.3.
                await ask(encode_challenge(claim.refusal))
            return refused
        if granted.last and decode_response(await ask(encode_challenge(granted.last))):
            raise MalformedError
        self.fairness.logged_in(host, claim.login)
        return granted.login

    async def _check(self, claim: Claim, at: datetime) -> Granted | None:
        match claim:
            case PasswordClaim():
                login = await self.accounts.check_device(claim.login, claim.secret, at)
            case ScramClaim():
                found = await self.accounts.check_scram(claim, at)
                return None if found is None else Granted(*found)
            case CertificateClaim():
                bearer = Bearer(DeviceKind.CERTIFICATE, claim.fingerprint)
                login = await self.accounts.check_bearer(bearer, claim.login, at)
            case TokenClaim():
                login = await self._check_token(claim, at)
            case _:
                assert_never(claim)
        return None if login is None else Granted(login)

    async def _check_token(self, claim: TokenClaim, at: datetime) -> Login | None:
        if self.tokens is None:
            return None
        subject = self.tokens.subject(claim.token, at)
        if subject is None:
            return None
        bearer = subject_bearer(self.tokens.issuer, subject)
        return await self.accounts.check_bearer(bearer, claim.login, at)

    def _refused(self, host: str, login: str) -> Outcome:
        self.fairness.login_failed(host, login)
        return Outcome.REFUSED


def subject_bearer(issuer: str, subject: str) -> Bearer:
    """Give what a provider's subject is known by: its name counts only beside the provider's."""
    return Bearer(DeviceKind.SUBJECT, f"{issuer}\0{subject}")


async def _nothing_to_ask(_challenge: bytes) -> bytes:
    return b""
