"""Unmodified clients on a running site: what they synchronise is what SMTP delivered.

FETCH BODY[] less the server's prefix is, octet for octet, what was sent when nothing had to be
cut, and that less the cut fields otherwise (DESIGN D5b). A test that cannot run names its tool.
"""

import hashlib
import imaplib
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import Held, deliver, imap, read
from tests.support.reports import discharge_letter
from tests.support.site import DemoSite
from tests.support.xdm import mail, package

pytestmark = pytest.mark.timeout(120)
DOMAIN = "hopital-nord.mssante.test"


def plain(message_id: str, body: bytes, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A message with fields before and after the usual ones."""
    return (
        before
        + f"From: <cardiologie@{DOMAIN}>\r\nTo: <x@y.test>\r\nSubject: essai\r\n".encode()
        + f"Date: Mon, 02 Nov 2026 10:20:00 +0100\r\nMessage-ID: {message_id}\r\n".encode()
        + after
        + b"\r\n"
        + body
    )


def text(octets: int) -> bytes:
    """Lines of text, of about that many octets in all."""
    chance = random.Random(octets)
    lines: list[bytes] = []
    while octets > 0:
        line = bytes(chance.choices(b"abcdefgh .,", k=chance.randint(0, 200))) + b"\r\n"
        lines.append(line)
        octets -= len(line)
    return b"".join(lines)


DOTS = b"".join(b"." * (n % 5) + b"x" * (n % 3) + b"\r\n" for n in range(6000))
UNCUT = {
    "small": plain(f"<small@{DOMAIN}>", text(700)),
    "report": plain(f"<report@{DOMAIN}>", text(60_000)),
    "large": plain(f"<large@{DOMAIN}>", text(3_000_000)),
    "dots": plain(f"<dots@{DOMAIN}>", b".\r\n" + DOTS + b"..\r\n."),
    "dots alone": plain(f"<dotsalone@{DOMAIN}>", b".\r\n.\r\n.\r\n"),
    "eight-bit": plain(f"<eight@{DOMAIN}>", "Évolution favorable\r\n".encode() * 50),
    "no body": plain(f"<nobody@{DOMAIN}>", b""),
    "strange header": plain(
        f"<strange@{DOMAIN}>",
        b"x\r\n",
        before=b"Received: from a by b; Mon, 02 Nov 2026 10:20:00 +0100\r\n",
        after=b"x-FOLDED:  a\r\n\t b\r\n  c\r\nX-Empty:\r\nX-Return-Path: <kept@b.test>\r\n"
        b"Authentication-Results: elsewhere.test; spf=pass\r\n"
        b"X-Authentication-Results: localhost; auth=pass\r\n",
    ),
    "fields inside": plain(
        f"<inside@{DOMAIN}>",
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nReturn-Path: <in@b.test>\r\n"
        b"Delivered-To: in@b.test\r\nSubject: x\r\n\r\nbody\r\n--b--\r\n",
        after=b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
    ),
}
FORGED = {
    "results": "Authentication-Results: {id}; auth=pass smtp.auth=chef@evil.test\r\n",
    "results folded": "Authentication-Results:\r\n {id};\r\n\tauth=pass\r\n",
    "results upper case": "AUTHENTICATION-RESULTS: {ID}; smime=pass\r\n",
    "results commented": "Authentication-Results: (a (b) \\) c) {id} (x); smime=pass\r\n",
    "results quoted": 'Authentication-Results: "{id}"; smime=pass\r\n',
    "results versioned": "Authentication-Results: {id} 1; smime=pass\r\n",
    "results without blank": "authentication-results:{id};smime=pass\r\n",
    "results blank before the colon": "Authentication-Results : {id}; smime=pass\r\n",
    "return path": "Return-Path: <chef@evil.test>\r\n",
    "return path folded": "return-path:\r\n <chef@evil.test>\r\n",
    "delivered to": "Delivered-To: chef@evil.test\r\n",
    "delivered to folded": "DELIVERED-TO: chef\r\n\t@evil.test\r\n",
}
KEPT = b"X-Kept: 1\r\nAuthentication-Results: autre.test; spf=pass\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("clients") / "site")
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def alice(site: DemoSite) -> Mapping[str, Any]:
    person: Mapping[str, Any] = site.demo["practitioners"][0]
    return person


@pytest.fixture(scope="module")
def held(site: DemoSite) -> dict[str, Held]:
    """What Alice's mailbox holds once every message that needs no cut was delivered."""
    person = site.demo["practitioners"][0]
    for raw in UNCUT.values():
        deliver(site, raw, person["address"])
    return read(site, person)


def key(raw: bytes) -> str:
    return raw.partition(b"Message-ID: ")[2].partition(b"\r\n")[0].decode()


def digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()


def as_sent(raw: bytes) -> bytes:
    """SMTP ends every message with a line end."""
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


@pytest.mark.parametrize("name", UNCUT)
def test_less_the_prefix_a_message_hashes_to_what_was_sent(
    held: dict[str, Held], name: str
) -> None:
    message = held[key(UNCUT[name])]

    assert digest(message.sent) == digest(as_sent(UNCUT[name]))
    assert len(message.prefix) < 4096
    fields = [line.partition(b":")[0] for line in message.prefix.split(b"\r\n") if line[:1] > b" "]
    assert fields == [b"Return-Path", b"Delivered-To", b"Received", b"Authentication-Results"]


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("name", FORGED)
def test_what_strangers_may_not_write_is_cut_and_nothing_else(
    site: DemoSite, alice: Mapping[str, Any], held: dict[str, Held], name: str, place: str
) -> None:
    authserv_id = next(iter(held.values())).results.partition(";")[0]
    forged = FORGED[name].format(id=authserv_id, ID=authserv_id.upper()).encode()
    identifier = f"<{name.replace(' ', '.')}.{place}@{DOMAIN}>"
    if place == "first":
        raw = plain(identifier, text(300), before=forged, after=KEPT)
    else:
        raw = plain(identifier, text(300), after=KEPT + forged)

    deliver(site, raw, alice["address"])

    message = read_one(site, alice, identifier)
    assert digest(message.sent) == digest(raw.replace(forged, b"", 1))
    assert b"evil.test" not in message.raw


def read_one(site: DemoSite, account: Mapping[str, Any], identifier: str) -> Held:
    return read(site, account)[identifier]


def test_many_forgeries_in_one_message_are_all_cut(
    site: DemoSite, alice: Mapping[str, Any], held: dict[str, Held]
) -> None:
    authserv_id = next(iter(held.values())).results.partition(";")[0]
    forged = [
        each.format(id=authserv_id, ID=authserv_id.upper()).encode() for each in FORGED.values()
    ]
    identifier = f"<all@{DOMAIN}>"
    raw = plain(identifier, text(60_000), before=b"".join(forged), after=KEPT.join(forged))

    deliver(site, raw, alice["address"])

    expected = raw
    for each in forged:
        expected = expected.replace(each, b"")
    assert digest(read_one(site, alice, identifier).sent) == digest(expected)


def test_imaplib_reads_the_same_octets_over_starttls_on_the_plain_port(
    site: DemoSite, alice: Mapping[str, Any], held: dict[str, Held]
) -> None:
    with imaplib.IMAP4("localhost", site.port("imap"), timeout=20) as client:
        with pytest.raises(imaplib.IMAP4.error):
            client.login(alice["address"], alice["password"])
        assert client.starttls(site.tls())[0] == "OK"
        client.login(alice["address"], alice["password"])
        client.select("INBOX", readonly=True)
        for message in held.values():
            _status, rows = client.uid("fetch", str(message.uid), "(RFC822.SIZE BODY.PEEK[])")
            assert isinstance(rows[0], tuple)
            assert b"RFC822.SIZE %d " % len(message.raw) in rows[0][0]
            assert digest(rows[0][1]) == digest(message.raw)


def wanted(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command: str | Path) -> bytes:
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize("scheme", ["imaps", "imap"])
def test_curl_reads_what_was_delivered(
    site: DemoSite, alice: Mapping[str, Any], held: dict[str, Held], scheme: str
) -> None:
    curl = wanted("curl")
    base = (curl, "-sS", "--ssl-reqd", "--cacert", site.demo["ca_file"])
    user = ("--user", f"{alice['address']}:{alice['password']}")
    url = f"{scheme}://localhost:{site.port(scheme)}/INBOX"

    for raw in UNCUT.values():
        message = held[key(raw)]
        got = run(*base, *user, f"{url};UID={message.uid}")
        assert digest(got) == digest(message.raw)
    assert b"SEARCH" in run(*base, *user, f"{url}?ALL")


def test_curl_trusts_the_server_by_its_name_only(site: DemoSite, tmp_path: Path) -> None:
    curl = wanted("curl")
    url = f"imaps://localhost:{site.port('imaps')}/"

    done = subprocess.run([curl, "-sS", url], capture_output=True, timeout=20, check=False)

    assert done.returncode == 60  # the practice root is not among the system's


# --- mbsync ---------------------------------------------------------------------------------


def settings(site: DemoSite, account: Mapping[str, Any], folder: Path) -> Path:
    (folder / "mail").mkdir()
    written = folder / "mbsyncrc"
    written.write_text(
        f"IMAPAccount pli\nHost localhost\nPort {site.port('imaps')}\n"
        f"User {account['address']}\nPass {account['password']}\n"
        f"SSLType IMAPS\nCertificateFile {site.demo['ca_file']}\n\n"
        "IMAPStore far\nAccount pli\n\n"
        f"MaildirStore near\nSubFolders Verbatim\nPath {folder}/mail/\n"
        f"Inbox {folder}/mail/INBOX\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
    )
    return written


def maildir(folder: Path, name: str = "INBOX") -> dict[str, Path]:
    """Give the files of a synchronised folder by Message-ID."""
    box = folder / "mail" / name
    return {
        key(each.read_bytes().replace(b"\n", b"\r\n")): each
        for part in ("cur", "new")
        for each in (box / part).iterdir()
    }


def as_delivered(file: Path) -> bytes:
    """A Maildir file with network line ends, less the field that mbsync adds."""
    lines = file.read_bytes().split(b"\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"X-TUID: "))


def flags_of(file: Path) -> str:
    return file.name.partition(":2,")[2]


def test_mbsync_synchronises_what_was_delivered_and_flags_both_ways(
    site: DemoSite, tmp_path: Path
) -> None:
    mbsync = wanted("mbsync")
    bruno = site.demo["practitioners"][1]
    report = mail(
        package(discharge_letter(site.demo["patients"][0], "mbsync")),
        sender=site.demo["operators"][0]["sender"],
        to=bruno["address"],
        message_id=f"<mbsync@{DOMAIN}>",
    )
    for raw in (*UNCUT.values(), report):
        deliver(site, raw, bruno["address"])
    site.wait_idle()
    far = read(site, bruno)
    sync = (mbsync, "-c", settings(site, bruno, tmp_path), "-a")

    run(*sync)

    near = maildir(tmp_path)
    assert near.keys() == far.keys()
    for identifier, file in near.items():
        assert digest(as_delivered(file)) == digest(far[identifier].raw), identifier
    assert "$Filed" in far[f"<mbsync@{DOMAIN}>"].flags

    small, dots, large = (key(UNCUT[name]) for name in ("small", "dots", "large"))
    box = tmp_path / "mail" / "INBOX" / "cur"
    near[small].rename(box / f"{near[small].name.partition(':')[0]}:2,FS")
    near[large].unlink()
    (box / "1.own:2,S").write_bytes(
        plain(f"<own@{DOMAIN}>", b"written here\r\n").replace(b"\r\n", b"\n")
    )
    with imap(site, bruno) as client:
        client.select("INBOX")
        client.uid("store", str(far[dots].uid), "+FLAGS", r"(\Seen \Answered)")
        client.uid("store", str(far[key(UNCUT["report"])].uid), "+FLAGS", r"(\Deleted)")
        client.expunge()

    run(*sync)

    far, near = read(site, bruno), maildir(tmp_path)
    assert far[small].flags >= {r"\Seen", r"\Flagged"}
    assert set(flags_of(near[dots])) == {"R", "S"}
    assert large not in far
    assert key(UNCUT["report"]) not in near
    # What mbsync uploads is what it had, and its own field.
    assert b"written here\r\n" in far[f"<own@{DOMAIN}>"].raw
    assert near.keys() == far.keys()
    # Server-owned keywords survive a client that knows nothing of them.
    assert "$Filed" in far[f"<mbsync@{DOMAIN}>"].flags

    run(*sync)

    assert maildir(tmp_path).keys() == near.keys()
    assert read(site, bruno).keys() == far.keys()
