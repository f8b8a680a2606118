"""Issue a whole practice hierarchy in memory, shaped like IGC-Santé.

One root; under it three branches that must never pass for one another: *operators* (TLS servers
and clients, the ``ELEMENTAIRE ORGANISATIONS`` of the national PKI), *organisation* (seals of
structures, and the signer of the trust list) and *personal*. Names say PRATIQUE, so no one takes
these certificates for real ones. Instants are parameters; keys and serial numbers come from the
system's generator.

Source: RFC 5280 §4.2, RFC 5280 §5.2, RFC 8550 §4.4, MSS-OP §3.1.
"""

import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=3 * 365)  # as IGC-Santé issues (facts of 2025)
_CRL_LIFE = timedelta(days=90)
_BACKDATE = timedelta(hours=1)  # peers' clocks differ
_SERVER_FIELDS = (
    ("C", NameOID.COUNTRY_NAME),
    ("ST", NameOID.STATE_OR_PROVINCE_NAME),
    ("O", NameOID.ORGANIZATION_NAME),
    ("OU", NameOID.ORGANIZATIONAL_UNIT_NAME),
    ("CN", NameOID.COMMON_NAME),
)


class KeyKind(enum.Enum):
    """Kinds of key that a certificate may be issued for."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"


class Branch(enum.Enum):
    """Authorities of the hierarchy; the value is the stem of their files."""

    ROOT = "root"
    OPERATORS = "operators-ca"
    ORGANISATION = "organisation-ca"
    PERSONAL = "personal-ca"


_AUTHORITY_NAMES = {
    Branch.ROOT: "PRATIQUE AC RACINE ELEMENTAIRE",
    Branch.OPERATORS: "PRATIQUE AC ELEMENTAIRE ORGANISATIONS",
    Branch.ORGANISATION: "PRATIQUE AC CACHETS ORGANISATIONS",
    Branch.PERSONAL: "PRATIQUE AC PERSONNES",
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with what its holder needs, as PEM.

    Attributes:
        certificate: the leaf.
        chain: its intermediates, leaf's issuer first, without the root.
        key: PKCS #8, not encrypted.
    """

    certificate: bytes
    chain: bytes
    key: bytes

    @property
    def bundle(self) -> bytes:
        """Leaf and intermediates, as TLS servers and signers present them."""
        return self.certificate + self.chain

    @property
    def serial(self) -> int:
        """The leaf's serial number, as ``PracticePki.issue_crl`` takes it."""
        return x509.load_pem_x509_certificate(self.certificate).serial_number


@dataclass(frozen=True, slots=True)
class Authority:
    """A certification authority with its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The authority's private key, PKCS #8."""
        return _key_pem(self.key)


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """What a leaf certificate must say; extensions beside those every leaf has."""

    subject: x509.Name
    names: Sequence[x509.GeneralName]
    usages: Sequence[x509.ObjectIdentifier]
    key: PrivateKey
    not_before: datetime
    not_after: datetime
    non_repudiation: bool = False


def new_key(kind: KeyKind) -> PrivateKey:
    """Make a private key."""
    match kind:
        case KeyKind.RSA_2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyKind.RSA_3072:
            return rsa.generate_private_key(65537, 3072)
        case KeyKind.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())


