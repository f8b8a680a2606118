"""Messages that OpenSSL's ``cms`` command signs, and its verdict on those that Pli signs."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from certs.issue import Issued

OPENSSL = shutil.which("openssl")
PSS = ("-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:32")
_AUTHORITIES = ("root", "operators-ca", "organisation-ca", "personal-ca")


@dataclass(frozen=True, slots=True)
class Verified:
    """What OpenSSL says of a message: the signed content when it holds, and its own words."""

    holds: bool
    content: bytes
    words: str


def cms(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ``openssl cms``."""
    return subprocess.run(
        [str(OPENSSL), "cms", *map(str, arguments)], capture_output=True, timeout=30, check=False
    )


def sign(folder: Path, raw: bytes, issued: Issued, *options: str) -> bytes:
    """Sign a whole message: its MIME-Version and Content fields move inside, the others stay."""
    header, _, body = raw.partition(b"\r\n\r\n")
    inside: list[bytes] = []
    outside: list[bytes] = []
    for line in header.replace(b"\r\n\t", b"\0\t").replace(b"\r\n ", b"\0 ").split(b"\r\n"):
        about_body = line.lower().startswith((b"content-", b"mime-version:"))
        (inside if about_body else outside).append(line.replace(b"\0", b"\r\n"))
    (folder / "entity").write_bytes(b"\r\n".join(inside) + b"\r\n\r\n" + body)
    (folder / "leaf.pem").write_bytes(issued.certificate)
    (folder / "chain.pem").write_bytes(issued.chain)
    (folder / "leaf.key").write_bytes(issued.key)
    done = cms(
        "-sign", "-in", folder / "entity", "-signer", folder / "leaf.pem",
        "-inkey", folder / "leaf.key", "-certfile", folder / "chain.pem", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    signed = done.stdout.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return b"\r\n".join(outside) + b"\r\n" + signed


def verify(folder: Path, raw: bytes, pki: Path) -> Verified:
    """Ask OpenSSL about a message: path to the site's root, revocation lists of each branch."""
    # In a CAfile OpenSSL reads lists beside certificates.
    (folder / "trust.pem").write_bytes(
        b"".join(
            (pki / f"{name}.{kind}").read_bytes()
            for name in _AUTHORITIES
            for kind in ("pem", "crl")
        )
    )
    (folder / "message.eml").write_bytes(raw)
    done = cms(
        "-verify", "-in", folder / "message.eml", "-CAfile", folder / "trust.pem",
        "-no-CApath", "-no-CAstore", "-crl_check_all",
    )  # fmt: skip
    return Verified(done.returncode == 0, done.stdout, done.stderr.decode())
