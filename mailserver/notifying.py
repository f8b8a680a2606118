"""How the settings' relay of notifications becomes the one that is used.

Source: RULES §14.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from mailserver.errors import SiteError
from mailserver.notify.relay import Relay
from mailserver.notify.texts import Letterhead
from mailserver.notify.worker import Notifier, NotifierSettings, Views
from mailserver.settings import NotifySettings, NotifyTls, Settings, Site
from mailserver.store.database import MailStore

_HTTPS = 443
_MAX_PASSWORD = 1024


def relay_of(site: Site, wanted: NotifySettings, ehlo_name: str) -> Relay:
    """Give the relay that the settings name.

    Raises:
        SiteError: its login has no password here.
    """
    return Relay(
        host=wanted.host,
        port=wanted.port,
        implicit_tls=wanted.tls is NotifyTls.IMPLICIT,
        authority=None if wanted.authority is None else Path(wanted.authority),
        login=None if wanted.login is None else (wanted.login, _password(site)),
        ehlo_name=ehlo_name,
    )


def _password(site: Site) -> str:
    try:
        with site.notify_password.open(encoding="utf-8") as file:
            password = file.read(_MAX_PASSWORD).strip()
    except (OSError, UnicodeDecodeError):
        password = ""
    if not password:
        raise SiteError(
            f"notify.login needs a password: write it into {site.notify_password} (mode 0600)"
        )
    return password


def site_address(settings: Settings) -> str:
    """Give the webmail's address, as people type it."""
    port = settings.ports.https
    return f"https://{settings.host}{'' if port == _HTTPS else f':{port}'}/"


def notifier(
    site: Site, settings: Settings, store: MailStore, views: Views, clock: Callable[[], datetime]
) -> Notifier:
    """Make the worker of a site whose settings have ``notify``.

    Raises:
        SiteError: they do not, or its login has no password here.
    """
    if settings.notify is None:
        raise SiteError("nobody is notified here: the settings have no relay")
    wanted = NotifierSettings(
        relay_of(site, settings.notify, settings.host),
        Letterhead(settings.notify.sender, site_address(settings)),
        timedelta(minutes=settings.notify.every_minutes),
        remind_from_hour=settings.notify.remind_from_hour,
    )
    return Notifier(store, wanted, views=views, clock=clock)
