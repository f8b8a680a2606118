"""The site's settings: what ``pli.toml`` says, checked before anything starts.

Invariants: an unknown key, a port out of range or a value that cannot be honoured is refused;
nothing is read as its opposite or silently dropped. Paths are absolute.
"""

import os
import re
import tomllib
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from certs.addresses import parse_addr_spec
from certs.errors import MalformedAddressError
from mailserver.errors import SettingsError
from mailserver.fairness import FairLimits, Rate

Port = Annotated[int, Field(ge=0, le=65535)]

PORT_OFFSETS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "https": 443,
}
"""Each listener's port is the site's base plus the protocol's well-known port."""


class Environment(Enum):
    """Whether real identities may be held; fixed when the site is made (RULES §5)."""

    TEST = "test"
    PRODUCTION = "production"


class NotifyTls(Enum):
    """How TLS begins on the way to the relay of notifications; there is none without."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ports(_Strict):
    """Where the listeners are; 0 takes any free port."""

    smtp: Port
    submission: Port
    submissions: Port
    imap: Port
    imaps: Port
    https: Port

    @classmethod
    def from_base(cls, base: int) -> Self:
        """Give base + 25, + 587, + 465, + 143, + 993, + 443."""
        return cls(**{name: base + offset for name, offset in PORT_OFFSETS.items()})


class Limits(_Strict):
    """Bounds on what is taken in."""

    max_message_bytes: int = Field(default=25 * 1024 * 1024, ge=64 * 1024, le=256 * 1024 * 1024)
    """Octets of one message after dot-unstuffing; 25 MB is what Mon espace santé takes."""
    max_recipients: int = Field(default=100, ge=1, le=1000)
    max_connections: int = Field(default=2000, ge=1)
    mailbox_bytes: int = Field(default=20 * 1024**3, ge=1024**2)
    """What a mailbox may hold before clients can add no more; deliveries are never refused."""


class OutboundLimits(_Strict):
    """How mail leaves for other operators."""

    connections: int = Field(default=20, ge=1, le=500)
    per_domain: int = Field(default=4, ge=1, le=100)
    retry_s: tuple[Annotated[int, Field(ge=1, le=86400)], ...] = (60, 300, 900, 3600)
    """Seconds before each retry; the last one repeats."""
    jitter: float = Field(default=0.1, ge=0, le=1)
    """The most that chance adds to a retry's delay, as a part of it."""
    delay_notice_hours: float = Field(default=4, gt=0, le=240)
    """After so long the sender is told that the mail waits."""
    give_up_hours: float = Field(default=120, gt=0, le=720)
    unsigned: tuple[str, ...] = ()
    """Domains whose operator cannot take signed mail: what goes there leaves without our seal."""
    patient_domains: tuple[str, ...] = ()
    """Other operators' domains that are patients': ours may write there, and one message goes to
    one of their patients; the latter holds for ``patient.mssante.fr`` in any case."""
    name_servers: tuple[str, ...] = ()
    """DNS servers to ask, "address" or "address:port"; the machine's own when empty."""

    @model_validator(mode="after")
    def _name_servers_are_addresses(self) -> Self:
        self.name_server_targets()
        if not self.retry_s:
            raise ValueError("retry_s names at least one delay")
        return self

    def name_server_targets(self) -> tuple[tuple[str, int], ...]:
        """Give the DNS servers as (address, port)."""
        found = []
        for text in self.name_servers:
            host, port = text, 53
            if text.startswith("[") or text.count(":") == 1:
                host, _, digits = text.rpartition(":")
                if not digits.isdigit():
                    raise ValueError("a name server is written address or address:port")
                port = int(digits)
            found.append((str(ip_address(host.strip("[]"))), port))
        return tuple(found)


