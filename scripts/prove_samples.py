"""Published sample documents, end to end, on four demo sites; exit 0 when all is as it must be.

The documents are somebody else's: they are read from the folder given, never kept. Traits are
read here with a few lines of our own, apart from the server's reader.
"""

import argparse
import contextlib
import imaplib
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lxml import etree

from tests.support.browser import Browser
from tests.support.site import DemoSite, pli, pli_result, receiver

STRUCTURE = "cardiologie"
INS_OIDS = {f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11)}
NS = {"h": "urn:hl7-org:v3"}


@dataclass(frozen=True)
class Traits:
    """A patient as a document's header names one."""

    ins: str
    oid: str
    family: str
    given: str
    birth_date: str
    sex: str
    birth_place: str | None


def traits_of(document: Path) -> Traits:
    """Read recordTarget."""
    parser = etree.XMLParser(huge_tree=True, resolve_entities=False, no_network=True)
    root = etree.parse(document, parser).getroot()
    role = root.find(".//h:recordTarget/h:patientRole", NS)
    number = next(n for n in role.findall("h:id", NS) if n.get("root") in INS_OIDS)
    patient = role.find("h:patient", NS)
    family = patient.findtext("h:name/h:family[@qualifier='BR']", namespaces=NS)
    given = patient.findtext("h:name/h:given[@qualifier='BR']", namespaces=NS)
    born = patient.find("h:birthTime", NS).get("value")
    place = patient.findtext("h:birthplace/h:place/h:addr/h:county", namespaces=NS)
    return Traits(
        ins=number.get("extension"),
        oid=number.get("root"),
        family=family.strip(),
        given=given.strip(),
        birth_date=f"{born[:4]}-{born[4:6]}-{born[6:8]}",
        sex=patient.find("h:administrativeGenderCode", NS).get("code"),
        birth_place=place.strip() if place and place.strip() else None,
    )


class Checks:
    """Counts what holds and prints what does not."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, holds: object, text: str) -> None:
        """Print one check."""
        self.failed += not holds
        print(f"  {'ok ' if holds else 'NOT'} {text}", flush=True)


@contextlib.contextmanager
def serving(site: DemoSite) -> Iterator[None]:
    """Run the server and the hospital that its answers go to."""
    site.start()
    try:
        with receiver(site):
            yield
    finally:
        site.stop()


def register(site: DemoSite, traits: Traits, login: str | None = None) -> Any:
    """Register a patient with the command line."""
    arguments = [
        "patient", "add", str(site.root), "--structure", STRUCTURE, "--ins", traits.ins,
        "--oid", traits.oid, "--family", traits.family, "--given", traits.given,
        "--birth-date", traits.birth_date, "--sex", traits.sex, "--json",
    ]  # fmt: skip
    if traits.birth_place:
        arguments += ["--birth-place", traits.birth_place]
    if login:
        arguments += ["--login", login]
    return pli(*arguments)


def address_of(site: DemoSite, traits: Traits) -> str:
    """The patient's address in the structure."""
    domain = next(s["patient_domain"] for s in site.demo["structures"] if s["id"] == STRUCTURE)
    return f"{traits.ins}@{domain}"


def deliver(site: DemoSite, documents: dict[Path, Traits], *, to_patient: bool) -> None:
    """Send each document in a message of its own; wait until all is settled."""
    professional = site.demo["practitioners"][0]["address"]
    for path, traits in documents.items():
        recipients = [professional, *([address_of(site, traits)] if to_patient else [])]
        site.send(*recipients, files=[path])
    site.wait_idle(timeout=30)


def records(site: DemoSite, everybody: set[Traits]) -> dict[str, dict[str, Any]]:
    """Give every filed document of the site by unique id."""
    found: dict[str, dict[str, Any]] = {}
    for ins, oid in {(t.ins, t.oid) for t in everybody}:
        for row in pli(
            "record", "list", str(site.root), "--ins", ins, "--oid", oid,
            "--structure", STRUCTURE, "--json",
        ):  # fmt: skip
            found[row["unique_id"]] = row
    return found


def codes(site: DemoSite) -> Counter[str]:
    """Count the open quarantine by code."""
    rows = pli("quarantine", "list", str(site.root), "--json")
    return Counter(str(row["code"]) for row in rows)


def audit(site: DemoSite, check: Checks, **expected: int) -> None:
    """Check the books."""
    code, output, errors = pli_result("audit", "verify", str(site.root), "--json")
    check(code == 0, f"pli audit verify exits 0 ({code}){errors.strip()}")
    found = {key: int(value) for key, value in re.findall(r'"(\w+)": (\d+)', output)}
    check(
        all(found.get(key) == value for key, value in expected.items()),
        f"the books: expected {expected}, found {found}",
    )


