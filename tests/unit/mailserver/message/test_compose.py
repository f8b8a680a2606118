"""Messages composed here read back as they were meant.

Source: RFC 2183 §2, RFC 5322 §3.6.
"""

import email
import email.policy
from datetime import UTC, datetime

import pytest

from certs.addresses import Address, Mailbox
from certs.mime import decode_body, decode_text, scan
from mailserver.message.compose import Attachment, Draft, compose

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def draft(**changes) -> Draft:
    values = {
        "author": Mailbox("Zoé Martin, cabinet", Address("zoe", "b.test")),
        "to": (Mailbox("Dr. A", Address("a", "c.test")), Mailbox("", Address("b", "c.test"))),
        "subject": "Résultats",
        "text": "Bonjour,\nété\n",
        "message_id": "<1@b.test>",
        "at": AT,
    }
    return Draft(**{**values, **changes})


def test_a_message_reads_back_with_the_standard_library():
    raw = compose(
        draft(
            attachments=(Attachment("été.pdf", "application/pdf", bytes(range(256)) * 9),),
            in_reply_to="<0@c.test>",
            references=("<r@c.test>", "<0@c.test>"),
        )
    )
    message = email.message_from_bytes(raw, policy=email.policy.SMTP)

    assert message["From"].addresses[0].display_name == "Zoé Martin, cabinet"
    assert message["To"].addresses[0].addr_spec == "a@c.test"
    assert message["Subject"] == "Résultats"
    assert message["In-Reply-To"] == "<0@c.test>"
    assert message["References"].split() == ["<r@c.test>", "<0@c.test>"]
    text, attached = message.iter_parts()
    assert text.get_content().replace("\r\n", "\n") == "Bonjour,\nété\n"
    assert attached.get_filename() == "été.pdf"
    assert attached.get_content() == bytes(range(256)) * 9


@pytest.mark.parametrize(
    "text", ["plain", "é" * 2000, "x" * 2000, ".\n.\nFrom x\n", "a\rb\r\nc", ""]
)
def test_any_text_travels_in_seven_bits_and_short_lines(text):
    raw = compose(draft(text=text))
    outline = scan(raw)

    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert outline.anomalies == frozenset()
    assert decode_text(raw, outline.root).replace("\r\n", "\n").strip("\n") == (
        text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    )


def test_no_value_opens_a_field_of_its_own():
    raw = compose(
        draft(
            subject="t\nBcc: x@y.z",
            author=Mailbox('a"\r\nBcc: x@y.z', Address("a", "b.test")),
            in_reply_to="<a@b>\r\nBcc: x@y.z",
            attachments=(Attachment('a"\r\nBcc: x@y.z', "text/plain\r\nBcc: x", b"x"),),
            extra=(("X-MSS-MES", "FIN\r\nBcc: x@y.z"), ("Bcc: x\r\nBcc", "x")),
        )
    )
    names = {field.name.lower() for field in scan(raw).header}

    assert b"\r\nBcc" not in raw
    assert names == {
        *("from", "to", "subject", "date", "message-id"),
        *("x-mss-mes", "mime-version", "content-type"),
    }


def test_a_seven_bit_message_is_attached_as_it_is_and_any_other_as_octets():
    plain = compose(draft(attachments=(Attachment("m.eml", "message/rfc822", b"A: b\r\n\r\nx"),)))
    eight = compose(
        draft(attachments=(Attachment("m.eml", "message/rfc822", "A: é\r\n\r\nx".encode()),))
    )

    assert scan(plain).root.children[1].is_message
    other = scan(eight).root.children[1]
    assert other.type == "application/octet-stream"
    assert decode_body(eight, other) == "A: é\r\n\r\nx".encode()


def test_a_long_thread_keeps_its_first_and_last_identifiers():
    raw = compose(draft(references=tuple(f"<{n}@b.test>" for n in range(500))))
    kept = scan(raw).text("references").split()

    assert (len(kept), kept[0], kept[-1]) == (20, "<0@b.test>", "<499@b.test>")


def test_the_same_draft_gives_the_same_octets():
    made = draft(attachments=(Attachment("a", "text/plain", b"x"),))

    assert compose(made) == compose(made)
