"""What can go wrong in the record bridge: one class per decision of the caller.

RecordBridgeError
├── MalformedDocumentError         strangers' bytes are not what they claim (``reason``)
│   ├── MalformedPackageError      IHE_XDM.zip cannot be listed, or not safely
│   ├── MalformedMetadataError     METADATA.XML cannot be read
│   ├── MalformedCdaError          no readable ClinicalDocument
│   ├── MalformedIcalendarError    an iCalendar object cannot be read
│   └── MalformedArchiveError      an archive of a record is not what it says
├── MalformedMatrixError           the habilitation matrix that comes with Pli (``reason``)
├── InsError                       a matricule or a trait is not well formed (``reason``)
└── RecordStateError               a command does not fit the record's state (``reason``)

Texts are fixed: no input byte, name, identifier or address enters one. ``reason`` is a
constant of this program, never input. Errors pickle (they cross the sandbox's border).
"""


class RecordBridgeError(Exception):
    """Root of the package's errors."""


class MalformedDocumentError(RecordBridgeError):
    """Strangers' bytes are not what they claim to be.

    Attributes:
        reason: a short constant of this program (``"doctype"``, ``"overlap"``).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the document cannot be read: {self.reason}"


class MalformedPackageError(MalformedDocumentError):
    """An IHE_XDM.zip cannot be listed, or not safely."""

    def __str__(self) -> str:
        return f"the package cannot be read: {self.reason}"


class MalformedMetadataError(MalformedDocumentError):
    """METADATA.XML cannot be read."""

    def __str__(self) -> str:
        return f"the package's metadata cannot be read: {self.reason}"


class MalformedCdaError(MalformedDocumentError):
    """There is no readable ClinicalDocument in these bytes."""

    def __str__(self) -> str:
        return f"the clinical document cannot be read: {self.reason}"


class MalformedIcalendarError(MalformedDocumentError):
    """An iCalendar object cannot be read, or not safely."""

    def __str__(self) -> str:
        return f"the calendar object cannot be read: {self.reason}"


class MalformedArchiveError(MalformedDocumentError):
    """An archive of a record is not what it says."""

    def __str__(self) -> str:
        return f"the archive of a record cannot be read: {self.reason}"


class MalformedHl7Error(RecordBridgeError):
    """An HL7 v2 message cannot be read.

    Attributes:
        code: of HL7 table 0357, for the answer.
        reason: which rule is broken, a constant of this program.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the HL7 message cannot be read: {self.reason}"


class MalformedCalendarError(RecordBridgeError):
    """The file of the national prevention calendar is not what this program reads."""

    def __str__(self) -> str:
        return "the prevention calendar cannot be read"


class MalformedMatrixError(RecordBridgeError):
    """The file of the habilitation matrix is not what this program reads.

    Attributes:
        reason: which rule is broken, a constant of this program.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the habilitation matrix cannot be read: {self.reason}"


class InsError(RecordBridgeError):
    """A matricule or an identity trait is not well formed.

    Attributes:
        reason: which rule is broken, a constant of this program.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the identity is not well formed: {self.reason}"


class RecordStateError(RecordBridgeError):
    """A command does not fit the state of the record.

    Attributes:
        reason: what stands in the way, a constant of this program.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the record does not allow this: {self.reason}"
