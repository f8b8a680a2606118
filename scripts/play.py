"""Plays the main job on a fresh demo site and verifies it from outside.

A hospital sends a signed report over mutual TLS; the professional reads it over IMAP; the bridge
files it into the patient's record and agenda; the hospital gets its coded answer; the patient
sees the report in the webmail. Nothing here imports the server: it speaks to it as others do,
with the ``pli`` command, imaplib and HTTP.
"""

import argparse
import contextlib
import email
import email.policy
import imaplib
import re
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.browser import Browser
from tests.support.reports import discharge_letter
from tests.support.site import PLI, DemoSite, PliError, pli, receiver

ANSWER_S = 60.0
PREFERRED_BASE = 10000


class DemoFailedError(Exception):
    """One of the checks failed; its text says which."""


def require(condition: object, what: str) -> None:
    """Print the check, or fail on it."""
    if not condition:
        raise DemoFailedError(what)
    print(f"  ok  {what}", flush=True)


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def send_report(site: DemoSite, folder: Path) -> str:
    """Send one report, as the hospital, to the professional and to the patient."""
    patient = site.demo["patients"][0]
    report = folder / "lettre-de-liaison.xml"
    in_three_weeks = datetime.now(UTC) + timedelta(days=21)
    report.write_bytes(discharge_letter(patient, folder.name, f"{in_three_weeks:%Y%m%d}0930+0100"))
    result = site.send(
        site.demo["practitioners"][0]["address"], patient["address"], files=[report]
    )
    accepted = [row["accepted"] for row in result["recipients"]]
    require(accepted == [True, True], "the hospital's report was accepted over mutual TLS (250)")
    return str(result["receipt"])


def read_as_professional(site: DemoSite) -> None:
    """Look into the professional's INBOX over IMAP with TLS."""
    person = site.demo["practitioners"][0]
    with imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=site.tls()) as client:
        client.login(person["address"], person["password"])
        client.select("INBOX", readonly=True)
        _status, found = client.search(None, "ALL")
        numbers = found[0].split()
        require(len(numbers) == 1, "the professional has the report in the INBOX")
        _status, data = client.fetch(numbers[0].decode(), "(FLAGS BODY.PEEK[])")
    response = b" ".join(
        piece for row in data for piece in (row if isinstance(row, tuple) else (row,))[::2]
    )
    raw = next(row[1] for row in data if isinstance(row, tuple))
    message = email.message_from_bytes(raw, policy=email.policy.default)
    require("XDM/1.0/DDM+" in str(message["Subject"]), "its subject follows the XDM rule")
    verdict = " ".join(str(value) for value in message.get_all("Authentication-Results", []))
    require("smime=pass" in verdict, "Authentication-Results says that the signature holds")
    flags = response + raw[:0]
    require(b"$SignatureValid" in flags, "the client sees the signature verdict as a keyword")
    require(b"$Filed" in flags, "the client sees that the report was filed")
    names = [part.get_filename() for part in message.walk()]
    require("IHE_XDM.zip" in names, "the package IHE_XDM.zip is attached")


def read_answer_as_hospital(folder: Path) -> None:
    """Look for the MDN in the hospital's receiver."""
    until = time.monotonic() + ANSWER_S
    answers: list[bytes] = []
    while time.monotonic() < until and not answers:
        answers = [path.read_bytes() for path in sorted(folder.glob("*.eml"))]
        time.sleep(0.1)
    require(answers, "the hospital received an answer over mutual TLS")
    text = re.sub(rb"\r?\n[ \t]+", b" ", answers[0])
    require(
        re.search(rb"(?i)report-type=\"?disposition-notification", text), "the answer is an MDN"
    )
    require(
        re.search(rb"(?im)^disposition:[^\r\n]*;\s*processed\s*\r?$", text),
        "the MDN says: processed",
    )


def read_as_patient(site: DemoSite) -> None:
    """Sign in to the webmail with password and TOTP; look at the report and the agenda."""
    patient = site.demo["patients"][0]
    browser = Browser(f"https://localhost:{site.port('https')}", site.tls())
    home = browser.sign_in(
        patient["webmail_login"], patient["webmail_password"], patient["webmail_totp_secret"]
    )
    require("Se déconnecter" in home, "the patient signs in with password and TOTP")
    record = browser.get("/dossier")
    require("Lettre de liaison" in record, "the report is in the record")
    agenda = browser.get("/agenda")
    require("consultation" in agenda.lower(), "its follow-up is in the agenda")
    messages = browser.get("/messagerie")
    require("Lettre de liaison" in messages, "the message is in the webmail")


