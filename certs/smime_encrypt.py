"""Encrypt a whole message for one recipient, over the signature it may bear.

Apart from ``certs.smime``, which is pure: keys and vectors are random. Header fields stay in the
clear, as every reader needs them; what is inside is the body with the fields that describe it.

Source: RFC 8551 §3.3, RFC 8551 §3.7.
"""

import pybase64
from cryptography import x509

from certs import cms_envelope
from certs.cms_envelope import Cipherment
from certs.mime import scan
from certs.smime import taken_apart

_CMS_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_ENVELOPE_TYPES = {
    Cipherment.AES_256_CBC: b"enveloped-data",
    Cipherment.AES_256_GCM: b"authEnveloped-data",
}


def encrypt(raw: bytes, recipient: x509.Certificate, cipherment: Cipherment) -> bytes:
    """Encrypt a whole message, signed or not, for one recipient.

    Fields that describe the body move inside with it; all others stay outside, in the clear. A
    message that is encrypted already comes back unchanged.

    Args:
        raw: an RFC 5322 message, CRLF line ends.
        recipient: judged by the caller (``certs.recipients``).
        cipherment: CBC but for who is known to open GCM: Thunderbird does not (DESIGN §7).

    Source: RFC 8551 §3.3, RFC 8551 §3.4, RFC 8551 §3.7.
    """
    outline = scan(raw)
    if outline.root.type in _CMS_TYPES:
        return raw
    outside, entity = taken_apart(raw, outline)
    encoded = cms_envelope.encrypt(entity, [recipient], cipherment)
    kind = _ENVELOPE_TYPES[cipherment]
    return b"".join(
        (
            outside,
            b"MIME-Version: 1.0\r\n",
            b"Content-Type: application/pkcs7-mime; smime-type=" + kind + b";\r\n",
            b" name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n",
            b"Content-Disposition: attachment; filename=smime.p7m\r\n\r\n",
            pybase64.encodebytes(encoded).replace(b"\n", b"\r\n"),
        )
    )
