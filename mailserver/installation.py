"""Making a site: its folders, settings, keys, practice PKI and databases.

Invariants: an existing site is never touched; everything private is 0600 in folders of 0700; a
site that could not be made whole is not left half made under the name asked for.
"""

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import directory.repository
import mailserver.store.database
import record_bridge.repository
from certs.issue import Branch, PracticePki
from directory.database import migrate
from mailserver.control import Owner, sole_owner
from mailserver.errors import SiteError
from mailserver.settings import Environment, Ports, Settings, Site, write_private
from mailserver.webmail.services import MailService

OPERATOR_ORGANISATION = "OPERATEUR PLI DE PRATIQUE"
OPERATOR_FIELDS = {
    "OU": "318751275100020",
    "O": OPERATOR_ORGANISATION,
    "ST": "Paris (75)",
    "C": "FR",
}
"""Subject of the practice server certificate beside its CN; the OU is 3 + a fictitious SIRET."""
_KEY_OCTETS = 32


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What ``pli init`` was told."""

    environment: Environment
    host: str
    ports: Ports
    demo: bool
    plaintext_on_loopback: bool


def create_site(site: Site, options: SiteOptions, *, at: datetime) -> None:
    """Make a whole site in a directory that is absent or empty. Blocking.

    Args:
        site: where.
        options: as asked on the command line.
        at: aware UTC instant from which the practice certificates are valid.

    Raises:
        SiteError: the directory holds something, or cannot be written.
    """
    if site.root.exists() and (not site.root.is_dir() or any(site.root.iterdir())):
        raise SiteError(f"{site.root} is not empty: give a new directory")
    created = not site.root.exists()
    try:
        _fill(site, options, at)
    except OSError as error:
        if created:
            shutil.rmtree(site.root, ignore_errors=True)
        raise SiteError(f"{site.root} cannot be written") from error


def _fill(site: Site, options: SiteOptions, at: datetime) -> None:
    for folder in site.folders():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    pki = PracticePki.create(at, OPERATOR_ORGANISATION)
    server = pki.issue_server(
        at, server_names(options.host), {"CN": options.host, **OPERATOR_FIELDS}
    )
    pki.write(site.pki, at, server)
    # Who may vouch for an operator: that branch of the hierarchy and no other.
    site.peers_ca.write_bytes(
        pki.authorities[Branch.ROOT].pem + pki.authorities[Branch.OPERATORS].pem
    )
    write_private(site.hash_key, secrets.token_bytes(_KEY_OCTETS))
    write_private(site.trail_key, secrets.token_bytes(_KEY_OCTETS))
    write_private(site.applications, b"{}")
    _bring_up(site)
    # Written last: a directory without it is no site.
    site.write_settings(
        Settings(
            environment=options.environment,
            host=options.host,
            listen=listen_address(options.host),
            ports=options.ports,
            demo=options.demo,
            plaintext_on_loopback=options.plaintext_on_loopback,
        )
    )


def migrate_site(site: Site) -> None:
    """Bring every database of a stopped site to this program's schema. Blocking.

    Raises:
        SiteError: a server is running on it.
        SchemaMismatchError: a database is of a newer program.
    """
    with ExitStack() as stack:
        for owner in Owner:
            stack.enter_context(sole_owner(site.run / f"{owner.value}.lock"))
        _bring_up(site)


def _bring_up(site: Site) -> None:
    """Give every database this program's schema, and what a schema alone cannot fill."""
    mailserver.store.database.migrate(site.mail_database)
    migrate(site.directory_database, directory.repository.MIGRATIONS)
    record_bridge.repository.create_record(site.record_database)


def databases(site: Site) -> dict[Path, Path]:
    """Give each database file with the alembic folder of the package that owns it."""
    return {
        site.mail_database: mailserver.store.database.MIGRATIONS,
        site.directory_database: directory.repository.MIGRATIONS,
        site.record_database: record_bridge.repository.MIGRATIONS,
    }


def server_names(host: str) -> tuple[str, ...]:
    """Give the names of the server certificate: on loopback, every way to say so."""
    if listen_address(host) == "127.0.0.1":
        return tuple(dict.fromkeys((host, "localhost", "127.0.0.1")))
    return (host,)


def listen_address(host: str) -> str:
    """Give the address to bind: loopback stays loopback, everything else binds all."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ip_address(host)
    except ValueError:
        return "0.0.0.0"  # noqa: S104 - the site is asked for under a public name
    return str(address)


def mail_service(settings: Settings) -> MailService:
    """Give where mail clients and browsers find a site."""
    ports = settings.ports
    return MailService(
        settings.host,
        ports.imap,
        ports.imaps,
        ports.submission,
        ports.submissions,
        ports.https,
    )