def check_books(site: DemoSite) -> None:
    """Ask for the record, the agenda, and the balance of the books."""
    patient = site.demo["patients"][0]
    who = ("--ins", patient["ins"], "--oid", patient["oid"], "--structure", patient["structure"])
    root = str(site.root)
    record = pli("record", "list", root, *who, "--json")
    require(
        [row["status"] for row in record] == ["current"] and record[0]["visibility"] == "visible",
        "one current document in the record, visible to the patient",
    )
    agenda = pli("agenda", "list", root, *who, "--json")
    require(len(agenda) >= 1, "an agenda entry from the report")
    audit = pli("audit", "verify", root, "--json")
    require(
        audit["balanced"] and audit["received"] == audit["filed"] == 1,
        "pli audit verify: received 1 = filed 1, balanced",
    )


def say_where_to_look(site: DemoSite) -> None:
    """Print what a newcomer needs to look around."""
    person, patient = site.demo["practitioners"][0], site.demo["patients"][0]
    say("")
    say("Where to look (everything is fictitious; the certificate authority is a practice one):")
    say(f"  certificate authority   {site.demo['ca_file']}")
    say("  mail client of the professional")
    say(f"    IMAP        localhost:{site.port('imaps')} (TLS), {site.port('imap')} (STARTTLS)")
    say(
        f"    submission  localhost:{site.port('submissions')} (TLS), "
        f"{site.port('submission')} (STARTTLS)"
    )
    say(f"    login       {person['address']}")
    say(f"    password    {person['password']}")
    say(f"  webmail                   https://localhost:{site.port('https')}/")
    for who, account in (("the patient", patient), ("the professional", person)):
        secret = account["webmail_totp_secret"]
        code = f'import pyotp; print(pyotp.TOTP("{secret}").now())'
        say(f"   as {who}")
        say(f"    login       {account['webmail_login']}")
        say(f"    password    {account['webmail_password']}")
        say(f"    TOTP        {secret} (add it to an authenticator, or for a code:")
        say(f"                {sys.executable} -c '{code}' )")
    say(f"  all accounts              {site.root / 'demo.json'}")
    say(
        f"  what was filed            {PLI} record list {site.root} --ins {patient['ins']} "
        f"--oid {patient['oid']} --structure {patient['structure']}"
    )


def play(root: Path, *, check: bool) -> None:
    """Make the site, play the main job, verify it; serve on unless only checking."""
    say("Making a demo site: PKI, databases, people")
    site = DemoSite.create(root, base=PREFERRED_BASE)
    with contextlib.ExitStack() as stack:
        site.start()
        stack.callback(site.stop)
        inbox = stack.enter_context(receiver(site))
        say("A hospital sends a signed report to a professional and to the patient")
        send_report(site, root.parent)
        site.wait_idle()
        read_as_professional(site)
        read_answer_as_hospital(inbox)
        read_as_patient(site)
        check_books(site)
        if not check:
            say_where_to_look(site)
            say("")
            say("Serving until Ctrl-C; the demo site is removed then.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            say("")
        stack.pop_all().close()
    say("stopped cleanly")


def main() -> int:
    """Play, verify, and either stop or serve on."""
    parser = argparse.ArgumentParser(description="Play the main job on a fresh demo site.")
    parser.add_argument("--check", action="store_true", help="verify from outside, then stop")
    parser.add_argument("--dir", type=Path, help="where to make it (default: a new folder)")
    options = parser.parse_args()
    folder = (options.dir or Path(tempfile.mkdtemp(prefix="pli-demo-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # However it is ended, the server that it started ends with it.
        signal.signal(number, signal.default_int_handler)
    try:
        play(folder / "site", check=options.check)
    except (DemoFailedError, PliError, RuntimeError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        print(f"the site and its logs are kept in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the server was stopped", file=sys.stderr)
        if options.dir is None:
            shutil.rmtree(folder)
        return 130
    if options.dir is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