class Hl7Handover(_Strict):
    """Where one structure's own software takes the documents that were filed."""

    target: str | None = None
    """Its MLLP listener, "host:port"; over TLS unless it is this machine's own address."""
    folder: str | None = None
    """Absolute path: messages are put into ``out``, answers taken from ``in``."""
    answers: bool = False
    """Its answer is what the sender is told (RULES §9); else that it was filed here is."""

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if (self.target is None) == (self.folder is None):
            raise ValueError("a hand-over has a target or a folder")
        if self.folder is not None and not Path(self.folder).is_absolute():
            raise ValueError("the folder of a hand-over is an absolute path")
        self.address()
        return self

    def address(self) -> tuple[str, int] | None:
        """Give the target as (host, port)."""
        return None if self.target is None else _host_port(self.target)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("where a software listens is written host:port")
    return host.strip("[]"), int(port)


class Hl7Door(_Strict):
    """How one structure's own software speaks HL7 v2 with this site (extra ``hl7v2``)."""

    port: int | None = Field(default=None, ge=0, le=65535)
    """MLLP on the site's ``listen`` address; no listener when absent. 0 takes any free port."""
    folder: str | None = None
    """Absolute path: messages are taken from ``in``, answers put into ``out``."""
    acknowledge: str | None = None
    """Its MLLP listener, "host:port", for the acknowledgements (ZAM) that it asks for on the
    documents it hands over; without one they are put into the folder's ``out``."""
    handover: Hl7Handover | None = None
    """Where it takes what was filed; nothing is handed over when absent."""

    @model_validator(mode="after")
    def _is_a_door(self) -> Self:
        if self.port is None and self.folder is None and self.handover is None:
            raise ValueError("an HL7 door has a port, a folder, a hand-over, or several")
        if self.folder is not None and not Path(self.folder).is_absolute():
            raise ValueError("the folder of an HL7 door is an absolute path")
        if self.acknowledge is not None and self.port is None and self.folder is None:
            raise ValueError("what is acknowledged comes by the port or the folder of an HL7 door")
        self.acknowledge_address()
        return self

    def acknowledge_address(self) -> tuple[str, int] | None:
        """Give where acknowledgements go as (host, port)."""
        return None if self.acknowledge is None else _host_port(self.acknowledge)


class FairUse(_Strict):
    """What one address, one operator or one account may ask for, at most; 0 is no bound."""

    connections_per_address: int = Field(default=200, ge=0)
    """At a time, on the SMTP ports; an IPv6 address stands for its /64."""
    new_connections_per_address: int = Field(default=600, ge=0)
    """In a minute, on the SMTP ports."""
    connections_per_operator: int = Field(default=50, ge=0)
    """At a time, by the name in the certificate."""
    messages_per_operator: int = Field(default=600, ge=0)
    """In a minute."""
    recipients_per_operator: int = Field(default=6000, ge=0)
    """In a minute."""
    imap_connections_per_account: int = Field(default=64, ge=0)
    """At a time."""
    messages_per_account: int = Field(default=300, ge=0)
    """In an hour, of mail clients; the site's own software answers all that comes in."""
    recipients_per_account: int = Field(default=2000, ge=0)
    """In an hour, of mail clients."""
    failed_logins_per_address: int = Field(default=50, ge=0)
    """In ten minutes, by SMTP and IMAP, whatever the account."""
    failed_logins_per_account: int = Field(default=10, ge=0)
    """In ten minutes, by SMTP and IMAP, from one address."""

    @classmethod
    def none(cls) -> Self:
        """Bound nothing: a demo's operators are load generators."""
        return cls(**dict.fromkeys(cls.model_fields, 0))

    def limits(self) -> FairLimits:
        """Give the bounds as the listeners take them."""
        return FairLimits(
            address_connections=self.connections_per_address,
            address_rate=Rate(self.new_connections_per_address, 60.0),
            operator_connections=self.connections_per_operator,
            operator_messages=Rate(self.messages_per_operator, 60.0),
            operator_recipients=Rate(self.recipients_per_operator, 60.0),
            account_connections=self.imap_connections_per_account,
            account_messages=Rate(self.messages_per_account, 3600.0),
            account_recipients=Rate(self.recipients_per_account, 3600.0),
            address_failures=Rate(self.failed_logins_per_address, 600.0),
            account_failures=Rate(self.failed_logins_per_account, 600.0),
        )


