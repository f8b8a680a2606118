"""The practice PKI of the tests, made once for each run, and messages signed under it."""

from datetime import UTC, datetime
from functools import cache

from certs.anchors import TrustAnchors
from certs.cms_sign import Signer
from certs.issue import Branch, Issued, KeyKind, PracticePki
from certs.smime import Trust, VerifyPolicy

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AUTHOR = "dr.zzcanary@cabinet.mssante.test"
ORGANISATION = "Cabinet ZZCANARY"
BODY = (
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"\r\n"
    b"Compte rendu joint.\r\n"
)


_practice = cache(lambda name: PracticePki.create(AT, name))


def practice(name: str = ORGANISATION) -> PracticePki:
    """One hierarchy; another name gives a foreign one."""
    return _practice(name)


@cache
def seal(
    address: str = AUTHOR, kind: KeyKind = KeyKind.EC_P256, name: str = ORGANISATION
) -> Issued:
    """A structure's seal for one address."""
    return practice(name).issue_seal(AT, address, ORGANISATION, key_kind=kind)


def signer(issued: Issued) -> Signer:
    """What ``certs.smime.sign`` takes."""
    return Signer.from_pem(issued.bundle, issued.key)


@cache
def anchors() -> TrustAnchors:
    """Root and intermediates of the site."""
    return TrustAnchors.from_pem(*(each.pem for each in practice().authorities.values()))


@cache
def crls() -> tuple[bytes, ...]:
    """A current list of every branch, that names nothing."""
    return tuple(practice().issue_crl(branch, AT) for branch in Branch)


def trust() -> Trust:
    """The lasting part of the policy."""
    return Trust(anchors(), crls())


def policy(at: datetime = AT, lists: tuple[bytes, ...] | None = None) -> VerifyPolicy:
    """The site's policy at an instant."""
    return VerifyPolicy(anchors(), crls() if lists is None else lists, at)


def message(author: str = AUTHOR, body: bytes = BODY) -> bytes:
    """A whole message by one author."""
    return (
        b"From: Dr ZZCANARY <" + author.encode() + b">\r\n"
        b"To: patient@patient.mssante.test\r\n"
        b"Subject: Compte rendu\r\n"
        b"Date: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
        b"Message-ID: <1@cabinet.mssante.test>\r\n" + body
    )
