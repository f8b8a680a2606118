"""The gate that holds a patient's mail and the bridge that opens it see the same packages (S20).

Were the gate to see more than the bridge, mail would be released unread; were it to see less, a
patient would read before the bridge has answered (RULES §7).
"""

import pytest

from certs.mime import scan
from mailserver.delivery.errors import Refused
from mailserver.delivery.prepare import prepare
from record_bridge.opening import count_occurrences

NAMED = [
    "Content-Disposition: attachment; filename=ihe_xdm.zip",
    "Content-Type: application/zip; name=IHE_XDM.ZIP",
    "Content-Type: application/zip; name=x.pdf\r\nContent-Disposition: inline; filename=IHE_XDM.zip",
    "Content-Type: application/zip; name=IHE_XDM.zip\r\nContent-Disposition: inline; filename=x.pdf",
    "Content-Disposition: attachment; filename*=utf-8''IHE%5FXDM.zip",
    "Content-Disposition: attachment; filename=IHE_XDM.zip; filename*=utf-8''x.pdf",
    'Content-Disposition: attachment; filename*0="IHE_"; filename*1="XDM.zip"',
    'Content-Disposition: attachment; filename="=?utf-8?q?IHE=5FXDM.zip?="',
    'Content-Disposition: attachment; filename="C:\\\\docs\\\\IHE_XDM.zip"',
    "Content-Disposition: attachment; filename=a; filename=IHE_XDM.zip",
    "Content-Disposition: attachment; filename=IHE_XDM.zip\r\nContent-Transfer-Encoding: base64",
    "Content-Disposition: attachment; filename=IHE_XDM.zip\r\nContent-Transfer-Encoding: odd",
]
OTHER = [
    "Content-Disposition: attachment; filename=IHE_XDM.zip.pdf",
    "Content-Disposition: attachment; filename=xIHE_XDM.zip",
    "Content-Type: text/plain",
    "X-Name: IHE_XDM.zip",
]


def in_a_part(header: str) -> bytes:
    return (
        f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{header}\r\n\r\nUEsDBA==\r\n--b--"
    ).encode()


def in_a_forward(header: str) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + in_a_part(header)


def at_the_top(header: str) -> bytes:
    return f"{header}\r\n\r\nUEsDBA==\r\n".encode()


@pytest.mark.parametrize("shape", [in_a_part, in_a_forward, at_the_top])
@pytest.mark.parametrize("header", NAMED + OTHER)
def test_gate_and_bridge_see_the_same_packages(header, shape):
    raw = shape(header)
    gate = prepare(raw, "mail.us.test")

    assert not isinstance(gate, Refused)
    assert gate.packages == count_occurrences(raw) == (1 if header in NAMED else 0)


@pytest.mark.parametrize(
    "header",
    [*NAMED, 'Content-Disposition: attachment; filename="=?utf-8?b?SUhFX1hETS56aXA=?="'],
)
def test_a_package_in_an_ambiguous_message_still_goes_to_the_bridge(header):
    raw = b"Content-Type: text/plain\r\n" + in_a_part(header)
    gate = prepare(raw, "mail.us.test")

    assert not isinstance(gate, Refused)
    assert scan(raw).ambiguous
    assert gate.packages == 1