class TrustSettings(_Strict):
    """Where the trust list comes from, and how long it is believed."""

    url: str = Field(default="", pattern=r"^(https://\S+)?$")
    """Where it is published; fetched over TLS that ``trust/https.pem`` alone vouches for."""
    fetch_hours: float = Field(default=6, ge=0.1, le=168)
    """Hours between two fetches."""
    max_age_hours: int = Field(default=24, ge=1)
    """Older than this, the list is stale: `pli check` warns (DERIVED, facts §1.3)."""
    grace_hours: int = Field(default=24 * 7, ge=1)
    """Stale for longer than this, nobody is accepted: 451 4.7.5 (DERIVED, facts §1.3)."""


class TokenSettings(_Strict):
    """The identity provider whose tokens open mailboxes; its key is ``trust/token-issuer.pem``."""

    issuer: str = Field(min_length=1, max_length=255)
    """What ``iss`` of its tokens says, to the letter."""
    audience: str = Field(min_length=1, max_length=255)
    """What ``aud`` of its tokens must say, or hold."""


class NotifySettings(_Strict):
    """The relay by which people are told, outside the trust space, that something is new.

    The password of ``login`` is the one line of ``secrets/notify.password``. TLS is required.
    """

    host: str = Field(min_length=1, max_length=253)
    """The relay's name, as its certificate says it."""
    port: Port = 587
    tls: NotifyTls = NotifyTls.STARTTLS
    """How TLS begins: "starttls", or "implicit" from the first octet (port 465)."""
    authority: str | None = None
    """Absolute path: PEM of who vouches for the relay; the machine's own when absent."""
    login: str | None = Field(default=None, min_length=1, max_length=255)
    """The user at the relay; no login when absent."""
    sender: str = Field(max_length=254)
    """The address that notifications are from."""
    every_minutes: int = Field(default=60, ge=1, le=7 * 24 * 60)
    """One person is told of news at most once in so many minutes."""
    remind_from_hour: int = Field(default=8, ge=0, le=23)
    """Nobody is reminded of their agenda earlier in the day, in France."""

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if self.port == 0:
            raise ValueError("the relay's port is not 0")
        if self.authority is not None and not Path(self.authority).is_absolute():
            raise ValueError("the authority of the relay is an absolute path")
        try:
            address = parse_addr_spec(self.sender)
        except MalformedAddressError:
            raise ValueError("the sender of notifications is an address") from None
        if not self.sender.isascii() or "mssante" in address.domain.split("."):
            raise ValueError("the sender of notifications is no address of the trust space")
        return self


class Settings(_Strict):
    """Everything ``pli.toml`` may say."""

    environment: Environment = Environment.TEST
    host: str = Field(default="localhost", min_length=1, max_length=253)
    """The name or address in the server certificate and in the greeting."""
    listen: str = "127.0.0.1"
    """The address the listeners bind."""
    ports: Ports
    demo: bool = False
    plaintext_on_loopback: bool = False
    """Lets 127.0.0.1 log in without TLS; for conformance tools, refused for production."""
    operator_domain: str = "operateur.mssante.test"
    """The domain our own bounces come from."""
    patient_session_minutes: int = Field(default=20, ge=1, le=240)
    limits: Limits = Limits()
    fair_use: FairUse = FairUse()
    trust: TrustSettings = TrustSettings()
    tokens: TokenSettings | None = None
    """Off when absent: no OAUTHBEARER and no XOAUTH2."""
    purge_after_days: int = Field(default=30, ge=1, le=3650)
    """Days that the application mailbox keeps a message after its outcome (RULES §3)."""
    outbound: OutboundLimits = OutboundLimits()
    routes: dict[str, str] = {}
    """Remote domain = "host:port", instead of the domain's MX."""
    hl7v2: dict[str, Hl7Door] = {}
    """Structure id = the door of its own software; off for the others."""
    prevention_off: tuple[str, ...] = ()
    """Structures whose patients are not shown the national prevention calendar (RULES §8)."""
    alsace_moselle: tuple[str, ...] = ()
    """Structures where Good Friday and 26 December are holidays, on which nobody has to read."""
    notify: NotifySettings | None = None
    """Off when absent: nobody is told anything outside the trust space (RULES §14)."""
    nil: str | None = None
    """X-MSS-NIL, the product's reference number; no such header when absent (RULES §14)."""

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.environment is Environment.PRODUCTION and (
            self.demo or self.plaintext_on_loopback
        ):
            raise ValueError("demo and plaintext_on_loopback are refused for production")
        for target in self.routes.values():
            host, _, port = target.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError("a route is written host:port")
        return self

    @property
    def authserv_id(self) -> str:
        """The one name that may sign Authentication-Results here. Source: RFC 8601 §2.5."""
        return self.host

    def route_targets(self) -> dict[str, tuple[str, int]]:
        """Give the routes as domain -> (host, port)."""
        parsed: dict[str, tuple[str, int]] = {}
        for domain, target in self.routes.items():
            host, _, port = target.rpartition(":")
            parsed[domain.lower()] = (host.strip("[]"), int(port))
        return parsed


