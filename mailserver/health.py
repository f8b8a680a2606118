"""``pli check``: what an operator should look at before people do.

Facts only: permissions, ports, certificates and their expiry, the trust list's age, schemas, free
disk. A finding is a problem (the server cannot or must not run so) or a warning (soon).
"""

import asyncio
import errno
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509

from certs.crl_cache import CrlCache, parse_crl
from certs.malformed import CERTIFICATE
from directory.database import check_schema
from directory.errors import DirectoryError
from directory.lookup import Directory
from directory.trust_list import Freshness
from mailserver.control import call
from mailserver.databases import open_store
from mailserver.errors import CommandError, RelayError, SiteError
from mailserver.installation import databases
from mailserver.login_authorities import client_authority, token_issuer
from mailserver.notifying import relay_of
from mailserver.practice import refuse_practice
from mailserver.settings import Settings, Site

WARN_BEFORE = timedelta(days=30)
FREE_DISK_PROBLEM = 512 * 1024 * 1024
FREE_DISK_WARNING = 5 * 1024 * 1024 * 1024


class State(Enum):
    """How a finding reads."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "PROBLEM"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``pli check``."""

    check: str
    state: State
    text: str

    @property
    def is_problem(self) -> bool:
        """Whether the command must end with 1."""
        return self.state is State.PROBLEM


async def check_site(site: Site, *, at: datetime) -> list[Finding]:
    """Look at everything; never changes anything.

    Args:
        site: an existing site.
        at: aware UTC now.
    """
    settings = site.settings()
    findings = await asyncio.to_thread(lambda: [*_permissions(site), *_schemas(site)])
    findings += await asyncio.to_thread(lambda: [*_certificates(site, at), *_lists(site, at)])
    findings += await check_trust(site, at=at)
    findings += await check_logins(site, at=at)
    findings += await _ports(site, settings)
    findings.append(await check_notify(site, settings))
    findings.append(_disk(site))
    return findings


