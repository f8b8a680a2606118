"""Who else may vouch for mail clients: an authority for certificates, a provider for tokens.

Both are off until the operator puts their file down: ``pki/mail-clients.pem`` holds the
authorities whose client certificates may open mailboxes, ``trust/token-issuer.pem`` the key of
the identity provider that ``[tokens]`` of the settings names. A certificate or a subject opens
nothing before ``pli device add`` recorded it.

Source: RFC 4422 §3, RFC 7519 §4.1, RFC 5280 §6.1.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailserver.errors import CommandError, SiteError
from mailserver.sasl.tokens import TokenIssuer, TokenKeyError
from mailserver.settings import Settings, Site


def client_authority(site: Site) -> Path | None:
    """Give the bundle of authorities for mail clients' certificates, None when there is none."""
    return site.clients_ca if site.clients_ca.exists() else None


def token_issuer(site: Site, settings: Settings) -> TokenIssuer | None:
    """Give the identity provider, None when the settings name none. Blocking.

    Raises:
        SiteError: its key is missing or cannot be used.
    """
    if settings.tokens is None:
        return None
    try:
        pem = site.token_key.read_bytes()
        return TokenIssuer.from_pem(settings.tokens.issuer, settings.tokens.audience, pem)
    except (OSError, TokenKeyError) as error:
        raise SiteError(
            f"{site.token_key} holds no key of the token issuer: a public key or certificate,"
            " PEM, of P-256, Ed25519 or RSA of 2048 bits and more"
        ) from error


def client_certificate(site: Site, pem: str, at: datetime) -> tuple[str, datetime]:
    """Read a certificate that is to open a mailbox. Blocking.

    Returns:
        Its fingerprint, and the end of its validity.

    Raises:
        CommandError: it is none, or could never be shown on this site.
    """
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    except ValueError as error:
        raise CommandError("bad_certificate", "This is not a certificate in PEM.") from error
    if not certificate.not_valid_before_utc <= at < certificate.not_valid_after_utc:
        raise CommandError("certificate_over", "This certificate is not valid today.")
    bundle = client_authority(site)
    if bundle is None:
        raise CommandError(
            "no_client_authority",
            "No authority for mail clients: put its certificate at pki/mail-clients.pem first.",
        )
    if not _issued_by(certificate, bundle):
        raise CommandError(
            "wrong_authority", "No authority in pki/mail-clients.pem issued this certificate."
        )
    if not _is_for_clients(certificate):
        raise CommandError("wrong_usage", "This certificate is not for TLS clients.")
    return certificate.fingerprint(hashes.SHA256()).hex(), certificate.not_valid_after_utc


def _issued_by(certificate: x509.Certificate, bundle: Path) -> bool:
    for authority in x509.load_pem_x509_certificates(bundle.read_bytes()):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _is_for_clients(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages
