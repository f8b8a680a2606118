"""Opening the annuaire and the mail store of a site, the same way in every process."""

import asyncio
from datetime import UTC, datetime, timedelta

from directory.lookup import Directory
from mailserver.settings import Settings, Site
from mailserver.store.database import MailStore


def now() -> datetime:
    """Read the clock; everything below takes it as a parameter."""
    return datetime.now(UTC)


async def open_directory(site: Site, settings: Settings, *, read_only: bool) -> Directory:
    """Open the annuaire and the trust list as the settings say."""
    signer = site.trust_signer if site.trust_signer.exists() else None
    directory = await Directory.open(
        site.directory_database, site.trust_list, signer, at=now(), read_only=read_only
    )
    directory.trust_max_age = timedelta(hours=settings.trust.max_age_hours)
    directory.trust_grace = timedelta(hours=settings.trust.grace_hours)
    return directory


async def open_store(site: Site, *, read_only: bool) -> MailStore:
    """Open the mail store with the site's key for device passwords."""
    key = await asyncio.to_thread(site.hash_key.read_bytes)
    return await MailStore.open(site.mail_database, hash_key=key, read_only=read_only)
