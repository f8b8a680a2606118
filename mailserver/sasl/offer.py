"""Which mechanisms a connection may use, and how each begins; one table.

Invariant: what is announced works, and what is not announced cannot be begun. All of it is asked
only where a password may be said: under TLS, or from an address that the site trusts.

Source: RFC 4422 §3.2, RFC 5802 §6, RFC 7677 §4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mailserver.sasl.bearers import External, OAuthBearer, XOAuth2
from mailserver.sasl.errors import UnknownMechanismError
from mailserver.sasl.passwords import Login, Plain
from mailserver.sasl.scram import Scram
from mailserver.sasl.steps import Channel, Mechanism

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"


@dataclass(frozen=True, slots=True)
class Offer:
    """What a site can check.

    Args:
        salt: gives the salt of a name, known or not.
        tokens: an identity provider is known.
    """

    salt: Callable[[str], bytes]
    tokens: bool

    def names(self, channel: Channel) -> tuple[str, ...]:
        """Give what this connection may use, the strongest first."""
        found = [SCRAM_PLUS] if channel.binding is not None else []
        found.append(SCRAM)
        if channel.fingerprint is not None:
            found.append("EXTERNAL")
        if self.tokens:
            found += ["OAUTHBEARER", "XOAUTH2"]
        return (*found, "PLAIN", "LOGIN")

    def begin(self, mechanism: str, channel: Channel, nonce: str) -> Mechanism:
        """Begin an exchange.

        Args:
            mechanism: its name, upper case.
            channel: of the connection.
            nonce: random, printable, without a comma; used by those that need one.

        Raises:
            UnknownMechanismError: it is not among ``names``.
        """
        if mechanism not in self.names(channel):
            raise UnknownMechanismError
        match mechanism:
            case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS":
                plus = mechanism == SCRAM_PLUS
                return Scram(channel, plus=plus, nonce=nonce, salt=self.salt)
            case "EXTERNAL":
                return External(channel)
            case "OAUTHBEARER":
                return OAuthBearer()
            case "XOAUTH2":
                return XOAuth2()
            case "LOGIN":
                return Login()
            case _:
                return Plain()
