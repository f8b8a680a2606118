"""Mail programs log in by every mechanism they know, against a running site.

What a program used is read back from the trail, so that none falls back to another unseen. A
program that is not installed is named in the skip. Source: RFC 5802 §5, RFC 7628 §3.1, RFC 4422 §3.
"""

import imaplib
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from pathlib import Path

import imapclient
import pytest

from tests.support.login_site import LoginSite, prepare
from tests.support.site import DemoSite

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginSite]:
    site = DemoSite.create(tmp_path_factory.mktemp("programs") / "site")
    prepared = prepare(site)
    site.start()
    yield prepared
    site.stop()


def wanted(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str, stdin: bytes = b"", home: Path | None = None) -> bytes:
    env = (
        None if home is None else {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    )
    done = subprocess.run(
        command, input=stdin, capture_output=True, check=False, timeout=60, env=env
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    return done.stdout


def letter(where: LoginSite) -> bytes:
    message = EmailMessage()
    message["From"] = message["To"] = where.address
    message["Subject"] = "essai"
    message.set_content("bonjour\n")
    return message.as_bytes(policy=SMTP)


@pytest.mark.parametrize("implicit", [True, False], ids=["465", "587"])
@pytest.mark.parametrize(
    "auth", ["scram-sha-256", "plain", "login", "oauthbearer", "xoauth2", "external"]
)
def test_msmtp_submits(where: LoginSite, tmp_path: Path, auth: str, implicit: bool) -> None:  # noqa: FBT001
    program = wanted("msmtp")
    shown = f"password {where.password}\n"
    if auth in {"oauthbearer", "xoauth2"}:
        shown = f"password {where.token()}\n"
    if auth == "external":
        shown = f"tls_cert_file {where.certificate}\ntls_key_file {where.certificate_key}\n"
    port = where.site.port("submissions" if implicit else "submission")
    settings = tmp_path / "msmtprc"
    settings.write_text(
        f"account a\nhost localhost\nport {port}\ntls on\ntls_starttls {'off' if implicit else 'on'}\n"
        f"tls_trust_file {where.site.demo['ca_file']}\nauth {auth}\nuser {where.address}\n"
        f"{shown}from {where.address}\n"
    )
    settings.chmod(0o600)

    run(
        program,
        "-C",
        str(settings),
        "-a",
        "a",
        where.address,
        stdin=letter(where).replace(b"\r\n", b"\n"),
    )

    assert where.newest_login() == f"smtp {auth.upper()}"


@pytest.mark.parametrize("front", ["imap", "smtp"])
# With a token, curl takes OAUTHBEARER where it is offered, whatever it was told.
@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN", "OAUTHBEARER", "EXTERNAL"])
def test_curl_logs_in(where: LoginSite, tmp_path: Path, auth: str, front: str) -> None:
    options = ["--login-options", f"AUTH={auth}", "--cacert", where.site.demo["ca_file"]]
    if auth == "OAUTHBEARER":
        options += ["--oauth2-bearer", where.token(), "--user", f"{where.address}:"]
    elif auth == "EXTERNAL":
        options += ["--cert", str(where.certificate), "--key", str(where.certificate_key)]
        options += ["--user", f"{where.address}:"]
    else:
        options += ["--user", f"{where.address}:{where.password}"]
    if front == "imap":
        url = f"imaps://localhost:{where.site.port('imaps')}/INBOX"
        options += ["--request", "EXAMINE INBOX"]
    else:
        url = f"smtps://localhost:{where.site.port('submissions')}"
        file = tmp_path / "letter.eml"
        file.write_bytes(letter(where))
        options += ["--mail-from", where.address, "--mail-rcpt", where.address]
        options += ["--upload-file", str(file)]

    run(wanted("curl"), "--silent", "--show-error", *options, url)

    assert where.newest_login() == f"{front} {auth}"


@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
def test_swaks_submits(where: LoginSite, auth: str) -> None:
    run(
        wanted("swaks"), "--server", "localhost", "--port", str(where.site.port("submission")),
        "--tls", "--tls-verify", "--tls-ca-path", where.site.demo["ca_file"], "--auth", auth,
        "--auth-user", where.address, "--auth-password", where.password,
        "--from", where.address, "--to", where.address,
    )  # fmt: skip

    assert where.newest_login() == f"smtp {auth}"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN", "LOGIN", "*"])
def test_mbsync_reads_through_cyrus_sasl(where: LoginSite, tmp_path: Path, mechanism: str) -> None:
    settings = tmp_path / "mbsyncrc"
    settings.write_text(
        f"IMAPStore far\nHost localhost\nPort {where.site.port('imaps')}\nUser {where.address}\n"
        f"Pass {where.password}\nSSLType IMAPS\nAuthMechs {mechanism}\nSystemCertificates no\n"
        f"CertificateFile {where.site.demo['ca_file']}\n\n"
        f"MaildirStore near\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\n"
    )
    (tmp_path / "mail").mkdir()

    run(wanted("mbsync"), "-c", str(settings), "all", home=tmp_path)

    assert where.newest_login() == f"imap {'SCRAM-SHA-256' if mechanism == '*' else mechanism}"


@pytest.mark.parametrize(
    ("program", "mechanism"),
    # Over SMTP both need to be told: GNU SASL takes -PLUS, for which neither gives it a channel
    # binding, and they try nothing else (mutt 2.2.12, neomutt 20220429, Debian 12).
    # This neomutt refuses "scram-sha-256" in its settings.
    [("mutt", "scram-sha-256"), ("mutt", "plain"), ("neomutt", "plain")],
)
def test_mutt_submits(where: LoginSite, tmp_path: Path, program: str, mechanism: str) -> None:
    found = wanted(program)
    user = where.address.replace("@", "%40")
    settings = tmp_path / "muttrc"
    settings.write_text(
        f'set smtp_url="smtps://{user}@localhost:{where.site.port("submissions")}/"\n'
        f'set smtp_pass="{where.password}"\nset smtp_authenticators="{mechanism}"\n'
        f'set from="{where.address}"\nset use_from=yes\nset record=""\nset copy=no\n'
        f'set ssl_ca_certificates_file="{where.site.demo["ca_file"]}"\n'
        f'set certificate_file="{where.site.demo["ca_file"]}"\nset ssl_force_tls=yes\n'
    )

    run(
        found,
        "-n",
        "-F",
        str(settings),
        "-s",
        "essai",
        where.address,
        stdin=b"bonjour\n",
        home=tmp_path,
    )

    assert where.newest_login() == f"smtp {mechanism.upper()}"


@pytest.mark.parametrize("auth", ["oauthbearer", "plain", "login", "external"])
def test_s_nail_submits(where: LoginSite, auth: str) -> None:
    user = where.address.replace("@", "%40")
    password = where.token() if auth in {"oauthbearer", "xoauth2"} else where.password
    options = {
        "v15-compat": "yes",
        "mta": f"smtps://{user}:{password}@localhost:{where.site.port('submissions')}",
        "smtp-auth": auth,
        "tls-ca-file": where.site.demo["ca_file"],
        "tls-ca-no-defaults": "yes",
        "tls-verify": "strict",
        "from": where.address,
        "sendwait": "yes",
    }
    if auth == "external":
        options["tls-config-pairs"] = (
            f"Certificate={where.certificate},PrivateKey={where.certificate_key}"
        )
    chosen = [word for key, value in options.items() for word in ("-S", f"{key}={value}")]

    run(wanted("s-nail"), "-:/", *chosen, "-s", "essai", where.address, stdin=b"bonjour\n")

    # What s-nail 14.9.24 calls oauthbearer is XOAUTH2 on the wire.
    said = "XOAUTH2" if auth == "oauthbearer" else auth.upper()
    assert where.newest_login() == f"smtp {said}"


@pytest.mark.parametrize("auth", ["LOGIN command", "PLAIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"])
def test_imapclient_logs_in(where: LoginSite, auth: str) -> None:
    tls = where.site.tls()
    tls.load_cert_chain(where.certificate, where.certificate_key)
    with imapclient.IMAPClient(
        "localhost", where.site.port("imaps"), ssl_context=tls, timeout=30
    ) as client:
        match auth:
            case "PLAIN":
                client.plain_login(where.address, where.password)
            case "XOAUTH2":
                client.oauth2_login(where.address, where.token())
            case "OAUTHBEARER":
                client.oauthbearer_login(where.address, where.token())
            case "EXTERNAL":
                client.sasl_login("EXTERNAL", lambda _challenge: b"")
            case _:
                client.login(where.address, where.password)
        client.select_folder("INBOX", readonly=True)

    assert where.newest_login() == f"imap {auth.removesuffix(' command')}"


def xoauth2(where: LoginSite, _challenge: bytes | None = None) -> str:
    return f"user={where.address}\x01auth=Bearer {where.token()}\x01\x01"


def test_the_standard_library_logs_in(where: LoginSite) -> None:
    tls = where.site.tls()
    with imaplib.IMAP4_SSL("localhost", where.site.port("imaps"), ssl_context=tls) as imap:
        first = f"\0{where.address}\0{where.password}".encode()
        assert imap.authenticate("PLAIN", lambda _challenge: first)[0] == "OK"
    assert where.newest_login() == "imap PLAIN"
    for auth in ("PLAIN", "LOGIN", "XOAUTH2"):
        with smtplib.SMTP_SSL("localhost", where.site.port("submissions"), context=tls) as smtp:
            smtp.ehlo()
            smtp.user, smtp.password = where.address, where.password  # type: ignore[assignment]
            forms = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login}
            smtp.auth(auth, forms.get(auth, partial(xoauth2, where)))  # type: ignore[arg-type]

        assert where.newest_login() == f"smtp {auth}"


def test_a_program_with_the_token_of_somebody_else_is_refused(where: LoginSite) -> None:
    with (
        imapclient.IMAPClient(
            "localhost", where.site.port("imaps"), ssl_context=where.site.tls(), timeout=30
        ) as client,
        pytest.raises(imapclient.exceptions.LoginError),
    ):
        client.oauthbearer_login(where.address, where.token(sub="another"))