def issue_leaf(authority: Authority, request: LeafRequest) -> Issued:
    """Sign one leaf certificate under an authority.

    Source: RFC 5280 §4.2.1.
    """
    certificate = (
        _builder(request.subject, authority.certificate.subject, request.key)
        .not_valid_before(request.not_before)
        .not_valid_after(request.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(non_repudiation=request.non_repudiation), critical=True)
        .add_extension(x509.ExtendedKeyUsage(request.usages), critical=False)
        .add_extension(_authority_key_id(authority.certificate), critical=False)
        .add_extension(x509.SubjectAlternativeName(request.names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    self_issued = authority.certificate.issuer == authority.certificate.subject
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        b"" if self_issued else authority.pem,
        _key_pem(request.key),
    )


@dataclass(frozen=True, slots=True)
class PracticePki:
    """The whole hierarchy, able to issue and to revoke."""

    authorities: Mapping[Branch, Authority]

    @classmethod
    def create(
        cls, at: datetime, organisation: str, *, key_kind: KeyKind = KeyKind.EC_P256
    ) -> Self:
        """Make root and authorities, valid from an hour before ``at`` for ten years.

        Args:
            at: aware instant of issue.
            organisation: O of every authority's name; two sites' hierarchies differ by it.
            key_kind: kind of the authorities' keys.
        """
        root = _new_authority(Branch.ROOT, at, organisation, key_kind=key_kind, issuer=None)
        authorities: dict[Branch, Authority] = {Branch.ROOT: root}
        for branch in (Branch.OPERATORS, Branch.ORGANISATION, Branch.PERSONAL):
            authorities[branch] = _new_authority(
                branch, at, organisation, key_kind=key_kind, issuer=root
            )
        return cls(authorities)

    def issue_server(
        self,
        at: datetime,
        hosts: Iterable[str],
        fields: Mapping[str, str],
        *,
        key_kind: KeyKind = KeyKind.EC_P256,
        valid_for: timedelta = _LEAF_LIFE,
    ) -> Issued:
        """An operator's certificate, for TLS as server and as client.

        Args:
            at: aware instant of issue.
            hosts: DNS names or IP addresses.
            fields: subject by the trust list's keys ``CN, OU, O, ST, C``; all are optional.
            key_kind: kind of the new key.
            valid_for: life from ``at``.

        Source: MSS-OP §3.1.
        """
        subject = x509.Name(
            [x509.NameAttribute(oid, fields[key]) for key, oid in _SERVER_FIELDS if key in fields]
        )
        request = LeafRequest(
            subject,
            [_host_name(host) for host in hosts],
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
            new_key(key_kind),
            at - _BACKDATE,
            at + valid_for,
        )
        return issue_leaf(self.authorities[Branch.OPERATORS], request)

    def issue_seal(
        self,
        at: datetime,
        address: str,
        organisation: str,
        *,
        key_kind: KeyKind = KeyKind.RSA_2048,
        valid_for: timedelta = _LEAF_LIFE,
    ) -> Issued:
        """A structure's seal for one mailbox (RULES §12): signs mail, names the organisation."""
        return issue_leaf(
            self.authorities[Branch.ORGANISATION],
            seal_request(at, address, organisation, key=new_key(key_kind), valid_for=valid_for),
        )

    def issue_personal(
        self,
        at: datetime,
        address: str,
        name: str,
        *,
        key_kind: KeyKind = KeyKind.RSA_2048,
        valid_for: timedelta = _LEAF_LIFE,
    ) -> Issued:
        """A professional's own certificate; good for mail, never for an operator's TLS branch."""
        request = LeafRequest(
            _name(name, None),
            [x509.RFC822Name(address)],
            [ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CLIENT_AUTH],
            new_key(key_kind),
            at - _BACKDATE,
            at + valid_for,
            non_repudiation=True,
        )
        return issue_leaf(self.authorities[Branch.PERSONAL], request)

    def issue_list_signer(
        self, at: datetime, organisation: str, *, key_kind: KeyKind = KeyKind.RSA_2048
    ) -> Issued:
        """The certificate that signs a practice trust list."""
        request = LeafRequest(
            _name("PRATIQUE Liste Blanche", organisation),
            [x509.DNSName("liste-blanche.mssante.test")],
            [ExtendedKeyUsageOID.EMAIL_PROTECTION],
            new_key(key_kind),
            at - _BACKDATE,
            at + _LEAF_LIFE,
            non_repudiation=True,
        )
        return issue_leaf(self.authorities[Branch.ORGANISATION], request)

    def issue_crl(
        self,
        branch: Branch,
        at: datetime,
        revoked: Sequence[int] = (),
        *,
        valid_for: timedelta = _CRL_LIFE,
        number: int | None = None,
    ) -> bytes:
        """A branch's full CRL as PEM.

        Args:
            branch: the authority that signs.
            at: thisUpdate, and the revocation date of every serial.
            revoked: serial numbers.
            valid_for: nextUpdate less thisUpdate.
            number: CRLNumber; the seconds of ``at`` when not given, so that later is higher.

        Source: RFC 5280 §5.2.3, RFC 5280 §5.1.
        """
        authority = self.authorities[branch]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(at)
            .next_update(at + valid_for)
            .add_extension(_authority_key_id(authority.certificate), critical=False)
            .add_extension(
                x509.CRLNumber(int(at.timestamp()) if number is None else number), critical=False
            )
        )
        for serial in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            )
        return builder.sign(authority.key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )

    def files(self, at: datetime) -> dict[str, bytes]:
        """Everything ``write`` puts down, by path relative to the PKI directory."""
        files: dict[str, bytes] = {}
        for branch, authority in self.authorities.items():
            files[f"{branch.value}.pem"] = authority.pem
            files[f"{branch.value}.crl"] = self.issue_crl(branch, at)
            files[f"private/{branch.value}.key"] = authority.key_pem
        return files

    def write(self, pki_dir: Path, at: datetime, server: Issued | None = None) -> None:
        """Write the hierarchy, fresh CRLs and the server's own certificate.

        Private keys get mode 0600 before their first byte, directories of keys 0700.
        """
        files = self.files(at)
        if server is not None:
            files["server.pem"] = server.bundle
            files["server.key"] = server.key
        pki_dir.mkdir(parents=True, exist_ok=True)
        (pki_dir / "private").mkdir(mode=0o700, exist_ok=True)
        for name, content in files.items():
            path = pki_dir / name
            if name.endswith(".key"):
                path.touch(mode=0o600)
                path.chmod(0o600)
            path.write_bytes(content)


def seal_request(
    at: datetime, address: str, organisation: str, *, key: PrivateKey, valid_for: timedelta
) -> LeafRequest:
    """What a structure's seal says; shared with ``certs.keystore``.

    Key usage is digitalSignature and nonRepudiation, extended usage emailProtection, as in the
    seals of IGC-Santé.

    Source: RFC 8550 §4.4.2, RULES §12.
    """
    return LeafRequest(
        _name(f"Cachet {organisation}"[:64], organisation),
        [x509.RFC822Name(address)],
        [ExtendedKeyUsageOID.EMAIL_PROTECTION],
        key,
        at - _BACKDATE,
        at + valid_for,
        non_repudiation=True,
    )


def _new_authority(
    branch: Branch,
    at: datetime,
    organisation: str,
    *,
    key_kind: KeyKind,
    issuer: Authority | None,
) -> Authority:
    key = new_key(key_kind)
    subject = _name(_AUTHORITY_NAMES[branch], organisation)
    issuer_name = issuer.certificate.subject if issuer else subject
    path_length = 0 if issuer else 1
    builder = (
        _builder(subject, issuer_name, key)
        .not_valid_before(at - _BACKDATE)
        .not_valid_after(at + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_authority_usage(), critical=True)
    )
    if issuer:
        builder = builder.add_extension(_authority_key_id(issuer.certificate), critical=False)
    signing_key = issuer.key if issuer else key
    return Authority(builder.sign(signing_key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority_key_id(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject_key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key_id.value)


def _usage(*, non_repudiation: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=non_repudiation,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, organisation: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "FR")]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]))
    attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64]))
    return x509.Name(attributes)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
