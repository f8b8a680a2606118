"""Thunderbird itself, without a window: set up by what the site tells, then used like a person does.

Source: RFC 9051 §6, RFC 8314 §3, Mozilla's Autoconfiguration.
"""

import shutil
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from certs.tls import server_context
from tests.support import exchange
from tests.support.capture_peer import CapturePeer, capture_thread
from tests.support.clients import imap, until
from tests.support.recipient_keys import recipient_certificate
from tests.support.reports import discharge_letter
from tests.support.site import DemoSite, pli
from tests.support.thunderbird import Thunderbird, thunderbird

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("thunderbird") is None, reason="thunderbird is not installed"),
]

SET_UP = """
    const [ca, xml, address, password] = args;
    Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB)
        .addCertFromBase64(ca, "CT,C,C");
    const { readFromXML } = ChromeUtils.importESModule(
        "resource:///modules/accountcreation/readFromXML.sys.mjs");
    const { AccountConfig } = ChromeUtils.importESModule(
        "resource:///modules/accountcreation/AccountConfig.sys.mjs");
    const { CreateInBackend } = ChromeUtils.importESModule(
        "resource:///modules/accountcreation/CreateInBackend.sys.mjs");
    const { JXON } = ChromeUtils.importESModule("resource:///modules/JXON.sys.mjs");
    const document = new DOMParser().parseFromString(xml, "text/xml");
    const config = readFromXML(JXON.build(document), "test");
    AccountConfig.replaceVariables(config, "Camille Test", address, password);
    config.rememberPassword = true;
    config.incoming.password = password;
    config.outgoing.password = password;
    const account = await CreateInBackend.createAccountInBackend(config);
    const server = account.incomingServer;
    server.biffMinutes = 10;
    server.performExpand(Services.wm.getMostRecentWindow(null).msgWindow);
    const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
    inbox.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, null);
    const names = await until(() => {
        const found = server.rootFolder.descendants.map(f => f.name);
        return found.includes("Trash") ? found : null;
    }, "the folder list");
    return { names, port: server.port, socketType: server.socketType, user: server.username };
"""
FOLDER = """
    const server = MailServices.accounts.accounts[0].incomingServer;
    const flagged = flag => server.rootFolder.getFolderWithFlags(flag);
    const { Inbox, SentMail, Archive } = Ci.nsMsgFolderFlags;
    const inbox = flagged(Inbox);
    const update = folder => new Promise(resolve => {
        setTimeout(resolve, 1000);  // it drops an update that another one already does
        folder.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, {
            OnStartRunningUrl() {}, OnStopRunningUrl(url, status) { resolve(status); } });
    });
    const headers = folder => [...folder.msgDatabase.enumerateMessages()];
    const arrived = async (folder, count) => {
        await until(async () => {
            await update(folder);
            return headers(folder).length >= count;
        }, count + " messages in " + folder.name);
        return headers(folder);
    };
    const source = header => new Promise(resolve => {
        const pieces = [];
        const uri = header.folder.getUriForMsg(header);
        MailServices.messageServiceFromURI(uri).streamMessage(uri, {
            QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
            onStartRequest() {},
            onDataAvailable(request, stream, offset, count) {
                const reader = Cc["@mozilla.org/scriptableinputstream;1"]
                    .createInstance(Ci.nsIScriptableInputStream);
                reader.init(stream);
                pieces.push(reader.readBytes(count));
            },
            onStopRequest() { resolve(pieces.join("")); },
        }, null, null, false, "");
    });
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("thunderbird") / "site")
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def people(site: DemoSite) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = site.demo["practitioners"]
    return found


@pytest.fixture(scope="module")
def report(
    site: DemoSite, people: list[Mapping[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The subject of a signed report that the hospital sent to the client's mailbox."""
    file = tmp_path_factory.mktemp("report") / "report.xml"
    file.write_bytes(discharge_letter(site.demo["patients"][0], "letter"))
    site.send(people[0]["address"], files=[file])
    with imap(site, people[0]) as box:
        box.select("INBOX", readonly=True)
        _, parts = box.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        subject = parts[0][1].decode().partition(": ")[2]
        return subject.replace("\r\n", "").strip()


