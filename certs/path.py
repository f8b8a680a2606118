"""Who vouches for a signer's certificate: build a path to an anchor, validate it, ask the CRLs.

RFC 5280 validation is pyhanko-certvalidator's; its coroutines never wait when they may fetch
nothing, so they are run to their end here without an event loop. What it leaves open is checked
here: the anchor's own validity, the algorithms permitted, and revocation (``certs.revocation``,
which is quicker on long lists). A validated path is kept in a bounded cache with the window in
which it holds, which depends on nothing but its certificates; revocation is asked each time.

Source: RFC 5280 §6.1, RFC 8550 §4, threat C9.
"""

from collections import OrderedDict, deque
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

from asn1crypto import algos, keys
from asn1crypto import x509 as asn1_x509
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.authority import CertTrustAnchor
from pyhanko_certvalidator.errors import (
    ExpiredError,
    NotYetValidError,
    ValidationError,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    NO_REVOCATION,
    AlgorithmUsageConstraint,
    AlgorithmUsagePolicy,
    CertRevTrustPolicy,
)
from pyhanko_certvalidator.validate import async_validate_path

from certs import policy, revocation
from certs.anchors import TrustAnchors
from certs.malformed import STRUCTURE
from certs.verdict import PathStatus, PathVerdict

_MAX_PATHS = 8  # cross-certified hierarchies have two or three
_MAX_STEPS = 64  # certificates looked at as issuers: a mesh of n has n! paths (threat C12)
_MAX_DEPTH = 8
_CACHED_PATHS = 512
_MAIL_USAGES = frozenset({"email_protection", "any_extended_key_usage"})
_SIGNING_USAGES = frozenset({"digital_signature", "non_repudiation"})
_ENCRYPTING_USAGES = frozenset({"key_encipherment"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a judgement of a path rests on.

    Attributes:
        anchors: whom the site trusts.
        crls: revocation lists, DER or PEM.
        at: aware UTC instant.
    """

    anchors: TrustAnchors
    crls: tuple[bytes, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class _Holds:
    """A validated path and the time in which all its certificates are valid."""

    chain: tuple[bytes, ...]
    not_before: datetime
    not_after: datetime


class _Permitted(AlgorithmUsagePolicy):
    """Only RSA and ECDSA of permitted sizes, over permitted digests."""

    def digest_algorithm_allowed(
        self,
        algo: algos.DigestAlgorithm,
        moment: datetime | None,  # noqa: ARG002 - the library's signature
    ) -> AlgorithmUsageConstraint:
        """Say whether a digest is permitted."""
        return AlgorithmUsageConstraint(algo["algorithm"].native in policy.DEFAULT.digests)

    def signature_algorithm_allowed(
        self,
        algo: algos.SignedDigestAlgorithm,
        moment: datetime | None,  # noqa: ARG002 - the library's signature
        public_key: keys.PublicKeyInfo | None,
    ) -> AlgorithmUsageConstraint:
        """Say whether a signature algorithm is permitted with this key."""
        return AlgorithmUsageConstraint(
            algo.signature_algo in {"rsassa_pkcs1v15", "rsassa_pss", "ecdsa"}
            and algo.hash_algo in policy.DEFAULT.digests
            and (public_key is None or _key_permitted(public_key))
        )


def _key_permitted(key: keys.PublicKeyInfo) -> bool:
    if key.algorithm in {"rsa", "rsassa_pss"}:
        # ``bit_size`` rounds up to whole octets.
        bits = key["public_key"].parsed["modulus"].native.bit_length()
        return bool(policy.DEFAULT.min_rsa_bits <= bits <= policy.DEFAULT.max_rsa_bits)
    return key.algorithm == "ec" and key.curve[1] in policy.DEFAULT.curves


_cache: OrderedDict[tuple[bytes, tuple[bytes, ...], TrustAnchors, frozenset[str]], _Holds] = (
    OrderedDict()
)


def judge_signer(leaf: bytes, others: tuple[bytes, ...], evidence: Evidence) -> PathVerdict:
    """Judge the path of a certificate that signs mail.

    Args:
        leaf: the signer's certificate, DER.
        others: certificates that came with the message, DER; trusted for nothing.
        evidence: anchors, lists and instant.

    Returns:
        The verdict; malformed certificates are UNTRUSTED.

    Source: RFC 5280 §6.1, RFC 8550 §4.4.2, RFC 8550 §4.4.4.
    """
    return _judge(leaf, others, evidence, _SIGNING_USAGES)


def judge_recipient(leaf: bytes, evidence: Evidence) -> PathVerdict:
    """Judge the path of a certificate for which mail is to be encrypted (threat C14).

    Source: RFC 5280 §4.2.1.3, RFC 8550 §4.4.2.
    """
    return _judge(leaf, (), evidence, _ENCRYPTING_USAGES)


def _judge(
    leaf: bytes, others: tuple[bytes, ...], evidence: Evidence, usages: frozenset[str]
) -> PathVerdict:
    at = evidence.at
    key = (leaf, others, evidence.anchors, usages)
    kept = _cache.get(key)
    if kept is not None and kept.not_before <= at <= kept.not_after:
        _cache.move_to_end(key)
        return revocation.judge(kept.chain, evidence.crls, at)
    try:
        if not _is_for_mail(asn1_x509.Certificate.load(leaf, strict=True), usages):
            return PathVerdict(PathStatus.UNTRUSTED, at)
        found = _run(_search(leaf, others, evidence))
    except STRUCTURE:
        return PathVerdict(PathStatus.UNTRUSTED, at)
    if isinstance(found, PathVerdict):
        return found
    _cache[key] = found
    if len(_cache) > _CACHED_PATHS:
        _cache.popitem(last=False)
    return revocation.judge(found.chain, evidence.crls, at)


async def _search(
    leaf: bytes, others: tuple[bytes, ...], evidence: Evidence
) -> _Holds | PathVerdict:
    """Try paths until one is valid; else give the most telling failure."""
    at = evidence.at
    certificate = asn1_x509.Certificate.load(leaf)
    roots, known = _site(evidence.anchors)
    context = ValidationContext(
        trust_roots=list(roots),
        other_certs=[],
        moment=at,
        best_signature_time=at,
        allow_fetching=False,
        revinfo_policy=CertRevTrustPolicy(NO_REVOCATION),
        algorithm_usage_policy=_Permitted(),
        time_tolerance=timedelta(0),
    )
    failure = PathVerdict(PathStatus.UNTRUSTED, at)
    for candidate in islice(_paths(certificate, roots, (*known, *_readable(others))), _MAX_PATHS):
        found = await _validate(context, candidate, at)
        if isinstance(found, _Holds):
            return found
        if failure.status is PathStatus.UNTRUSTED:
            failure = found
    return failure


def _paths(
    leaf: asn1_x509.Certificate,
    roots: Iterable[asn1_x509.Certificate],
    known: Iterable[asn1_x509.Certificate],
) -> Iterator[ValidationPath]:
    """Give candidate paths, shortest first, within a budget whatever the certificates.

    The library's own walker has no bound: seven authorities that certify each other hold it for
    minutes.

    Source: RFC 5280 §6.1, RFC 4158 §2.4.
    """
    anchors, issuers = _by_subject(roots), _by_subject(known)
    waiting: deque[tuple[asn1_x509.Certificate, ...]] = deque([(leaf,)])
    for _ in range(_MAX_STEPS):
        if not waiting:
            return
        chain = waiting.popleft()
        wanted = chain[-1].issuer.hashable
        for anchor in anchors.get(wanted, ()):
            if _may_have_issued(anchor, chain[-1]):
                yield ValidationPath(CertTrustAnchor(anchor), list(chain[:0:-1]), leaf)
        if len(chain) < _MAX_DEPTH:
            for issuer in issuers.get(wanted, ()):
                if issuer not in chain and _may_have_issued(issuer, chain[-1]):
                    waiting.append((*chain, issuer))


def _by_subject(
    certificates: Iterable[asn1_x509.Certificate],
) -> dict[str, list[asn1_x509.Certificate]]:
    index: dict[str, list[asn1_x509.Certificate]] = {}
    for each in certificates:
        index.setdefault(each.subject.hashable, []).append(each)
    return index


def _may_have_issued(issuer: asn1_x509.Certificate, subject: asn1_x509.Certificate) -> bool:
    """Whether the key identifiers, where both stand, agree; RFC 5280 §4.2.1.1."""
    wanted, held = subject.authority_key_identifier, issuer.key_identifier
    return wanted is None or held is None or wanted == held


async def _validate(
    context: ValidationContext, candidate: ValidationPath, at: datetime
) -> _Holds | PathVerdict:
    try:
        await async_validate_path(context, candidate)
    except ExpiredError as error:
        return PathVerdict(PathStatus.EXPIRED, at, _aware(error.expired_dt))
    except NotYetValidError as error:
        return PathVerdict(PathStatus.NOT_YET_VALID, at, _aware(error.valid_from))
    except (ValidationError, *STRUCTURE):
        return PathVerdict(PathStatus.UNTRUSTED, at)
    certificates: list[asn1_x509.Certificate] = list(candidate)
    if len(certificates) < 2:  # an anchor that signs mail itself has no issuer to answer for it
        return PathVerdict(PathStatus.UNTRUSTED, at)
    anchor = certificates[0]
    if at > anchor.not_valid_after:
        return PathVerdict(PathStatus.EXPIRED, at, anchor.not_valid_after)
    if at < anchor.not_valid_before:
        return PathVerdict(PathStatus.NOT_YET_VALID, at, anchor.not_valid_before)
    return _Holds(
        tuple(each.dump() for each in reversed(certificates)),
        max(each.not_valid_before for each in certificates),
        min(each.not_valid_after for each in certificates),
    )


def _is_for_mail(certificate: asn1_x509.Certificate, usages: frozenset[str]) -> bool:
    if not _key_permitted(certificate.public_key):
        return False
    usage = certificate.key_usage_value
    if usage is not None and not usages & usage.native:
        return False
    extended = certificate.extended_key_usage_value
    return extended is None or bool(_MAIL_USAGES & set(extended.native))


@lru_cache(maxsize=8)
def _site(
    anchors: TrustAnchors,
) -> tuple[tuple[asn1_x509.Certificate, ...], tuple[asn1_x509.Certificate, ...]]:
    return tuple(_readable(anchors.roots)), tuple(_readable(anchors.intermediates))


def _readable(ders: Iterable[bytes]) -> list[asn1_x509.Certificate]:
    """The certificates that can be parsed; the path builder would stumble over the others."""
    readable: list[asn1_x509.Certificate] = []
    for der in ders:
        try:
            certificate = asn1_x509.Certificate.load(der, strict=True)
            _ = certificate.native
            _ = (certificate.key_identifier, certificate.authority_key_identifier)
        except STRUCTURE:
            continue
        readable.append(certificate)
    return readable


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _run(coroutine: Coroutine[Any, None, _Holds | PathVerdict]) -> _Holds | PathVerdict:
    """Run a coroutine that never waits; the Any is what it would yield."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        found: _Holds | PathVerdict = stop.value
        return found
    coroutine.close()
    raise NotImplementedError
