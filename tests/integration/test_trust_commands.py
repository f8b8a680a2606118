"""``pli trust-list`` on a site: import, show, check, acknowledge; and what production refuses."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner, Result

from directory.trust_list import ListedDomain, encode
from mailserver.cli.main import app
from mailserver.errors import SiteError
from mailserver.installation import SiteOptions, create_site
from mailserver.practice import refuse_practice
from mailserver.settings import Environment, Ports, Settings, Site
from tests.support.site import pli

DN = "CN=smtp.chu-a.test,O=CHU A,C=FR"
OTHER = "CN=smtp.other.test,O=OTHER,C=FR"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trust") / "site"
    options = SiteOptions(
        Environment.TEST,
        "localhost",
        Ports.from_base(24000),
        demo=False,
        plaintext_on_loopback=False,
    )
    create_site(Site(root), options, at=NOW)
    (root / "trust" / "list.xml").write_bytes(listing(range(10)))
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "site")
    return tmp_path / "site"


def listing(numbers, *, minutes=0, other=()) -> bytes:
    entries = [ListedDomain(f"d{n}.mssante.test", DN) for n in numbers]
    entries += [ListedDomain(f"d{n}.mssante.test", OTHER) for n in other]
    return encode(entries, NOW - timedelta(hours=1) + timedelta(minutes=minutes))


def trust(command: str, *arguments: object, person: str = "one") -> Result:
    words = ["trust-list", command, *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"SUDO_USER": person})


def answer(command: str, *arguments: object, person: str = "one"):
    result = trust(command, *arguments, "--json", person=person)
    assert result.exit_code == 0, result.output
    return document(result.stdout)


def document(output: str):
    """Read what a command said, behind the log lines that the tests print."""
    lines = output.splitlines(keepends=True)
    start = next(n for n, line in enumerate(lines) if line.strip() in {"{", "[", "[]", "{}"})
    return json.loads("".join(lines[start:]))


def test_a_program_gets_one_document_and_no_log(site, tmp_path):
    file = tmp_path / "new.xml"
    file.write_bytes(listing(range(10), minutes=1, other=(3,)))

    assert pli("trust-list", "import", str(site), str(file), "--json")["new_names"] == 1


def test_a_list_is_imported_shown_and_kept(site, tmp_path):
    file = tmp_path / "new.xml"
    file.write_bytes(listing(range(11), minutes=1, other=(3,)))

    assert answer("check", site, file) == {
        "outcome": "acceptable", "domains": 11, "lost": 0, "new_names": 1,
    }  # fmt: skip
    assert answer("show", site)["domains"] == 10
    assert answer("import", site, file)["domains"] == 11
    shown = answer("show", site)
    assert (shown["domains"], shown["freshness"], shown["signed"]) == (11, "fresh", False)
    assert [(row["name"], row["domains"]) for row in shown["operators"]] == [
        ("CN=smtp.chu-a.test,O=chu a,C=fr", 11),
        ("CN=smtp.other.test,O=other,C=fr", 1),
    ]
    assert [alarm["domain"] for alarm in shown["alarms"]] == ["d3.mssante.test"]
    assert len(answer("show", site, "--domain", "D3.mssante.test")["names"]) == 2
    assert (site / "trust" / "list.xml").read_bytes() == file.read_bytes()


def test_an_alarm_is_in_check_until_a_person_has_looked(site, tmp_path):
    file = tmp_path / "new.xml"
    file.write_bytes(listing(range(10), minutes=1, other=(3,)))
    answer("import", site, file)

    found = {row["check"]: row["state"] for row in answer("check", site)}
    assert found["operators' names"] == "warning"
    assert answer("acknowledge", site) == {"acknowledged": 1}
    assert "operators' names" not in {row["check"] for row in answer("check", site)}


def test_a_great_loss_takes_two_persons_with_reasons(site, tmp_path):
    file = tmp_path / "new.xml"
    file.write_bytes(listing(range(5), minutes=1))
    force = (site, file, "--force", "--reason", "five operators ceased today")

    alone = trust("import", site, file)
    assert alone.exit_code == 1
    assert "two persons" in alone.stderr
    assert trust("import", site, file, "--force").exit_code == 1
    assert answer("import", *force) == {"outcome": "proposed", "lost": 5}
    assert answer("import", *force) == {"outcome": "proposed", "lost": 5}
    assert answer("import", *force, person="two")["outcome"] == "adopted"
    assert answer("show", site)["domains"] == 5
    with closing(sqlite3.connect(Site(site).mail_database)) as database:
        rows = database.execute("SELECT kind, actor FROM trail_event ORDER BY rowid").fetchall()
    assert rows == [
        ("trust_list_proposed", "cli:one"),
        ("trust_list_proposed", "cli:one"),
        ("trust_list_forced", "cli:two"),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(listing(range(10), minutes=-1), "before the one in use", id="older"),
        pytest.param(listing(range(10), minutes=200), "ahead of now", id="of the future"),
        pytest.param(listing(range(12), minutes=1)[:-9], "cut short", id="truncated"),
        pytest.param(b"<a/>", "no trust list", id="another document"),
        pytest.param(listing(()), "nobody", id="empty"),
    ],
)
def test_a_list_that_may_not_be_used_is_refused_with_a_sentence(site, tmp_path, content, sentence):
    file = tmp_path / "new.xml"
    file.write_bytes(content)

    for command in ("import", "check"):
        result = trust(command, site, file)

        assert result.exit_code == 1
        assert sentence in result.stderr
    assert answer("show", site)["domains"] == 10


def test_an_old_list_is_a_problem_of_the_check(site):
    path = site / "trust" / "list.xml"
    path.write_bytes(listing(range(10), minutes=-60 * 24 * 9))

    result = trust("check", site, "--json")

    assert result.exit_code == 1
    rows = {row["check"]: row for row in document(result.stdout)}
    assert rows["trust list"]["state"] == "PROBLEM"
    assert "nobody is accepted" in rows["trust list"]["text"]


def test_without_a_file_or_an_address_the_sites_own_file_is_read(site):
    assert answer("import", site)["outcome"] == "unchanged"


def test_an_address_that_does_not_answer_is_said(site):
    place = Site(site)
    settings = place.settings()
    trusted = settings.trust.model_copy(update={"url": "https://127.0.0.1:9/list.xml"})
    place.write_settings(settings.model_copy(update={"trust": trusted}))

    result = trust("import", site)

    assert result.exit_code == 1
    assert "cannot be fetched" in result.stderr


# -- production -------------------------------------------------------------------------------


def production(site: Path) -> tuple[Site, Settings]:
    place = Site(site)
    settings = place.settings().model_copy(update={"environment": Environment.PRODUCTION})
    place.write_settings(settings)
    return place, settings


def authorities(root: str, issuing: str, unit: str) -> tuple[bytes, bytes]:
    """Make a root and an issuing authority of these names, as PEM."""

    def name(common: str) -> x509.Name:
        pairs = ((NameOID.ORGANIZATION_NAME, "ASIP-SANTE"), (NameOID.COMMON_NAME, common))
        units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
        return x509.Name(units + [x509.NameAttribute(*pair) for pair in pairs])

    key = ec.generate_private_key(ec.SECP256R1())

    def certificate(subject: str) -> bytes:
        return (
            x509.CertificateBuilder(name(root), name(subject), key.public_key(), 1)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=9))
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    return certificate(root), certificate(issuing)


NATIONAL = authorities(
    "AC RACINE IGC-SANTE ELEMENTAIRE", "AC IGC-SANTE ELEMENTAIRE ORGANISATIONS", "IGC-SANTE"
)
NATIONAL_TEST = authorities(
    "TEST AC RACINE IGC-SANTE ELEMENTAIRE",
    "TEST AC IGC-SANTE ELEMENTAIRE ORGANISATIONS",
    "IGC-SANTE TEST",
)


def test_production_refuses_practice_authorities_wherever_they_may_vouch(site):
    place, settings = production(site)

    with pytest.raises(SiteError, match="practice certificate"):
        refuse_practice(place, settings)
    result = trust("check", site, "--json")
    assert result.exit_code == 1
    rows = {row["check"]: row for row in document(result.stdout)}
    assert rows["operators' authority"]["state"] == "PROBLEM"
    served = CliRunner().invoke(app, ["serve", str(site)])
    assert served.exit_code == 1
    assert "practice certificate" in served.stderr


def test_a_site_for_practice_may_have_them(site):
    place = Site(site)

    refuse_practice(place, place.settings())


@pytest.mark.parametrize(
    ("peers", "others", "accepted"),
    [
        pytest.param(b"".join(NATIONAL), {}, True, id="the national authorities"),
        pytest.param(NATIONAL[1], {}, True, id="the issuing one alone"),
        pytest.param(NATIONAL[0], {}, False, id="a root alone"),
        pytest.param(b"", {}, False, id="nobody"),
        pytest.param(b"no certificate", {}, False, id="no certificate"),
        pytest.param(b"".join(NATIONAL_TEST), {}, False, id="the national test authorities"),
        pytest.param(b"".join(NATIONAL + NATIONAL_TEST), {}, False, id="both"),
        pytest.param(
            NATIONAL[1], {"signer.pem": NATIONAL_TEST[1]}, False, id="a list signed for tests"
        ),
        pytest.param(
            NATIONAL[1], {"https.pem": NATIONAL_TEST[0]}, False, id="a list published for tests"
        ),
        pytest.param(
            NATIONAL[1],
            {"signer.pem": NATIONAL[1], "https.pem": NATIONAL[0]},
            True,
            id="all national",
        ),
    ],
)
def test_production_believes_the_national_authorities_alone(site, peers, others, accepted):
    place, settings = production(site)
    place.peers_ca.write_bytes(peers)
    for name, content in others.items():
        (place.trust / name).write_bytes(content)
    if accepted:
        refuse_practice(place, settings)
        return
    with pytest.raises(SiteError):
        refuse_practice(place, settings)


def test_production_takes_no_unsigned_list_from_a_disk(site, tmp_path):
    production(site)
    file = tmp_path / "new.xml"
    file.write_bytes(listing(range(10), minutes=1))

    for more in ((), ("--force", "--reason", "because it is right")):
        result = trust("import", site, file, *more)

        assert result.exit_code == 1
        assert "published" in result.stderr


def checked(site: Path) -> dict[str, str]:
    result = CliRunner().invoke(app, ["check", str(site), "--json"])
    return {row["check"]: row["state"] for row in document(result.stdout)}


def test_check_names_a_list_that_cannot_be_read_and_an_authority_without_one(site):
    assert checked(site)["operators' authority"] == "ok"
    crl = site / "pki" / "operators-ca.crl"
    der = x509.load_pem_x509_crl(crl.read_bytes()).public_bytes(serialization.Encoding.DER)
    (site / "pki" / "fetched.crl").write_bytes(der)
    crl.write_bytes(b"junk")

    found = checked(site)
    assert found["revocations operators-ca.crl"] == "PROBLEM"
    assert found["revocations fetched.crl"] == "ok"
    assert found["operators' authority"] == "ok"
    (site / "pki" / "fetched.crl").unlink()
    assert checked(site)["operators' authority"] == "PROBLEM"
