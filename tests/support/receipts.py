"""Reports about mail as other operators write them, by hand from the RFCs.

Source: RFC 3464 §2, RFC 8098 §3, MSSanté volet LPS v1.1.3 (application errors).
"""

MESSAGE_ID = "<m1@cab.test>"

_HEAD = (
    "From: <{sender}>\r\nTo: <dr@cab.test>\r\nSubject: avis\r\n"
    "Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type={kind}; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain\r\n\r\navis\r\n"
)


def delivery_report(
    recipient: str,
    action: str,
    status: str,
    *,
    about: str = MESSAGE_ID,
    sender: str = "postmaster@loin.test",
) -> bytes:
    """Write a delivery status notification about one recipient."""
    head = _HEAD.format(kind="delivery-status", sender=sender)
    return (
        f"{head}--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; smtp.loin.test\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\n"
        f"Action: {action}\r\nStatus: {status}\r\n"
        f"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {about}\r\n\r\n--b--\r\n"
    ).encode()


def disposition_report(
    recipient: str, what: str, code: str = "", *, about: str = MESSAGE_ID, sender: str = ""
) -> bytes:
    """Write a disposition notification: ``displayed``, ``filed`` or ``quarantined``."""
    disposition = {
        "displayed": "manual-action/MDN-sent-manually; displayed",
        "filed": "automatic-action/MDN-sent-automatically; processed",
        "quarantined": "automatic-action/MDN-sent-automatically; processed/error",
    }[what]
    head = _HEAD.format(kind="disposition-notification", sender=sender or recipient)
    error = f"Error: {code}^non integre^applicationErrorCondition\r\n" if code else ""
    return (
        f"{head}--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822;{recipient}\r\nOriginal-Message-ID: {about}\r\n"
        f"Disposition: {disposition}\r\n{error}\r\n--b--\r\n"
    ).encode()
