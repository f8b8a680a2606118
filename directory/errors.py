"""What can go wrong in the annuaire and under every database of Pli.

DirectoryError
├── IdentifierError          an identifier is not well formed (``reason`` says which rule)
├── TrustListError           a trust list cannot be used (``reason``)
├── AlreadyListedError       a structure, mailbox or practitioner of this key is already there
├── UnknownStructureError    a mailbox or role names a structure that is not there
└── DatabaseError
    ├── SchemaMismatchError  the file's schema is not this program's
    ├── DatabaseBusyError    another process holds the file
    └── DatabaseClosedError  a write on a database that is read-only or closed
"""

from enum import Enum


class IdentifierReason(Enum):
    """Which rule an identifier breaks."""

    SHAPE = "shape"
    KEY = "key"
    KIND = "kind"


class TrustListReason(Enum):
    """Why a trust list cannot be used."""

    ABSENT = "absent"
    """There is no file where this site looks for it."""
    UNREADABLE = "unreadable"
    """Not XML, truncated, or with a DOCTYPE."""
    STRUCTURE = "structure"
    """XML, but not a trust list."""
    UNSIGNED = "unsigned"
    """A signer is configured and the list bears no signature."""
    SIGNATURE = "signature"
    """The signature does not hold, or covers something else, or is another signer's."""
    EMPTY = "empty"
    """It lists nobody."""
    SHRUNK = "shrunk"
    """It lost more entries than a list loses in a day."""
    OLDER = "older"
    """It was made before the one in use."""
    FUTURE = "future"
    """It is dated ahead of now."""
    NOT_FETCHED = "not-fetched"
    """The address it is published at did not give it, or not over TLS that the site trusts."""
    TOO_LARGE = "too_large"


class DirectoryError(Exception):
    """Root of the package's errors."""


class IdentifierError(DirectoryError):
    """An identifier is not well formed."""

    def __init__(self, reason: IdentifierReason) -> None:
        super().__init__("the identifier is not well formed")
        self.reason = reason


class TrustListError(DirectoryError):
    """A trust list cannot be used; the last good one stays in use."""

    def __init__(self, reason: TrustListReason) -> None:
        super().__init__("the trust list cannot be used")
        self.reason = reason


class AlreadyListedError(DirectoryError):
    """A structure, mailbox or practitioner of this key is already there."""

    def __init__(self) -> None:
        super().__init__("already in the directory")


class UnknownStructureError(DirectoryError):
    """A mailbox or a role names a structure that is not there."""

    def __init__(self) -> None:
        super().__init__("no such structure")


class DatabaseError(DirectoryError):
    """A database cannot be used as asked."""


class SchemaMismatchError(DatabaseError):
    """The file's schema is older or newer than this program's."""

    def __init__(self) -> None:
        super().__init__("the database's schema is not this program's; see pli check")


class DatabaseBusyError(DatabaseError):
    """Another process holds the file."""

    def __init__(self) -> None:
        super().__init__("another process holds the database")


class DatabaseClosedError(DatabaseError):
    """A write on a database that is read-only or closed."""

    def __init__(self) -> None:
        super().__init__("the database is not open for writing")