class Site:
    """Where everything of one site lies.

    Args:
        root: the directory given to ``pli init``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.settings_file = self.root / "pli.toml"
        self.data = self.root / "data"
        self.mail_database = self.data / "mail.sqlite3"
        self.directory_database = self.data / "directory.sqlite3"
        self.record_database = self.data / "record.sqlite3"
        self.pki = self.root / "pki"
        self.peers_ca = self.pki / "peers.pem"
        self.hl7_ca = self.pki / "hl7-clients.pem"
        self.clients_ca = self.pki / "mail-clients.pem"
        self.trust = self.root / "trust"
        self.trust_list = self.trust / "list.xml"
        self.trust_signer = self.trust / "signer.pem"
        self.trust_anchors = self.trust / "https.pem"
        self.token_key = self.trust / "token-issuer.pem"
        self.trust_signer_key = self.trust / "signer.key"
        self.secrets = self.root / "secrets"
        self.hash_key = self.secrets / "hash.key"
        self.trail_key = self.secrets / "trail.key"
        self.notify_password = self.secrets / "notify.password"
        self.applications = self.secrets / "applications.json"
        self.roots = self.root / "roots"
        self.run = self.root / "run"
        self.seal_socket = self.run / "seal.sock"
        self.demo_file = self.root / "demo.json"
        self.demo_directory = self.root / "demo"

    def folders(self) -> tuple[Path, ...]:
        """Every folder of a site, parents first; all of mode 0700."""
        return (self.root, self.data, self.pki, self.trust, self.secrets, self.roots, self.run)

    def settings(self) -> Settings:
        """Read and check ``pli.toml``.

        Raises:
            SettingsError: not a site, unreadable, or a value that cannot be honoured.
        """
        try:
            raw: dict[str, Any] = tomllib.loads(self.settings_file.read_text("utf-8"))
        except FileNotFoundError as error:
            raise SettingsError(f"{self.root} is not a site: run 'pli init' first") from error
        except OSError as error:
            raise SettingsError(
                f"{self.settings_file} cannot be read: run pli as the site's own user"
            ) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            where = re.search(r"\(at [^()]*\)", str(error))
            raise SettingsError(
                f"{self.settings_file} is not TOML {where.group() if where else ''}".rstrip()
            ) from error
        try:
            return Settings.model_validate(raw)
        except ValidationError as error:
            wrong = ", ".join(
                ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
                for item in error.errors()
            )
            raise SettingsError(f"{self.settings_file}: not accepted: {wrong}") from error

    def write_settings(self, settings: Settings) -> None:
        """Write ``pli.toml`` (0600), replacing it in one step."""
        document = settings.model_dump(mode="json", exclude_none=True)
        write_private(self.settings_file, tomli_w.dumps(document).encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 by ``write_whole``."""
    write_whole(path, content, mode=0o600)


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file: whole or absent after a crash, there once this returns.

    Args:
        path: a file before it is replaced.
        content: all of it.
        mode: less what the umask takes away.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
