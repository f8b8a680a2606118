"""``pli offer`` on a serving site: from the mail that came to the record, audited, and undone."""

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.support.cda import PDF
from tests.support.hprim import letter
from tests.support.site import DemoSite, PliError, pli


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    demo = DemoSite.create(tmp_path_factory.mktemp("offers") / "site")
    demo.start()
    try:
        yield demo
    finally:
        demo.stop()


def send(site: DemoSite, to: str, name: str, content: bytes, body: str = "Bonjour") -> None:
    operator = site.demo["operators"][0]
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = operator["sender"], to, "Bilan"
    mail["Message-ID"] = f"<{name}@test>"
    mail.set_content(body)
    mail.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    with smtplib.SMTP("localhost", site.port("smtp")) as client:
        client.starttls(context=site.operator_tls())
        client.send_message(mail, operator["sender"], [to])


@pytest.mark.timeout(120)
def test_a_letter_goes_from_the_mail_into_the_record_and_out_again(site: DemoSite) -> None:
    root, patient = str(site.root), site.demo["patients"][0]
    doctor = next(
        each for each in site.demo["practitioners"] if each["structure"] == patient["structure"]
    )
    structure = ("--structure", patient["structure"])
    born = patient["birth_date"].replace("-", "")
    raw = letter(
        family=patient["family"], given=patient["given"], number=patient["ins"],
        born=f"{born[6:]}/{born[4:6]}/{born[:4]}",
    )  # fmt: skip
    send(site, doctor["address"], "res.hpr", raw.encode("latin-1"))
    send(site, doctor["address"], "scan.pdf", PDF)
    send(site, doctor["address"], "photo.gif", b"GIF89a", body=raw)

    listed = pli("offer", "list", root, "--mailbox", doctor["address"], "--json")
    files = [(each["uid"], each["part"]) for each in listed]
    assert [each["type"] for each in listed] == [
        "text/plain", "application/octet-stream", "application/octet-stream",
    ]  # fmt: skip
    uid, part = files[-1]
    where = (root, doctor["address"], str(uid), str(part))
    shown = pli("offer", "show", *where, "--json")
    assert shown["suggested"][0]["ins"] == patient["ins"]
    decided = ("--ins", patient["ins"], "--type", "11502-2", "--title", "Bilan", "--json")
    done = pli("offer", "file", *where, *decided)
    assert done["state"] == "filed"
    assert pli("offer", "file", *where, *decided) == done | {"state": "absorbed"}

    record = ("--ins", patient["ins"], "--oid", patient["oid"], *structure, "--json")
    (row,) = [
        each for each in pli("record", "list", root, *record)
        if each["unique_id"] == done["document"]
    ]  # fmt: skip
    assert (row["visibility"], row["marks"]) == ("awaiting_release", ["filed_by_hand"])
    audit = pli("audit", "verify", root, "--json")
    assert (audit["balanced"], audit["by_hand"], audit["problems"]) == (True, 1, [])
    assert (audit["received"], audit["filed"]) == (0, 0)
    pli("record", "withdraw", root, done["document"], "--reason", "erreur", *structure)
    with pytest.raises(PliError, match="withdrawn from this record"):
        pli("offer", "file", *where, *decided)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nobody@nowhere.test", "1", "1"), "whose filing is on"),
        (("DOCTOR", "999", "1"), "pli offer list"),
        (("DOCTOR", "1", "99"), "pli offer list"),
    ],
)
def test_what_is_not_there_is_told_plainly(
    site: DemoSite, words: tuple[str, ...], text: str
) -> None:
    address = site.demo["practitioners"][0]["address"]
    named = [address if word == "DOCTOR" else word for word in words]

    with pytest.raises(PliError, match=text):
        pli("offer", "show", str(site.root), *named)
