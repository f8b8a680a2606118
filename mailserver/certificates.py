"""Judges recipients' certificates by the site's anchors and revocation lists as they are now."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from certs.crl_cache import CrlCache
from certs.keystore import KeyStore
from certs.path import Evidence
from certs.recipients import Unusable, judge_certificate


class CertificateJudge:
    """Judges in a thread: reading lists and checking paths takes milliseconds."""

    def __init__(self, keystore: KeyStore, clock: Callable[[], datetime]) -> None:
        self._keystore = keystore
        self._lists = CrlCache(keystore.crls)
        self._clock = clock

    async def judge(self, der: bytes, address: str) -> Unusable | None:
        """Say why mail to an address cannot be encrypted with a certificate now."""
        return await asyncio.to_thread(self._judge, der, address)

    def _judge(self, der: bytes, address: str) -> Unusable | None:
        self._lists.refresh()
        at = self._clock()
        evidence = Evidence(self._keystore.anchors(), self._lists.current(at), at)
        return judge_certificate(der, address, evidence)
