"""The practice trust list, signed here with a key of the practice PKI.

For sites that are not part of the real trust space.

A national list is refreshed every day by the agency; a practice list has nobody to do that, so
the site signs it again, unchanged, before it grows stale. A site without ``trust/signer.key``
(one that uses a list of somebody else's) is left alone.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from certs.anchors import is_for_practice
from certs.issue import Issued
from certs.names import written_name
from directory.trust_list import ListedDomain, encode, parse
from directory.trust_signature import sign
from mailserver.errors import SiteError
from mailserver.settings import Environment, Settings, Site, write_private

SIGN_AGAIN_AFTER = timedelta(hours=12)
"""Half of the age at which a list is stale."""


def write_list(site: Site, signer: Issued, domains: Iterable[ListedDomain], at: datetime) -> None:
    """Write a first practice list with its signer. Blocking."""
    write_private(site.trust_signer, signer.certificate)
    write_private(site.trust_signer_key, signer.key)
    _write(site, domains, at)


def keep_young(site: Site, at: datetime) -> bool:
    """Sign the practice list again when it is older than half a day; say whether it was. Blocking.

    Raises:
        TrustListError: the list or its signature is not what this site wrote.
    """
    if not site.trust_signer_key.exists() or not site.trust_list.exists():
        return False
    signer = x509.load_pem_x509_certificate(site.trust_signer.read_bytes())
    current = parse(site.trust_list.read_bytes(), signer=signer.public_bytes(Encoding.DER), at=at)
    if at - current.generated_at < SIGN_AGAIN_AFTER or at >= signer.not_valid_after_utc:
        return False
    domains = [
        ListedDomain(domain, dn)
        for domain, names in sorted(current.entries.items())
        for dn in sorted(map(written_name, names))
    ]
    _write(site, domains, at)
    return True


def refuse_practice(site: Site, settings: Settings) -> None:
    """Keep practice authorities out of a production site's trust space. Blocking.

    Raises:
        SiteError: production, and a practice or test certificate may vouch for operators, for
            mail clients, for the list or for where it is published; or no issuing authority is
            pinned at all.
    """
    if settings.environment is not Environment.PRODUCTION:
        return
    for path in (site.peers_ca, site.trust_signer, site.trust_anchors, site.clients_ca):
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except FileNotFoundError:
            found = []
        except (OSError, ValueError) as error:
            raise SiteError(f"{path} holds no certificates") from error
        if any(map(is_for_practice, found)):
            raise SiteError(f"{path} holds a practice certificate, which production refuses")
        if path == site.peers_ca and all(each.issuer == each.subject for each in found):
            raise SiteError(
                f"{path} names no issuing authority: put the operators' one there, not its root"
            )


def _write(site: Site, domains: Iterable[ListedDomain], at: datetime) -> None:
    key = load_pem_private_key(site.trust_signer_key.read_bytes(), password=None)
    if not isinstance(key, (RSAPrivateKey, EllipticCurvePrivateKey)):
        raise SiteError("trust/signer.key is not an RSA or EC key")
    certificate = x509.load_pem_x509_certificate(site.trust_signer.read_bytes())
    write_private(site.trust_list, sign(encode(domains, at), key, certificate))
