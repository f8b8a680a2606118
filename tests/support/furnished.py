"""A webmail with something to show on every page: what a patient and their professionals have."""

import base64

from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from record_bridge import progress
from record_bridge.filing import FilingBatch, file_batch
from record_bridge.model import Environment
from tests.support.cda import OID_TEST, PDF, CdaSpec, PatientSpec
from tests.support.hprim import letter
from tests.support.mailsite import AT, CABINET, DOCTOR, PATIENT, RPPS, UNFILED
from tests.support.record import item_of, message, report
from tests.support.webmail import OTHER_PATIENT, Webmail

INS = PATIENT.partition("@")[0]
OTHER_INS = OTHER_PATIENT.partition("@")[0]

LETTER = """From: Dr Claire Martin <dr.martin@cabinet.mssante.test>\r
To: <{patient}>\r
Subject: Vos résultats d'analyses du 22 novembre\r
Message-ID: <lettre-1@cabinet.mssante.test>\r
Date: Sun, 22 Nov 2026 10:00:00 +0000\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: 8bit\r
\r
Bonjour Madame,\r
\r
Vos résultats sont bons. Votre cholestérol a baissé : continuez ainsi.\r
Pensez à reprendre rendez-vous avant la fin de l'année.\r
\r
Bien à vous,\r
Dr Claire Martin\r
--b\r
Content-Type: application/pdf; name="Résultats.pdf"\r
Content-Disposition: attachment; filename="Resultats.pdf"\r
Content-Transfer-Encoding: base64\r
\r
JVBERi0xLjQKJSVFT0YK\r
--b--\r
"""
HOSTILE = b"""From: Secr\xc3\xa9tariat <accueil@chu.test>\r
To: <%b>\r
Subject: Message avec mise en forme\r
Message-ID: <html-1@chu.test>\r
Date: Sun, 22 Nov 2026 09:00:00 +0000\r
MIME-Version: 1.0\r
Content-Type: text/html; charset=utf-8\r
\r
<h1>Bonjour</h1><p onclick="alert(1)">Texte mis en <b>forme</b>.</p>\r
<script>alert(1)</script><img src="https://evil.test/p.png" onerror="alert(2)">\r
<svg onload="alert(3)"><image href="https://evil.test/s"/></svg>\r
<link rel="stylesheet" href="https://evil.test/x.css"><iframe src="https://evil.test/f"></iframe>\r
<style>@import url(https://evil.test/i.css); body{background:url(https://evil.test/b)}</style>\r
<meta http-equiv="refresh" content="0;url=https://evil.test/r">\r
"""
REPORT_SECTIONS = (
    (
        "<component><section><title>Bilan lipidique</title><text>"
        "<paragraph>Prélèvement du <content styleCode='Bold'>20 novembre 2026</content>, à jeun."
        "</paragraph><table><caption>Résultats</caption><thead><tr><th>Analyse</th><th>Valeur</th>"
        "<th>Valeurs usuelles</th></tr></thead><tbody>"
        "<tr><td>Cholestérol total</td><td>1,92 g/L</td><td>inférieur à 2,00</td></tr>"
        "<tr><td>HDL</td><td>0,55 g/L</td><td>supérieur à 0,40</td></tr>"
        "<tr><td>LDL</td><td>1,10 g/L</td><td>inférieur à 1,60</td></tr></tbody></table>"
        "<linkHtml href='https://evil.test/l'>laboratoire</linkHtml></text></section></component>"
    ),
    (
        "<component><section><title>Conclusion</title><text><list><item>Résultats satisfaisants."
        "</item><item>Contrôle dans un an.</item></list></text></section></component>"
    ),
)