def _permissions(site: Site) -> Iterator[Finding]:
    wrong = [
        str(path.relative_to(site.root) or ".")
        for path in _private_paths(site)
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if wrong:
        yield Finding(
            "permissions", State.PROBLEM, f"others may read {', '.join(wrong)}: chmod go= them"
        )
    else:
        yield Finding("permissions", State.OK, "only this user can read the site")


def _private_paths(site: Site) -> Iterator[Path]:
    yield from site.folders()
    yield site.settings_file
    yield from sorted(site.secrets.iterdir())
    yield from sorted(site.pki.rglob("*.key"))
    yield from sorted(site.data.glob("*.sqlite3"))


def _schemas(site: Site) -> Iterator[Finding]:
    for path, migrations in databases(site).items():
        try:
            check_schema(path, migrations)
        except DirectoryError:
            text = "is missing or of another version: stop the server, run pli migrate"
            yield Finding(f"database {path.stem}", State.PROBLEM, text)
        else:
            yield Finding(f"database {path.stem}", State.OK, "has this version's schema")


def _certificates(site: Site, at: datetime) -> Iterator[Finding]:
    for name in ("server.pem", "root.pem", "operators-ca.pem", "organisation-ca.pem"):
        path = site.pki / name
        try:
            certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
        except (OSError, ValueError):
            yield Finding(f"certificate {name}", State.PROBLEM, f"{path} cannot be read")
            continue
        yield _expiry(f"certificate {name}", certificate.not_valid_after_utc, at)


def _lists(site: Site, at: datetime) -> Iterator[Finding]:
    for path in sorted(site.pki.glob("*.crl")):
        try:
            until = parse_crl(path.read_bytes()).next_update_utc
        except (OSError, *CERTIFICATE):
            text = f"{path} cannot be read: the last good one serves until a restart"
            yield Finding(f"revocations {path.name}", State.PROBLEM, text)
            continue
        if until is not None:
            yield _expiry(f"revocations {path.name}", until, at)


def _expiry(check: str, until: datetime, at: datetime) -> Finding:
    text = f"until {until:%Y-%m-%d}"
    if until <= at:
        return Finding(check, State.PROBLEM, f"expired: was valid {text}")
    if until - at < WARN_BEFORE:
        return Finding(check, State.WARNING, f"expires soon: valid {text}")
    return Finding(check, State.OK, f"valid {text}")


async def check_trust(site: Site, *, at: datetime) -> list[Finding]:
    """Look at the list of operators and at who may vouch for them; never changes anything.

    Args:
        site: an existing site.
        at: aware UTC now.
    """
    settings = site.settings()
    findings = await _trust_list(site, settings, at)
    findings.append(await asyncio.to_thread(_operators_branch, site, settings, at))
    return findings


def _operators_branch(site: Site, settings: Settings, at: datetime) -> Finding:
    check = "operators' authority"
    try:
        refuse_practice(site, settings)
    except SiteError as refusal:
        return Finding(check, State.PROBLEM, str(refusal))
    return _authority(site, check, site.peers_ca, at)


async def _trust_list(site: Site, settings: Settings, at: datetime) -> list[Finding]:
    if not site.trust_list.exists():
        return [
            Finding("trust list", State.PROBLEM, f"none: put the signed list at {site.trust_list}")
        ]
    signer = site.trust_signer if site.trust_signer.exists() else None
    try:
        directory = await Directory.open(
            site.directory_database, site.trust_list, signer, at=at, read_only=True
        )
    except DirectoryError:
        return [Finding("trust list", State.PROBLEM, "the directory database cannot be opened")]
    async with directory:
        directory.trust_max_age = timedelta(hours=settings.trust.max_age_hours)
        directory.trust_grace = timedelta(hours=settings.trust.grace_hours)
        refusal = directory.trust_refusal
        made = f"made {directory.trust.generated_at:%Y-%m-%d %H:%M} UTC"
        freshness = directory.trust_freshness(at)
        alarms = len(await directory.adoption.alarms())
    found = [_age(freshness, refusal, made)]
    if alarms:
        text = f"{alarms} new for known domains: see 'pli trust-list show', then acknowledge"
        found.append(Finding("operators' names", State.WARNING, text))
    return found


def _age(freshness: Freshness, refusal: str | None, made: str) -> Finding:
    if refusal is not None:
        return Finding(
            "trust list", State.PROBLEM, f"the file is refused ({refusal}); in use: {made}"
        )
    match freshness:
        case Freshness.FRESH:
            return Finding("trust list", State.OK, made)
        case Freshness.STALE:
            return Finding("trust list", State.WARNING, f"stale: {made}")
        case Freshness.EXPIRED:
            return Finding("trust list", State.PROBLEM, f"too old, nobody is accepted: {made}")


async def check_logins(site: Site, *, at: datetime) -> list[Finding]:
    """Look at what mail clients may log in by; never changes anything.

    Args:
        site: an existing site.
        at: aware UTC now.
    """
    settings = site.settings()
    findings = [
        await asyncio.to_thread(_client_authority, site, at),
        await asyncio.to_thread(_token_issuer, site, settings),
    ]
    try:
        store = await open_store(site, read_only=True)
    except (OSError, DirectoryError):
        return findings  # said of the database already
    async with store:
        passwords, with_scram = await store.accounts.count_passwords(at)
    text = f"{with_scram} of {passwords} may be used with SCRAM"
    if with_scram < passwords:
        text += "; the others are older or given: make new ones for clients that insist on it"
    return [*findings, Finding("device passwords", State.OK, text)]


async def check_notify(site: Site, settings: Settings) -> Finding:
    """Look whether the relay of notifications takes us, without sending anything.

    Args:
        site: an existing site.
        settings: what its ``pli.toml`` says.
    """
    check = "notifications"
    if settings.notify is None:
        return Finding(check, State.OK, "off: nobody is told anything by ordinary mail")
    try:
        await relay_of(site, settings.notify, settings.host).look()
    except SiteError as refusal:
        return Finding(check, State.PROBLEM, str(refusal))
    except RelayError as error:
        said = f"it answers {error.reply}" if error.reply else "no answer over TLS that we trust"
        where = f"{settings.notify.host}:{settings.notify.port}"
        return Finding(check, State.PROBLEM, f"the relay {where} does not take us: {said}")
    login = "and our login" if settings.notify.login else "without a login"
    return Finding(check, State.OK, f"the relay {settings.notify.host} takes TLS {login}")


def _client_authority(site: Site, at: datetime) -> Finding:
    check, bundle = "mail clients' authority", client_authority(site)
    if bundle is None:
        return Finding(check, State.OK, "none: no client logs in by certificate")
    return _authority(site, check, bundle, at)


def _authority(site: Site, check: str, bundle: Path, at: datetime) -> Finding:
    """Say how long who may vouch for others serves, and whether a revocation list is there."""
    try:
        found = x509.load_pem_x509_certificates(bundle.read_bytes())
    except (OSError, ValueError):
        return Finding(check, State.PROBLEM, f"{bundle} cannot be read")
    lists = CrlCache(site.pki)
    lists.refresh()
    known = {x509.load_der_x509_crl(der).issuer for der in lists.current(at)}
    issuing = [each for each in found if each.issuer != each.subject] or found
    if any(each.subject not in known for each in issuing):
        text = f"no revocation list of it in {site.pki}: every certificate is refused"
        return Finding(check, State.PROBLEM, text)
    return _expiry(check, min(each.not_valid_after_utc for each in found), at)


def _token_issuer(site: Site, settings: Settings) -> Finding:
    check = "identity provider"
    try:
        issuer = token_issuer(site, settings)
    except SiteError as refusal:
        return Finding(check, State.PROBLEM, str(refusal))
    if issuer is None:
        return Finding(check, State.OK, "none: no client logs in by token")
    return Finding(check, State.OK, f"signs with {issuer.algorithm}, key in {site.token_key}")


async def _ports(site: Site, settings: Settings) -> list[Finding]:
    try:
        await call(site.run / "mail.sock", "status", {})
    except (ConnectionError, CommandError):
        running = False
    else:
        running = True
    return [
        _port(name, settings.listen, port, running=running)
        for name, port in settings.ports.model_dump().items()
    ]


def _port(name: str, address: str, port: int, *, running: bool) -> Finding:
    check = f"port {name}"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and running:
                return Finding(check, State.OK, f"{port}: the server listens")
            if error.errno == errno.EACCES:
                return Finding(check, State.PROBLEM, f"{port}: this user may not listen there")
            return Finding(check, State.PROBLEM, f"{port}: another program listens there")
    if running:
        return Finding(check, State.PROBLEM, f"{port}: the server runs but does not listen there")
    return Finding(check, State.OK, f"{port}: free")


def _disk(site: Site) -> Finding:
    free = shutil.disk_usage(site.data).free
    text = f"{free // (1024 * 1024)} MiB free"
    if free < FREE_DISK_PROBLEM:
        return Finding("disk", State.PROBLEM, text)
    if free < FREE_DISK_WARNING:
        return Finding("disk", State.WARNING, text)
    return Finding("disk", State.OK, text)
