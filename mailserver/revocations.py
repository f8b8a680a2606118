"""Keep the TLS contexts in use up with the revocation lists in the site's PKI directory.

Invariants: a list that cannot be read, is signed by nobody the site knows, or goes back in its
numbers is never given to a context, and is told once, by the name of its file; what a context was
given stays until its time is over, and then every certificate of that issuer is unknown, which is
not good. That an issuing authority itself ran out or was revoked is told once too: then everybody
it vouches for is refused.

Source: RFC 5280 §6.3, MSS-OP §3.1.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from ssl import SSLContext

import structlog
from cryptography import x509

from certs.anchors import TrustAnchors
from certs.crl_cache import CrlCache
from certs.keystore import KeyStore
from certs.tls import add_crls, anchors_over

log = structlog.get_logger("mailserver.revocations")

LOOK_EVERY_S = 30.0


class Revocations:
    """What the listeners and the queue know of revocations.

    Args:
        keystore: whose directory holds the lists.
        authorities: bundles of who may vouch for operators and mail clients, and so may sign
            such a list.
        contexts: to be kept up.
        clock: now.
    """

    def __init__(
        self,
        keystore: KeyStore,
        authorities: Iterable[Path],
        contexts: Iterable[SSLContext],
        clock: Callable[[], datetime],
    ) -> None:
        bundles = b"".join(path.read_bytes() for path in authorities)
        anchors = TrustAnchors.from_pem(keystore.root.read_bytes(), bundles)
        known = keystore.anchors()
        self._lists = CrlCache(
            keystore.crls,
            anchors=TrustAnchors(anchors.roots, anchors.intermediates + known.intermediates),
        )
        self._contexts = tuple(contexts)
        self._clock = clock
        self._refused: frozenset[object] = frozenset()
        self._over = 0
        self._given: frozenset[bytes] = frozenset()

    async def renew(self) -> bool:
        """Give the contexts what changed; say whether anything did."""
        await asyncio.to_thread(self._lists.refresh)
        refused = self._lists.refused
        for name, _ in sorted(refused - self._refused):
            log.warning("revocation_list_refused", list=name)
        self._refused = refused
        at = self._clock()
        # Not only what was read now: a list of tomorrow's date is read today and holds tomorrow.
        current = frozenset(self._lists.current(at))
        lists = [x509.load_der_x509_crl(der) for der in current - self._given]
        for context in self._contexts:
            add_crls(context, lists)
        self._given = current
        over = sum(anchors_over(context, at) for context in self._contexts)
        if over > self._over:
            log.error("issuing_authority_over", count=over)
        self._over = over
        return bool(lists)
