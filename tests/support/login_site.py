"""A demo site that also takes certificates of its personal branch, and tokens of a provider."""

import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs.issue import Authority, Branch, Issued, KeyKind, PracticePki
from tests.support.clients import until
from tests.support.site import DemoSite, pli
from tests.support.tokens import AUDIENCE, ISSUER, mint, public_pem

SUBJECT = "f:1:899700218896"


@dataclass
class LoginSite:
    """The site, with what each kind of client shows.

    Attributes:
        seen: how many logins ``newest_login`` has told of.
    """

    site: DemoSite
    address: str
    password: str
    key: ec.EllipticCurvePrivateKey
    certificate: Path
    certificate_key: Path
    seen: int = 0

    def token(self, **change: Any) -> str:
        """Sign a token that is good for ten minutes; Any: claims are JSON."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "exp": now + 600, "iat": now}
        return mint(self.key, claims | change)

    def logins(self) -> list[str]:
        """Give the front end and mechanism of each login that the trail holds, oldest first."""
        with closing(sqlite3.connect(self.site.root / "data" / "mail.sqlite3")) as mail:
            rows = mail.execute(
                "SELECT kind, json_extract(facts, '$.mechanism') FROM trail_event"
                " WHERE kind IN ('imap_login', 'smtp_login') ORDER BY event_id"
            ).fetchall()
        return [f"{kind.removesuffix('_login')} {mechanism}" for kind, mechanism in rows]

    def newest_login(self) -> str:
        """Give the last login that was not told yet, as ``logins``; IMAP's come within moments."""

        def fresh() -> list[str]:
            return self.logins()[self.seen :]

        found: list[str] = until(fresh, "a login in the trail")
        self.seen += len(found)
        return found[-1]


def issue(root: Path, address: str, life: timedelta = timedelta(days=900)) -> Issued:
    """Issue a personal certificate of a demo site's own practice branch."""
    pem = (root / "pki" / "personal-ca.pem").read_bytes()
    key = load_pem_private_key((root / "pki" / "private" / "personal-ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = Authority(x509.load_pem_x509_certificate(pem), key)
    pki = PracticePki({Branch.PERSONAL: authority})
    return pki.issue_personal(
        datetime.now(UTC), address, "Dr Essai", key_kind=KeyKind.EC_P256, valid_for=life
    )


def prepare(site: DemoSite) -> LoginSite:
    """Put the files down, before the site is started."""
    root = site.root
    person: Mapping[str, str] = site.demo["practitioners"][0]
    address = person["address"]
    shutil.copyfile(root / "pki" / "personal-ca.pem", root / "pki" / "mail-clients.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    (root / "trust" / "token-issuer.pem").write_bytes(public_pem(key))
    with (root / "pli.toml").open("a") as settings:
        settings.write("\n" + tomli_w.dumps({"tokens": {"issuer": ISSUER, "audience": AUDIENCE}}))
    issued = issue(root, address)
    certificate, certificate_key = root.parent / "poste.pem", root.parent / "poste.key"
    certificate.write_bytes(issued.bundle)
    certificate_key.write_bytes(issued.key)
    certificate_key.chmod(0o600)
    pli("device", "add", str(root), address, "poste", "--certificate", str(certificate))
    pli("device", "add", str(root), address, "portail", "--subject", SUBJECT)
    return LoginSite(site, address, person["password"], key, certificate, certificate_key)
