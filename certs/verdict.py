"""Verdicts on a signature and on its certificate path: values, never exceptions.

Four facts are kept apart, because people must be told which one failed: *intact* (the content
is what was signed), *valid* (the signature holds under a permitted algorithm), the *path* (who
vouches for the signer, judged at reception), and *matches_from* (the signer is the author that
the message shows). ``good`` needs all four.

Source: RFC 8551 §3.5.3, RFC 8601 §2.7, RFC 7281 §3, RFC 5652 §5.6.
"""

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self


class Standing(enum.Enum):
    """Whether a certificate that was verified in the handshake would still be."""

    GOOD = "good"
    OVER = "over"
    """Revoked since, or past its time."""
    UNKNOWN = "unknown"
    """No revocation list of its issuer is current: unknown is not good."""


class PathStatus(enum.Enum):
    """What the certificate path says at one instant."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REVOKED = "revoked"
    REVOCATION_UNKNOWN = "revocation_unknown"
    NOT_CHECKED = "not_checked"


class Reason(enum.Enum):
    """The first thing that kept a signature from being good; texts for people live elsewhere."""

    CONTENT_ALTERED = "content_altered"
    SIGNATURE_WRONG = "signature_wrong"
    MALFORMED = "malformed"
    NO_SIGNER = "no_signer"
    TOO_MANY = "too_many"
    EMBEDDED_CONTENT = "embedded_content"
    ATTRIBUTES = "attributes"
    ALGORITHM = "algorithm"
    WEAK_KEY = "weak_key"
    NO_CERTIFICATE = "no_certificate"
    WRONG_USAGE = "wrong_usage"
    SIGNER_NOT_FROM = "signer_not_from"
    FROM_AMBIGUOUS = "from_ambiguous"
    PATH = "path"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class PathVerdict:
    """What one certificate path says.

    Attributes:
        status: the outcome.
        at: the instant it was judged at; None when it was not.
        event_at: when the certificate expired, becomes valid or was revoked, as the status says.
    """

    status: PathStatus
    at: datetime | None = None
    event_at: datetime | None = None

    @property
    def trusted(self) -> bool:
        """The path holds and every certificate of it is known not to be revoked."""
        return self.status is PathStatus.TRUSTED


NOT_CHECKED = PathVerdict(PathStatus.NOT_CHECKED)


@dataclass(frozen=True, slots=True)
class SignatureVerdict:
    """What the signature of one whole message says.

    Attributes:
        present: the outermost structure of the message is a signature.
        intact: the content's digest is the signed one, for every signer.
        valid: every signature verifies, under permitted algorithms and keys.
        path: the worst path among the signers.
        matches_from: every signer's rfc822Name is the one address of the one From field.
        signer_names: rfc822Names of the first signer's certificate.
        signer_dn: its subject, in the trust list's form.
        signer_serial: its serial number, upper-case hexadecimal.
        signer_issuer: its issuer, in the trust list's form.
        reason: the first thing wrong; None when good or absent.
        unreadable: the signature could not be judged here (its reader was stopped).
    """

    present: bool
    intact: bool = False
    valid: bool = False
    path: PathVerdict = NOT_CHECKED
    matches_from: bool = False
    signer_names: tuple[str, ...] = ()
    signer_dn: str = ""
    signer_serial: str = ""
    signer_issuer: str = ""
    reason: Reason | None = None
    unreadable: bool = False

    @property
    def good(self) -> bool:
        """Intact, valid, trusted and by the author shown."""
        return self.intact and self.valid and self.path.trusted and self.matches_from

    @property
    def result(self) -> str:
        """The ``smime`` result of Authentication-Results.

        Source: RFC 7281 §3.1, RFC 8601 §2.7.1.
        """
        if self.unreadable:
            return "temperror"
        if not self.present:
            return "none"
        if self.good:
            return "pass"
        sound = self.intact and self.valid and self.matches_from
        if sound and self.path.status is not PathStatus.REVOKED:
            return "policy"
        return "fail"

    def to_json(self) -> str:
        """Encode the verdict, compactly, for storage."""
        fields = {
            "present": self.present,
            "intact": self.intact,
            "valid": self.valid,
            "path": self.path.status.value,
            "path_at": _encode_at(self.path.at),
            "path_event_at": _encode_at(self.path.event_at),
            "matches_from": self.matches_from,
            "signer_names": list(self.signer_names),
            "signer_dn": self.signer_dn,
            "signer_serial": self.signer_serial,
            "signer_issuer": self.signer_issuer,
            "reason": self.reason.value if self.reason else None,
            "unreadable": self.unreadable,
        }
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Decode what ``to_json`` wrote.

        Raises:
            ValueError: the text is not a stored verdict (also KeyError for a missing field).
        """
        fields = json.loads(text)
        return cls(
            present=fields["present"],
            intact=fields["intact"],
            valid=fields["valid"],
            path=PathVerdict(
                PathStatus(fields["path"]),
                _decode_at(fields["path_at"]),
                _decode_at(fields["path_event_at"]),
            ),
            matches_from=fields["matches_from"],
            signer_names=tuple(fields["signer_names"]),
            signer_dn=fields["signer_dn"],
            signer_serial=fields["signer_serial"],
            signer_issuer=fields["signer_issuer"],
            reason=Reason(fields["reason"]) if fields["reason"] else None,
            unreadable=fields["unreadable"],
        )


NO_SIGNATURE = SignatureVerdict(present=False)
UNREADABLE_SIGNATURE = SignatureVerdict(
    present=True, reason=Reason.UNREADABLE, unreadable=True
)  # what a caller records when the worker that judged the signature was stopped


def _encode_at(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat() if at else None


def _decode_at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
