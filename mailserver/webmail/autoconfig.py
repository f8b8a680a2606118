"""How mail clients set themselves up: Mozilla autoconfig, Outlook autodiscover, Apple profiles.

Anybody may ask, and everybody gets the same: no answer says whether an address exists here.

Source: Mozilla's Autoconfiguration, Microsoft's Autodiscover publishing protocol (POX), Apple's
Configuration Profile Reference, RFC 6186 §3.
"""

import plistlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lxml import etree
from lxml.builder import E, ElementMaker
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from certs.addresses import parse_addr_spec
from certs.errors import MalformedAddressError
from mailserver.webmail.services import MailService
from mailserver.webmail.session import services_of
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats.safe_xml import parse_xml

MAX_REQUEST: Final = 16 * 1024
_OUTLOOK: Final = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_RESPONSE: Final = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
_NAME: Final = "Messagerie sécurisée de santé"
_SPACE: Final = uuid.UUID("6b1f5bb4-8f0c-4d55-9d0b-1d6f5a0a7f0e")
"""Names profiles: the same address on the same site is the same profile."""


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: what it speaks, where, and whether TLS comes first or by STARTTLS."""

    protocol: str
    port: int
    security: str


def doors(mail: MailService) -> tuple[Door, ...]:
    """Give the ways in, the best first. Source: RFC 8314 §3."""
    return (
        Door("imap", mail.imaps, "SSL"),
        Door("imap", mail.imap, "STARTTLS"),
        Door("smtp", mail.submissions, "SSL"),
        Door("smtp", mail.submission, "STARTTLS"),
    )


def mozilla(mail: MailService) -> bytes:
    """Write ``config-v1.1.xml``; the client puts its own address in."""

    def server(door: Door) -> etree._Element:
        word = "incomingServer" if door.protocol == "imap" else "outgoingServer"
        written: etree._Element = E(
            word,
            {"type": door.protocol},
            E.hostname(mail.host),
            E.port(str(door.port)),
            E.socketType(door.security),
            E.username("%EMAILADDRESS%"),
            E.authentication("password-cleartext"),
        )
        return written

    provider = E.emailProvider(
        {"id": mail.host},
        E.domain("%EMAILDOMAIN%"),
        E.displayName(_NAME),
        E.displayShortName("MSSanté"),
        *map(server, doors(mail)),
    )
    return _document(E.clientConfig({"version": "1.1"}, provider))


def outlook(mail: MailService, address: str) -> bytes:
    """Write an autodiscover response."""
    make = ElementMaker(namespace=_OUTLOOK, nsmap={None: _OUTLOOK})

    def protocol(door: Door) -> etree._Element:
        written: etree._Element = make.Protocol(
            make.Type(door.protocol.upper()),
            make.Server(mail.host),
            make.Port(str(door.port)),
            make.LoginName(address),
            make.SPA("off"),
            make.SSL("on"),
            make.Encryption("SSL" if door.security == "SSL" else "TLS"),
            make.AuthRequired("on"),
        )
        return written

    account = make.Account(
        make.AccountType("email"), make.Action("settings"), *map(protocol, doors(mail))
    )
    root = ElementMaker(namespace=_RESPONSE, nsmap={None: _RESPONSE})
    return _document(root.Autodiscover(make.Response(account)))


def apple(mail: MailService, address: str) -> bytes:
    """Write a configuration profile, to be signed."""
    name = f"{mail.host}:{address}"
    payload = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{mail.host}.mail",
        "PayloadUUID": str(uuid.uuid5(_SPACE, f"mail:{name}")),
        "PayloadDisplayName": _NAME,
        "EmailAccountType": "EmailTypeIMAP",
        "EmailAccountDescription": _NAME,
        "EmailAddress": address,
        "IncomingMailServerAuthentication": "EmailAuthPassword",
        "IncomingMailServerHostName": mail.host,
        "IncomingMailServerPortNumber": mail.imaps,
        "IncomingMailServerUseSSL": True,
        "IncomingMailServerUsername": address,
        "OutgoingMailServerAuthentication": "EmailAuthPassword",
        "OutgoingMailServerHostName": mail.host,
        "OutgoingMailServerPortNumber": mail.submissions,
        "OutgoingMailServerUseSSL": True,
        "OutgoingMailServerUsername": address,
        "OutgoingPasswordSameAsIncomingPassword": True,
        "SMIMEEnabled": False,
    }
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": mail.host,
            "PayloadUUID": str(uuid.uuid5(_SPACE, name)),
            "PayloadDisplayName": _NAME,
            "PayloadContent": [payload],
        }
    )


def dns_records(mail: MailService, domains: Iterable[str]) -> list[str]:
    """Give the lines of a zone that let clients and operators find this site.

    Source: RFC 6186 §3, RFC 8314 §5, RFC 5321 §5, RFC 8659 §4.
    """
    found = []
    for domain in domains:
        services = (
            ("_imaps._tcp", f"0 1 {mail.imaps} {mail.host}."),
            ("_imap._tcp", f"10 1 {mail.imap} {mail.host}."),
            ("_submissions._tcp", f"0 1 {mail.submissions} {mail.host}."),
            ("_submission._tcp", f"10 1 {mail.submission} {mail.host}."),
            ("_pop3._tcp", "0 0 0 ."),
            ("_pop3s._tcp", "0 0 0 ."),
            ("_autodiscover._tcp", f"0 1 {mail.https} {mail.host}."),
        )
        found.append(f"{domain}. IN MX 10 {mail.host}.")
        found.extend(f"{name}.{domain}. IN SRV {target}" for name, target in services)
        found.append(f"autoconfig.{domain}. IN CNAME {mail.host}.")
        found.append(f"autodiscover.{domain}. IN CNAME {mail.host}.")
    return found


async def config(request: Request) -> Response:
    """Answer Thunderbird and its kin."""
    return Response(mozilla(services_of(request).settings.mail), media_type="text/xml")


async def autodiscover(request: Request) -> Response:
    """Answer Outlook: the address it sends comes back, known here or not."""
    body = await request.body()
    if len(body) > MAX_REQUEST:
        raise HTTPException(413)
    try:
        document = parse_xml(body, MalformedDocumentError)
    except MalformedDocumentError as error:
        raise HTTPException(400) from error
    asked = [e.text or "" for e in document.iter("{*}EMailAddress")]
    mail = services_of(request).settings.mail
    return Response(outlook(mail, _address(asked[0] if asked else "")), media_type="text/xml")


async def profile(request: Request) -> Response:
    """Answer Apple's mail clients with a signed profile."""
    address = _address(request.query_params.get("adresse", ""))
    settings = services_of(request).settings
    signed = settings.sign(apple(settings.mail, address))
    return Response(
        signed,
        media_type="application/x-apple-aspen-config",
        headers={"Content-Disposition": 'attachment; filename="pli.mobileconfig"'},
    )


def _address(text: str) -> str:
    try:
        return parse_addr_spec(text.strip()).text
    except MalformedAddressError as error:
        raise HTTPException(400) from error


def _document(root: etree._Element) -> bytes:
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return written