async def furnish(site: Webmail) -> None:
    """Messages, documents and an agenda as a real patient has them."""
    mailbox = await site.mail.mailbox(DOCTOR)
    await site.mail.receive(HOSTILE % PATIENT.encode(), PATIENT)
    sent = await site.mail.submissions.submit(
        SubmissionMessage(
            LETTER.format(patient=PATIENT).encode(), DOCTOR, (PATIENT,), mailbox, AT,
            Via.SUBMISSION,
        )
    )  # fmt: skip
    assert isinstance(sent, Submitted)
    report = await site.file(
        CdaSpec(
            unique_id="1.2.1",
            title="Compte rendu de biologie",
            narrative="",
            sections=REPORT_SECTIONS,
            custodian_name="Laboratoire Est",
        )
    )
    await site.file(
        CdaSpec(unique_id="1.2.2", title="Lettre de liaison", code="11490-0", pdf=PDF),
        class_code="11",
        type_code="11490-0",
        marks="signature_unverifiable",
    )
    await site.add_agenda(report, place="Cabinet des Lilas")
    await site.add_agenda(
        report, ordinal=1, kind="vaccination_due", status="to_schedule", day=None,
        title="Vaccination contre la grippe",
    )  # fmt: skip
    await site.add_agenda(
        report, ordinal=2, kind="examination", status="history", day="2025-11-03",
        title="Bilan sanguin annuel",
    )  # fmt: skip


OFFERED = (
    b"From: Labo <labo@chu.test>\r\nTo: <dr@cabinet.test>\r\nSubject: Bilan\r\n"
    b"Message-ID: <hprim-1@chu.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
    b"Bonjour\r\n--b\r\nContent-Type: application/octet-stream\r\n"
    b'Content-Disposition: attachment; filename="bilan.hpr"\r\n\r\n%b\r\n--b--\r\n'
)


async def furnish_care(site: Webmail) -> None:
    """What comes with care: a child, rights, packs, wishes, files, what waits, what is offered."""
    known = {"ins": OTHER_INS, "oid": OID_TEST, "patient_id": None}
    await site.tell("patient_change", "other", **known, birth_date="20140512", given="LÉO")
    parent = str(site.patients["patient"])
    await site.tell("right_give", "other", kind="representative", holder=parent)
    child = await site.file(CdaSpec(unique_id="1.2.9"), login="other")
    await site.add_agenda(child, login="other", title="Rappel de vaccin")
    await site.promote(RPPS[UNFILED])
    await site.tell("right_give", kind="attending", holder=RPPS[UNFILED])
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    await site.file(CdaSpec(unique_id="1.2.3", title="IRM du genou droit", code="18748-4"),
                    type_code="18748-4", visibility="awaiting_release")  # fmt: skip
    for kind, person, contact, text in (
        ("trusted_person", "Anne Martin", "06 00 00 00 00", ""),
        ("advance_directives", "", "", "Je ne veux pas d'acharnement."),
    ):
        await site.tell("directive_write", kind=kind, day="2026-01-02", person=person,
                        contact=contact, text=text)  # fmt: skip
    for kind, text in (("allergy", "Pénicilline"), ("treatment", "Lévothyroxine 75 µg")):
        await site.tell("profile_add", kind=kind, text=text, measure="", value="", day="")
    await site.tell(
        "deposit_add", title="Ordonnance en papier", name="o.pdf", content=_packed(PDF)
    )
    await furnish_pack(site)
    await furnish_waiting(site)
    offered = letter(given="CAMILLE").replace("\n", "\r\n").encode()
    await site.mail.receive(OFFERED % offered, DOCTOR)


async def furnish_pack(site: Webmail) -> None:
    """An admission pack: something to read, something to give back."""
    made = await site.tell("pack_create", title="Opération de la hanche", due="2026-12-24")
    for kind, title in (("document", "Livret d'accueil"), ("form", "Consentement")):
        await site.tell("pack_add", **made, kind=kind, title=title, name="a.pdf",
                        content=_packed(PDF))  # fmt: skip
    await site.tell("pack_send", **made)


async def furnish_waiting(site: Webmail) -> None:
    """Two documents that were addressed to the doctor and could not be filed."""
    await progress.position(site.record, CABINET.id, 7, AT)
    people = (
        PatientSpec(ins=INS, given="CAMILLE", birth_date="19790329"),
        PatientSpec(ins="154037599001758", given="JEAN", birth_date="19540312"),
    )
    for number, person in enumerate(people, 1):
        (claimed,) = await site.record.write(
            progress.claim, progress.Claim(CABINET.id, 7, (number,), AT)
        )
        raw = message(number, report(number, patients=(person,)), to=(DOCTOR,))
        item = item_of(claimed.item_id, claimed.uid, raw)
        await site.record.write(file_batch, FilingBatch(CABINET, Environment.TEST, (item,), AT))


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode()
