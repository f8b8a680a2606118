"""Published sample documents, end to end, on three demo sites; exit 0 when all is as it must be.

The documents are somebody else's: they are read from the folder given, never kept. Traits are
read and outcomes foretold here with a few lines of our own, apart from the server's reader.
With --mutations the documents are varied at random instead, each N times, without a site.
"""

import argparse
import contextlib
import imaplib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lxml import etree

from record_bridge.model import InsMatricule, InsTraits, Sex
from tests.support import variations
from tests.support.browser import Browser
from tests.support.site import DemoSite, pli, pli_result, receiver

STRUCTURE = "cardiologie"
INS_OIDS = {f"1.2.250.1.213.1.4.{arc}" for arc in (2, 6, 8, 9, 10, 11)}
KEYED_OIDS = {f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9)}
NS = {"h": "urn:hl7-org:v3"}


@dataclass(frozen=True)
class Traits:
    """A patient as a document's header names one; "" for what it does not say."""

    ins: str
    oid: str
    family: str
    given: str
    birth_date: str
    sex: str
    birth_place: str | None
    unique_id: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Number and authority."""
        return self.ins, self.oid

    @property
    def code(self) -> str:
        """The code of RULES §5 that the document has wherever it comes, "" when it has none."""
        if not self.ins:
            return "903"
        if self.oid in KEYED_OIDS and not has_key(self.ins):
            return "906"
        whole = (
            self.family and self.given and self.sex and re.fullmatch(r"[\d-]{10}", self.birth_date)
        )
        return "" if whole else "905"

    def differs(self, other: "Traits") -> bool:
        """Whether a strict trait differs (no name of the documents needs normalising)."""
        mine, theirs = (
            (t.family.upper(), t.given.upper(), t.birth_date, t.sex) for t in (self, other)
        )
        places = {self.birth_place, other.birth_place} - {None}
        return mine != theirs or len(places) > 1


def has_key(ins: str) -> bool:
    """Whether the last two digits are the key of the others."""
    number = ins[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and len(ins) == 15 and int(ins[13:]) == 97 - int(number) % 97


def traits_of(document: Path) -> Traits:
    """Read recordTarget."""
    parser = etree.XMLParser(huge_tree=True, resolve_entities=False, no_network=True)
    root = etree.parse(document, parser).getroot()
    header = (
        root if root.tag.endswith("}ClinicalDocument") else root.find(".//h:ClinicalDocument", NS)
    )
    role = header.find("h:recordTarget/h:patientRole", NS)
    numbers = [n for n in role.findall("h:id", NS) if n.get("root") in INS_OIDS]
    patient = role.find("h:patient", NS)
    family = patient.findtext("h:name/h:family[@qualifier='BR']", "", NS)
    given = patient.findtext("h:name/h:given[@qualifier='BR']", "", NS)
    born = patient.find("h:birthTime", NS)
    born = "" if born is None else born.get("value", "")
    sex = patient.find("h:administrativeGenderCode", NS)
    place = patient.findtext("h:birthplace/h:place/h:addr/h:county", "", NS).strip()
    ident = header.find("h:id", NS)
    return Traits(
        ins=numbers[0].get("extension", "") if numbers else "",
        oid=numbers[0].get("root") if numbers else "",
        family=family.strip(),
        given=given.strip(),
        birth_date=f"{born[:4]}-{born[4:6]}-{born[6:8]}" if len(born) == 8 else born,
        sex="" if sex is None else sex.get("code", ""),
        birth_place=place if re.fullmatch(r"\d{5}|2[AB]\d{3}", place) else None,
        unique_id=f"{ident.get('root')}^{ident.get('extension', '')}".rstrip("^"),
    )


def foretold(documents: dict[Path, Traits], *, wrong: bool = False) -> Counter[str]:
    """Outcomes by RULES §5 and §6, in the order sent: "filed", or a code.

    Args:
        documents: in the order in which they are sent.
        wrong: everybody is registered with another birth date.
    """
    firsts, taken, found = first_traits(documents), set(), Counter[str]()
    for traits in documents.values():
        outcome = traits.code
        if not outcome and (wrong or traits.differs(firsts[traits.key])):
            outcome = "904"
        if not outcome and traits.unique_id in taken:
            outcome = "906"  # the same identifier with other octets
        if not outcome:
            taken.add(traits.unique_id)
        found[outcome or "filed"] += 1
    return found


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
        with_patient = to_patient and not traits.code
        recipients = [professional, *([address_of(site, traits)] if with_patient else [])]
        # a key that is wrong is not sent unless its sender insists
        options = ["--as-is"] if traits.code == "906" else []
        site.send(*recipients, files=[path], options=options)
    site.wait_idle(timeout=30)


def records(site: DemoSite, everybody: set[Traits]) -> dict[str, dict[str, Any]]:
    """Give every filed document of the site by unique id."""
    found: dict[str, dict[str, Any]] = {}
    for ins, oid in {t.key for t in everybody if not t.code}:
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
        expected = foretold(documents)
        count, kept = expected["filed"], expected - Counter({"filed": expected["filed"]})
        print(f"  foretold: {dict(expected)}")
        filed = records(site, set(documents.values()))
        check(len(filed) == count, f"{len(filed)} filed of {len(documents)}")
        check(codes(site) == kept, f"quarantine {dict(codes(site))}")
        audit(
            site,
            check,
            received=len(documents),
            filed=count,
            quarantined=kept.total(),
            duplicates=0,
            pending=0,
        )
        deliver(site, documents, to_patient=True)
        check(len(records(site, set(documents.values()))) == len(filed), "sent again: filed once")
        audit(site, check, received=2 * len(documents), duplicates=count, pending=0)
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
        expected = foretold(documents, wrong=True)
        check(codes(site) == expected, f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=0, quarantined=len(documents))


def unknown_patients(folder: Path, documents: dict[Path, Traits], check: Checks) -> None:
    """Nobody is known; then everybody is registered."""
    print("nobody is known; then everybody is registered")
    site = DemoSite.create(folder / "site")
    with serving(site):
        path, traits = next((p, t) for p, t in documents.items() if not t.code)
        sent = site.send(
            site.demo["practitioners"][0]["address"], address_of(site, traits), files=[path]
        )
        refused = [row for row in sent["recipients"] if not row["accepted"]]
        check(
            len(refused) == 1 and refused[0]["reply"].startswith("550 5.1.1"),
            f"an unknown patient's address is refused at RCPT: {refused[0]['reply'][:9]}",
        )
        rest = {each: documents[each] for each in documents if each != path}
        deliver(site, rest, to_patient=False)
        unknown = Counter(traits.code or "902" for traits in documents.values())
        check(codes(site) == unknown, f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=0, quarantined=len(documents))
        for known in first_traits(documents).values():
            register(site, known)
        site.wait_idle(timeout=30)
        expected = foretold({path: traits, **rest})
        count, kept = expected["filed"], expected - Counter({"filed": expected["filed"]})
        filed = records(site, set(documents.values()))
        check(len(filed) == count, f"{len(filed)} filed themselves")
        check(codes(site) == kept, f"quarantine {dict(codes(site))}")
        audit(site, check, received=len(documents), filed=count, quarantined=kept.total())


def vary(documents: dict[Path, Traits], times: int, seed: int, check: Checks) -> None:
    """Each document read whole, then varied and packed at random: its patient, or the code.

    No site runs: messages are opened and matched as the bridge does, against the patient and
    three people who resemble them.
    """
    print(f"each variation {times} times, seed {seed}", flush=True)
    counts: Counter[str] = Counter()
    for path, traits in documents.items():
        content, rng = path.read_bytes(), random.Random(f"{seed} {path.name}")
        lost = variations.words_written(content) - variations.words_shown(content)
        check(not lost, f"{path.name}: every word is shown, {len(lost)} lost")
        if traits.code:
            found = variations.outcome(variations.wrapped(content, rng), ())
            check(str(found.code) == traits.code, f"{path.name}: {found.code}")
            continue
        known = variations.people(
            InsMatricule(traits.ins, traits.oid),
            InsTraits(
                traits.family, traits.given, traits.birth_date.replace("-", ""), Sex(traits.sex),
                traits.birth_place,
            ),
        )  # fmt: skip
        tell = partial(_tell, counts, check, path.name)
        plain = variations.outcome(variations.wrapped(content, rng), known)
        tell("as it is", plain.patient == 1)
        if plain.document is None:
            continue
        told = variations.summary(plain.document)
        for _ in range(times):
            for name, change in variations.HARMLESS.items():
                changed = change(content, rng)
                if changed is not None:
                    found = variations.outcome(variations.wrapped(changed, rng), known)
                    same = (
                        found.patient == 1
                        and found.document is not None
                        and variations.summary(found.document) == told
                        and variations.shows_what_is_written(changed)
                    )
                    tell(f"harmless: {name}", same)
            for name, (code, damage) in variations.DAMAGING.items():
                changed = damage(content, rng)
                if changed is not None:
                    found = variations.outcome(variations.wrapped(changed, rng, of=content), known)
                    right = found.patient is None and found.code in _codes(code, name, traits)
                    tell(f"damaging: {name}", right)
    for name, count in sorted(counts.items()):
        print(f"  {count:5} {name}")
    print(f"  {counts.total()} messages")


def _tell(counts: Counter[str], check: Checks, document: str, name: str, holds: bool) -> None:  # noqa: FBT001
    counts[name] += 1
    if not holds:
        check(False, f"{document}: {name}")


def _codes(code: int, name: str, traits: Traits) -> set[int]:
    """The codes that RULES §5 allows; a trait that the document never had cannot differ."""
    absent = name == "another birth place" and traits.birth_place is None
    return {code, 0} if absent else {code}


def first_traits(documents: dict[Path, Traits]) -> dict[tuple[str, str], Traits]:
    """Give each patient's traits as the first document has them."""
    firsts: dict[tuple[str, str], Traits] = {}
    for traits in documents.values():
        if not traits.code:
            firsts.setdefault(traits.key, traits)
    return firsts


def main() -> int:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="published CDA documents, *.xml")
    parser.add_argument("--keep", type=Path, help="make the sites here and keep them")
    parser.add_argument("--mutations", type=int, default=0, help="vary each document N times")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    documents = {path: traits_of(path) for path in sorted(options.folder.resolve().glob("*.xml"))}
    print(f"{len(documents)} documents of {len(first_traits(documents))} patients")
    check = Checks()
    if options.mutations:
        vary(documents, options.mutations, options.seed, check)
        print("all as it must be" if not check.failed else f"{check.failed} checks failed")
        return 1 if check.failed else 0
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
