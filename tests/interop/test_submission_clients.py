"""Command-line mail programs submit to a running site, unmodified, on 587 and on 465.

Each sends a text with accents, dots and an attachment where it can; the recipient reads it over
IMAP. A program that is not installed is named in the skip. Source: RFC 6409 §3.1, RFC 8314 §3.3.
"""

import shutil
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from tests.support.clients import Account, Held, read, until
from tests.support.site import DemoSite

pytestmark = pytest.mark.timeout(120)
PDF = b"%PDF-1.4\n\0\xff\r." * 500
BODY = "Bonjour,\n.\n..\n.fin\nÉvolution favorable à six mois.\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    site = DemoSite.create(tmp_path_factory.mktemp("clients") / "site")
    site.start()
    yield site
    site.stop()


@dataclass(frozen=True, slots=True)
class Letter:
    """Who sends what to whom, through which door."""

    site: DemoSite
    folder: Path
    sender: Account
    recipient: Account
    implicit: bool

    @property
    def port(self) -> int:
        return self.site.port("submissions" if self.implicit else "submission")

    @property
    def subject(self) -> str:
        return f"Compte rendu {self.folder.name}"

    @property
    def message(self) -> bytes:
        letter = EmailMessage()
        letter["From"] = self.sender["address"]
        letter["To"] = self.recipient["address"]
        letter["Subject"] = self.subject
        letter.set_content(BODY, cte="quoted-printable")
        letter.add_attachment(PDF, maintype="application", subtype="pdf")
        return letter.as_bytes(policy=SMTP)

    def run(self, *command: str, stdin: bytes = b"") -> None:
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def swaks(letter: Letter) -> None:
    file = letter.folder / "letter.eml"
    file.write_bytes(letter.message)
    letter.run(
        "swaks", "--server", "localhost", "--port", str(letter.port),
        "--tls-on-connect" if letter.implicit else "--tls", "--tls-verify",
        "--tls-ca-path", letter.site.demo["ca_file"], "--auth", "LOGIN",
        "--auth-user", letter.sender["address"], "--auth-password", letter.sender["password"],
        "--from", letter.sender["address"], "--to", letter.recipient["address"],
        "--data", f"@{file}", "--ehlo", "poste.cabinet.test",
    )  # fmt: skip


def msmtp(letter: Letter) -> None:
    settings = letter.folder / "msmtprc"
    settings.write_text(
        f"account a\nhost localhost\nport {letter.port}\ntls on\n"
        f"tls_starttls {'off' if letter.implicit else 'on'}\n"
        f"tls_trust_file {letter.site.demo['ca_file']}\nauth plain\n"
        f"user {letter.sender['address']}\npassword {letter.sender['password']}\n"
        f"from {letter.sender['address']}\n"
    )
    settings.chmod(0o600)
    command = ("msmtp", "-C", str(settings), "-a", "a", letter.recipient["address"])
    letter.run(*command, stdin=letter.message.replace(b"\r\n", b"\n"))


def s_nail(letter: Letter) -> None:
    address, password = (letter.sender[key].replace("@", "%40") for key in ("address", "password"))
    scheme = "smtps" if letter.implicit else "submission"
    options = {
        "v15-compat": "yes",
        "mta": f"{scheme}://{address}:{password}@localhost:{letter.port}",
        "smtp-use-starttls": "yes",
        "smtp-auth": "plain",
        "tls-ca-file": letter.site.demo["ca_file"],
        "tls-ca-no-defaults": "yes",
        "tls-verify": "strict",
        "from": letter.sender["address"],
        "sendcharsets": "utf-8",
        "ttycharset": "utf-8",
        "sendwait": "yes",
    }
    chosen = [word for key, value in options.items() for word in ("-S", f"{key}={value}")]
    pdf = letter.folder / "a.pdf"
    pdf.write_bytes(PDF)
    letter.run(
        "s-nail", "-:/", *chosen, "-s", letter.subject,
        "-a", str(pdf), letter.recipient["address"], stdin=BODY.encode(),
    )  # fmt: skip


def standard_library(letter: Letter) -> None:
    tls = letter.site.tls()
    client = (
        smtplib.SMTP_SSL("localhost", letter.port, context=tls, timeout=30)
        if letter.implicit
        else smtplib.SMTP("localhost", letter.port, timeout=30)
    )
    with client:
        if not letter.implicit:
            client.starttls(context=tls)
        client.login(letter.sender["address"], letter.sender["password"])
        refused = client.sendmail(
            letter.sender["address"],
            [letter.recipient["address"]],
            letter.message,
            ["RET=HDRS"],
            ["NOTIFY=FAILURE"],
        )
    assert refused == {}


PROGRAMS: dict[str, Callable[[Letter], None]] = {
    "swaks": swaks,
    "msmtp": msmtp,
    "s-nail": s_nail,
    "smtplib": standard_library,
}


@pytest.mark.parametrize("port", [587, 465])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_submits_and_the_recipient_reads(
    site: DemoSite, tmp_path: Path, program: str, port: int
) -> None:
    if program != "smtplib" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    sender, recipient = site.demo["practitioners"][:2]
    letter = Letter(site, tmp_path, sender, recipient, implicit=port == 465)

    PROGRAMS[program](letter)

    def arrived() -> Held | None:
        found = read(site, recipient).values()
        return next(
            (held for held in found if str(held.message["Subject"]) == letter.subject), None
        )

    held = until(arrived, "the letter")
    parts = list(held.message.walk())
    text = next(part for part in parts if part.get_content_type() == "text/plain")
    assert text.get_payload(decode=True).decode().replace("\r\n", "\n") == BODY  # type: ignore[union-attr]
    pdf = next(part for part in parts if part.get_content_type() == "application/pdf")
    assert pdf.get_payload(decode=True) == PDF
    assert "auth=pass" in held.results
