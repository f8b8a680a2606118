"""Generated XDM packages, sound ones and ones that lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from record_bridge.formats.cda_header import INS_ROOTS, parse_cda
from record_bridge.formats.xdm import PackagedDocument, build_package
from record_bridge.formats.xds_metadata import Code, DocumentEntry, SubmissionSet, encode

__all__ = ["entry_for", "mail", "package", "submission_for"]


def entry_for(content: bytes, uri: str = "DOC0001.XML", **changes: object) -> DocumentEntry:
    """The metadata entry that describes a CDA; ``changes`` make it lie."""
    header = parse_cda(content)
    ids = [i for p in header.patients[:1] for i in p.ids]
    named = next((i for i in ids if i.root in INS_ROOTS), ids[0] if ids else None)
    entry = DocumentEntry(
        unique_id=header.unique_id,
        patient_id=f"{named.extension}^^^&{named.root}&ISO^NH" if named else "",
        source_patient_id=f"{named.extension}^^^&{named.root}&ISO^PI" if named else "",
        uri=uri,
        hash=hashlib.sha1(content).hexdigest(),  # noqa: S324
        size=len(content),
        mime_type="text/xml",
        title=header.title,
        class_code=Code("10", "1.2.250.1.213.1.1.4.1", "Compte rendu"),
        type_code=Code(header.code, "2.16.840.1.113883.6.1", header.code_display),
        format_code=Code("urn:asipSante:modelesHorsProfils:2011", "1.2.250.1.213.1.1.4.2.282"),
        confidentiality=(Code("N", "2.16.840.1.113883.5.25", "Normal"),),
        creation_time="20261102091500",
        language="fr-FR",
    )
    return replace(entry, **changes)  # type: ignore[arg-type]  # tests name the fields they change


def submission_for(entries: Sequence[DocumentEntry], **changes: object) -> SubmissionSet:
    """A submission set around entries."""
    submission = SubmissionSet(
        unique_id="1.2.250.1.213.999.9.1",
        source_id="1.2.250.1.213.999.9",
        patient_id=entries[0].patient_id if entries else "",
        submission_time="20261102091600",
        content_type=Code("04", "1.2.250.1.213.2.2", "Hospitalisation de jour"),
        entries=tuple(entries),
    )
    return replace(submission, **changes)  # type: ignore[arg-type]  # as above


def package(*documents: bytes, **changes: object) -> bytes:
    """An IHE_XDM.zip of CDAs; ``changes`` go to every metadata entry."""
    entries = [
        replace(entry_for(d, f"DOC{n:04}.XML"), **changes)  # type: ignore[arg-type]  # as above
        for n, d in enumerate(documents, 1)
    ]
    files = [PackagedDocument(f"DOC{n:04}.XML", d) for n, d in enumerate(documents, 1)]
    return build_package(encode(submission_for(entries)), files, sender="ZZCANARY LABO")


def mail(
    *packages: bytes,
    sender: str = "labo@operateur-a.test",
    to: str = "dr.test@cabinet.mssante.test",
    message_id: str = "<zz1@operateur-a.test>",
    prefix: bytes = b"",
    notify_to: str | None = None,
    subject: str = "XDM/1.0/DDM+CR d'examens biologiques ZZCANARY-NOM ZZCANARYPRENOM",
) -> bytes:
    """A multipart/mixed message with packages attached, CRLF line ends."""
    import base64

    lines = [
        f"From: <{sender}>",
        f"To: <{to}>",
        f"Subject: {subject}",
        f"Message-ID: {message_id}",
        "Date: Mon, 02 Nov 2026 10:20:00 +0100",
        "MIME-Version: 1.0",
        *([f"Disposition-Notification-To: <{notify_to}>"] if notify_to else []),
        'Content-Type: multipart/mixed; boundary="zzb"',
        "",
        "--zzb",
        "Content-Type: text/plain; charset=utf-8",
        "",
        "Bonjour",
    ]
    written = "\r\n".join(lines).encode()
    for content in packages:
        encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
        written += (
            b"\r\n--zzb\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n"
            b'Content-Disposition: attachment; filename="IHE_XDM.zip"\r\n\r\n' + encoded
        )
    return prefix + written + b"\r\n--zzb--\r\n"