@pytest.fixture(scope="module")
def client(
    site: DemoSite, people: list[Mapping[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Thunderbird]:
    """Thunderbird with one account, made from the site's own autoconfiguration."""
    url = f"https://localhost:{site.port('https')}/.well-known/autoconfig/mail/config-v1.1.xml"
    with urllib.request.urlopen(url, context=site.tls()) as answer:
        xml = answer.read().decode()
    pem = (site.root / "pki" / "root.pem").read_text()
    ca = "".join(line for line in pem.splitlines() if "-----" not in line)
    profile: Path = tmp_path_factory.mktemp("profile") / "thunderbird"
    with thunderbird(profile) as running:
        account = running.run(SET_UP, ca, xml, people[0]["address"], people[0]["password"])
        assert account["port"] == site.port("imaps")
        assert account["user"] == people[0]["address"]
        assert {"Sent", "Drafts", "Trash", "Junk"} <= set(account["names"])
        yield running


def test_the_account_is_made_from_what_the_site_tells_and_its_folders_are_listed(
    client: Thunderbird,
) -> None:
    names = client.run(
        FOLDER
        + """
        const { Drafts, Trash, Junk } = Ci.nsMsgFolderFlags;
        return [SentMail, Drafts, Trash, Junk, Archive].map(flag => flagged(flag)?.name ?? null);
        """
    )

    assert names == ["Sent", "Drafts", "Trash", "Junk", "Archive"]


def test_a_delivered_report_is_read_with_its_verdict_and_its_package(
    client: Thunderbird, report: str
) -> None:
    read = client.run(
        FOLDER
        + """
        const [header] = await arrived(inbox, 1);
        return { subject: header.mime2DecodedSubject, isRead: header.isRead,
                 source: await source(header) };
        """
    )

    assert read["subject"] == report
    assert not read["isRead"]
    assert "Authentication-Results: localhost;" in read["source"]
    assert "smime=pass" in read["source"]
    assert "IHE_XDM.zip" in read["source"]


def test_read_and_star_reach_the_server(
    site: DemoSite, client: Thunderbird, people: list[Mapping[str, Any]], report: str
) -> None:
    client.run(
        FOLDER
        + """
        const [header] = await arrived(inbox, 1);
        inbox.markMessagesRead([header], true);
        inbox.markMessagesFlagged([header], true);
        await until(async () => { await update(inbox); return header.isFlagged; }, "the star");
        """
    )

    assert report
    until(lambda: r"\Flagged" in flags_in(site, people[0], "INBOX"), "the star on the server")
    assert r"\Seen" in flags_in(site, people[0], "INBOX")


def test_search_runs_on_the_server_and_finds_what_it_should(
    client: Thunderbird, report: str
) -> None:
    found = client.run(
        FOLDER
        + """
        const search = (attribute, text) => new Promise((resolve, reject) => {
            const session = Cc["@mozilla.org/messenger/searchSession;1"]
                .createInstance(Ci.nsIMsgSearchSession);
            const term = session.createTerm();
            const value = term.value;
            value.attrib = attribute;
            value.str = text;
            Object.assign(term, { attrib: attribute, op: Ci.nsMsgSearchOp.Contains, value,
                                  booleanAnd: true });
            session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, inbox);
            session.appendTerm(term);
            const hits = [];
            session.registerListener({
                onSearchHit(header) { hits.push(header.mime2DecodedSubject); },
                onSearchDone() { resolve(hits); },
                onNewSearch() {},
            });
            session.search(Services.wm.getMostRecentWindow(null).msgWindow);
        });
        const { Body, Subject } = Ci.nsMsgSearchAttrib;
        return [await search(Body, args[0]), await search(Subject, args[1]),
                await search(Body, "jamais-écrit")];
        """,
        "IHE_XDM",
        report[:12],
    )

    assert found == [[report], [report], []]


def test_a_message_moves_to_another_folder(
    site: DemoSite, client: Thunderbird, people: list[Mapping[str, Any]], report: str
) -> None:
    client.run(
        FOLDER
        + """
        const [header] = await arrived(inbox, 1);
        const archive = flagged(Archive);
        await new Promise((resolve, reject) => {
            MailServices.copy.copyMessages(inbox, [header], archive, true, {
                QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
                onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() {},
                onStopCopy(status) { status ? reject(new Error("copy " + status)) : resolve(); },
            }, Services.wm.getMostRecentWindow(null).msgWindow, false);
        });
        await arrived(archive, 1);
        """
    )

    assert report
    assert r"\Flagged" in flags_in(site, people[0], "Archive")
    assert flags_in(site, people[0], "INBOX") == ""


def test_a_letter_is_sent_and_kept_under_sent(
    site: DemoSite, client: Thunderbird, people: list[Mapping[str, Any]]
) -> None:
    kept = client.run(
        FOLDER
        + """
        const account = MailServices.accounts.accounts[0];
        const fields = Cc["@mozilla.org/messengercompose/composefields;1"]
            .createInstance(Ci.nsIMsgCompFields);
        Object.assign(fields, { from: account.defaultIdentity.fullAddress, to: args[0],
                                subject: "Avis demandé", forcePlainText: true });
        const send = Cc["@mozilla.org/messengercompose/send;1"].createInstance(Ci.nsIMsgSend);
        await new Promise((resolve, reject) => {
            send.createAndSendMessage(null, account.defaultIdentity, account.key, fields, false,
                false, Ci.nsIMsgCompDeliverMode.Now, null, "text/plain",
                "Bonjour, merci de votre avis.\\r\\n", null, null, {
                    QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
                    onStartSending() {}, onSendProgress() {}, onStatus() {},
                    onStopSending(id, status) {
                        if (status) reject(new Error("not sent: " + status.toString(16)));
                    },
                    onGetDraftFolderURI() {}, onSendNotPerformed() {},
                    onTransportSecurityError() { reject(new Error("tls")); },
                }, "", "", Ci.nsIMsgCompType.New).then(resolve, reject);
        });
        const [header] = await arrived(flagged(SentMail), 1);
        return { subject: header.mime2DecodedSubject, isRead: header.isRead };
        """,
        people[1]["address"],
    )

    assert kept == {"subject": "Avis demandé", "isRead": True}
    with imap(site, people[1]) as box:
        box.select("INBOX", readonly=True)
        _, (numbers,) = box.search(None, "SUBJECT", '"Avis"')
        _, parts = box.fetch(numbers.decode(), "(BODY.PEEK[TEXT])")
    assert b"merci de votre avis" in parts[0][1]


def flags_in(site: DemoSite, person: Mapping[str, Any], folder: str) -> str:
    """Give the flags of a folder's first message, "" when it has none."""
    with imap(site, person) as box:
        _, (count,) = box.select(folder, readonly=True)
        if count == b"0":
            return ""
        _, (flags, *_) = box.fetch("1", "(FLAGS)")
        return flags.decode()


DECRYPTED = (
    FOLDER
    + """
    const [p12, password, subject] = args;
    const { MailUtils } = ChromeUtils.importESModule("resource:///modules/MailUtils.sys.mjs");
    const drafts = flagged(Ci.nsMsgFolderFlags.Drafts);
    const find = () => headers(drafts).find(each => each.mime2DecodedSubject == subject);
    await until(async () => { await update(drafts); return find(); }, "the encrypted message");
    const windows = () => [...Services.wm.getEnumerator("mail:messageWindow")];
    const shown = async () => {
        MailUtils.openMessageInNewWindow(find());
        const opened = await until(
            () => windows().find(each => each.document.readyState == "complete"), "its window");
        const icon = name =>
            opened.messageBrowser?.contentWindow?.document.getElementById(name)?.src ?? "";
        await until(() => icon("encryptedHdrIcon"), "its icon");
        await new Promise(resolve => setTimeout(resolve, 2000));  // text and the other icon
        const page = opened.messageBrowser.contentWindow.getMessagePaneBrowser().contentDocument;
        const found = { text: page?.body?.textContent ?? "",
                        encrypted: icon("encryptedHdrIcon"), signed: icon("signedHdrIcon") };
        opened.close();
        await until(() => windows().length == 0, "the end of its window");
        return found;
    };
    const raw = await source(find());
    const before = await shown();
    const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
    file.initWithPath(p12);
    const imported = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB)
        .importPKCS12File(file, password);
    return { raw, before, imported, after: await shown() };
    """
)


def test_what_leaves_encrypted_opens_with_the_recipient_s_key_and_not_without(
    client: Thunderbird,
    site: DemoSite,
    people: list[Mapping[str, Any]],
    tmp_path: Path,
) -> None:
    """The other operator takes it; its recipient's Thunderbird is this one."""
    operator = site.demo["operators"][1]
    address, person = operator["sender"], people[1]["address"]
    private = site.root / "pki" / "private" / "personal-ca.key"
    key = rsa.generate_private_key(65537, 2048)
    certificate = recipient_certificate(
        (
            x509.load_pem_x509_certificate((site.root / "pki" / "personal-ca.pem").read_bytes()),
            cast(
                "rsa.RSAPrivateKey",
                serialization.load_pem_private_key(private.read_bytes(), password=None),
            ),
        ),
        address,
        key,
        datetime.now(UTC),
    )
    pem, p12 = tmp_path / "recipient.pem", tmp_path / "recipient.p12"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    p12.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"essai", key, certificate, None, serialization.BestAvailableEncryption(b"secret")
        )
    )
    pli("encryption", "record", str(site.root), address, str(pem))
    pli("encryption", "ask", str(site.root), person)
    peer = CapturePeer()
    tls = server_context(
        Path(operator["certificate_file"]),
        Path(operator["key_file"]),
        client_ca=Path(site.demo["ca_file"]),
    )
    with capture_thread(peer, tls, int(operator["receiver"]["port"])):
        with exchange.account(site, 1)() as mail:
            mail.sendmail(
                person,
                [address],
                f"From: <{person}>\r\nTo: <{address}>\r\nSubject: Avis demande\r\n\r\n"
                "ZZCANARY le contenu confidentiel\r\n",
            )
        assert exchange.until(lambda: len(peer.taken) == 1, 30)
    with imap(site, people[0]) as box:
        box.append("Drafts", "", None, peer.taken[0].octets)

    seen = client.run(DECRYPTED, str(p12), "secret", "Avis demande")

    assert "enveloped-data" in seen["raw"]
    assert "ZZCANARY" not in seen["raw"]
    assert "ZZCANARY" not in seen["before"]["text"]
    assert "message-encrypted-notok" in seen["before"]["encrypted"]
    assert seen["imported"] == 0
    assert "ZZCANARY le contenu confidentiel" in seen["after"]["text"]
    assert "message-encrypted-ok" in seen["after"]["encrypted"]
    assert "message-signed-ok" in seen["after"]["signed"]