def known_patients(folder: Path, documents: dict[Path, Traits], check: Checks) -> None:
    """Patients registered with the traits of the first document of each."""
    print("patients known by the first document of each; sent twice, to the patient too")
    firsts = first_traits(documents)
    site = DemoSite.create(folder / "site")
    with serving(site):
        patients = {
            key: register(site, traits, f"patient.{number}")
            for number, (key, traits) in enumerate(firsts.items())
        }
        deliver(site, documents, to_patient=True)
        filed = records(site, set(documents.values()))
        check(len(filed) == len(documents) - 1, f"{len(filed)} filed of {len(documents)}")
        check(codes(site) == Counter({"904": 1}), f"quarantine {dict(codes(site))}")
        rows = pli("quarantine", "list", str(site.root), "--json")
        odd = next(
            path
            for path, t in documents.items()
            if t != firsts[(t.ins, t.oid)] and t.birth_date != firsts[(t.ins, t.oid)].birth_date
        )
        check("CANCER-PPS" in odd.name and len(rows) == 1, f"it is {odd.name}")
        audit(
            site,
            check,
            received=len(documents),
            filed=len(documents) - 1,
            quarantined=1,
            duplicates=0,
            pending=0,
        )
        deliver(site, documents, to_patient=True)
        check(len(records(site, set(documents.values()))) == len(filed), "sent again: filed once")
        audit(site, check, received=2 * len(documents), duplicates=len(documents) - 1, pending=0)
        seen = sum(see_as_patient(site, patients[key], firsts[key]) for key in firsts)
        check(seen == len(filed), f"{seen} documents visible in the webmail")
        mails = sum(read_as_patient(site, firsts[key]) for key in firsts)
        check(mails == 2 * len(filed), f"{mails} messages released to the patients over IMAP")


def see_as_patient(site: DemoSite, account: dict[str, Any], _traits: Traits) -> int:
    """Count the documents that the patient's webmail lists."""
    browser = Browser(f"https://localhost:{site.port('https')}", site.tls())
    browser.sign_in(
        account["webmail_login"], account["webmail_password"], account["webmail_totp_secret"]
    )
    page = browser.get("/dossier")
    links = set(re.findall(r'href="(/dossier/document/[^"]+)"', page))
    for category in set(re.findall(r'href="(/dossier/categorie/[^"]+)"', page)):
        links |= set(re.findall(r'href="(/dossier/document/[^"]+)"', browser.get(category)))
    for link in links:
        browser.get(link)
    return len(links)


def read_as_patient(site: DemoSite, traits: Traits) -> int:
    """Count the messages in the patient's INBOX over IMAP."""
    address = address_of(site, traits)
    device = pli("device", "add", str(site.root), address, "preuve", "--json")
    with imaplib.IMAP4_SSL("localhost", site.port("imaps"), ssl_context=site.tls()) as client:
        client.login(address, device["password"])
        return int(client.select("INBOX", readonly=True)[1][0] or b"0")


def other_birth_dates(folder: Path, documents: dict[Path, Traits], check: Checks) -> None:
    """The same people, each with another birth date."""
    print("every birth date differs")
    site = DemoSite.create(folder / "site")
    with serving(site):
        for traits in first_traits(documents).values():
            register(site, replace(traits, birth_date="1901-02-03"))
        deliver(site, documents, to_patient=False)
        check(codes(site) == Counter({"904": len(documents)}), f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=0, quarantined=len(documents))


def unknown_patients(folder: Path, documents: dict[Path, Traits], check: Checks) -> None:
    """Nobody is known; then everybody is registered."""
    print("nobody is known; then everybody is registered")
    site = DemoSite.create(folder / "site")
    with serving(site):
        path, traits = next(iter(documents.items()))
        sent = site.send(
            site.demo["practitioners"][0]["address"], address_of(site, traits), files=[path]
        )
        refused = [row for row in sent["recipients"] if not row["accepted"]]
        check(
            len(refused) == 1 and refused[0]["reply"].startswith("550 5.1.1"),
            f"an unknown patient's address is refused at RCPT: {refused[0]['reply'][:9]}",
        )
        rest = dict(list(documents.items())[1:])
        deliver(site, rest, to_patient=False)
        check(codes(site) == Counter({"902": len(documents)}), f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=0, quarantined=len(documents))
        for known in first_traits(documents).values():
            register(site, known)
        site.wait_idle(timeout=30)
        filed = records(site, set(documents.values()))
        check(len(filed) == len(documents) - 1, f"{len(filed)} filed themselves")
        check(codes(site) == Counter({"904": 1}), f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=len(documents) - 1, quarantined=1)


def first_traits(documents: dict[Path, Traits]) -> dict[tuple[str, str], Traits]:
    """Give each patient's traits as the first document has them."""
    firsts: dict[tuple[str, str], Traits] = {}
    for traits in documents.values():
        firsts.setdefault((traits.ins, traits.oid), traits)
    return firsts


def main() -> int:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="published CDA documents, *.xml")
    parser.add_argument("--keep", type=Path, help="make the sites here and keep them")
    options = parser.parse_args()
    documents = {path: traits_of(path) for path in sorted(options.folder.resolve().glob("*.xml"))}
    print(f"{len(documents)} documents of {len(first_traits(documents))} patients")
    check = Checks()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pli-samples-"))
        )
        for scenario in (known_patients, other_birth_dates, unknown_patients):
            place = folder.resolve() / scenario.__name__
            place.mkdir(parents=True)
            scenario(place, documents, check)
    print("all as it must be" if not check.failed else f"{check.failed} checks failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
