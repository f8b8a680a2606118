"""Fetch the trust list from where it is published, over TLS that one pinned authority vouches for.

Invariants: nobody but the pinned authority is believed (the system's are not), the server's name
is checked, a redirection is not followed, and no more is read than a list may measure, within a
deadline. Blocking: call it from a thread.

Source: MSS-OP §3.2; RFC 9110 §9.3.1; RFC 9110 §4.3.4.
"""

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

from certs.errors import KeyStoreError
from certs.tls import client_context
from directory.errors import TrustListError, TrustListReason
from directory.trust_signature import MAX_LIST_BYTES

TIMEOUT_S = 30.0
"""For each read; the whole takes at most ``DEADLINE_S``."""
DEADLINE_S = 300.0
_PIECE = 1024 * 1024


def fetch_list(url: str, anchors: Path) -> bytes:
    """Give what lies at an address.

    Args:
        url: ``https://...``.
        anchors: PEM of the authorities that may vouch for the server.

    Raises:
        TrustListError: NOT_FETCHED, or TOO_LARGE.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise TrustListError(TrustListReason.NOT_FETCHED)
    try:
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=TIMEOUT_S, context=client_context(anchors)
        )
    except KeyStoreError as error:
        raise TrustListError(TrustListReason.NOT_FETCHED) from error
    try:
        path = parts.path or "/"
        connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
        with connection.getresponse() as response:
            return _body(response)
    except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
        raise TrustListError(TrustListReason.NOT_FETCHED) from error
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse) -> bytes:
    until = time.monotonic() + DEADLINE_S
    if response.status != http.HTTPStatus.OK:
        raise TrustListError(TrustListReason.NOT_FETCHED)
    pieces: list[bytes] = []
    octets = 0
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        octets += len(piece)
        if octets > MAX_LIST_BYTES:
            raise TrustListError(TrustListReason.TOO_LARGE)
        if time.monotonic() > until:
            raise TrustListError(TrustListReason.NOT_FETCHED)
    if response.length:  # it promised more than it gave
        raise TrustListError(TrustListReason.NOT_FETCHED)
    return b"".join(pieces)
