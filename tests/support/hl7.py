"""HL7 v2 messages as a hospital's software writes them."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

OID_TEST = "1.2.250.1.213.1.4.10"


@dataclass(frozen=True)
class Mdm:
    """An MDM about one document.

    Attributes:
        ids: TXA-12 and TXA-13.
        recipients: (role, address) of PRT segments.
        wishes: flags said with Y.
        texts: (name, text) of the mail's bodies.
    """

    document: bytes
    ins: str
    oid: str = OID_TEST
    event: str = "T02"
    control: str = "MSG1"
    ids: tuple[str, str] = ("", "")
    recipients: Sequence[tuple[str, str]] = ()
    wishes: Sequence[str] = ()
    texts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    def encode(self) -> bytes:
        """Write it."""
        state = {"T02": "F", "T10": "C", "T04": "D"}[self.event]
        content = b64encode(self.document).decode()
        lines = [
            (
                f"MSH|^~\\&|DPI|HOP|PFI|HOP|20261123093000+0100||MDM^{self.event}^MDM_T02|{self.control}"
                "|P|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2"
            ),
            "EVN||20261123",
            f"PID|||{self.ins}^^^ASIP-SANTE-INS-NIR&{self.oid}&ISO^INS||ZZCANARY^X^^^^^L",
            "PV1||N",
            f"TXA|1|11490-0|TEXT|||||||||{self.ids[0]}|{self.ids[1]}||||AU",
        ]
        if self.document:
            lines.append(
                f"OBX|1|ED|11490-0^Lettre de liaison^LN||^text^XML^Base64^{content}||||||{state}"
            )
        lines += [
            f"PRT|1|UC||{role}|{'|' * 10}^NET^X.400^{address}" for role, address in self.recipients
        ]
        lines += [
            f"OBX|2|CWE|{wish}^{wish}^MetaDMPMSS||Y^^expandedYes-NoIndicator||||||F"
            for wish in self.wishes
        ]
        lines += [
            f"OBX|3|ED|{name}^{name}^MetaDMPMSS||^text^PLAIN^Base64^"
            f"{b64encode(text.encode()).decode()}||||||F"
            for name, text in self.texts
        ]
        lines += [f"NTE|1||{note}" for note in self.notes]
        return ("\r".join(lines) + "\r").encode()
