"""What the mail store can refuse.

StoreError
├── NoSuchMailboxError     no mailbox has this id or address
├── MailboxExistsError     the address is taken
├── AccountExistsError     the login is taken
├── WeakSecretError        a device password given by the caller is shorter than 100 bits
├── NoSuchFolderError      no folder has this id or name in this mailbox
├── FolderExistsError      the name is taken in this mailbox
├── CannotError            a protected folder (INBOX deleted, a name that is not one)
├── ServerKeywordError     a keyword only the server sets (RULES §10)
├── TooManyKeywordsError   more keywords on one entry than the store keeps
├── NotSharableError       not a mailbox to share, or nobody to share it with
├── UnknownRightError      a letter that is no right (RFC 4314)
├── OverQuotaError         the mailbox would hold more than it may
├── NoSuchEntryError       the entry was expunged meanwhile
├── NoSuchBlobError        the body was expunged meanwhile
└── BlobSizeError          a staged body is not of the size that was announced

Texts are fixed: no name, address or identifier ever stands in one.
"""


class StoreError(Exception):
    """Root of the package's errors."""


class NoSuchMailboxError(StoreError):
    """No mailbox has this id or address."""

    def __init__(self) -> None:
        super().__init__("no such mailbox")


class MailboxExistsError(StoreError):
    """The address is taken."""

    def __init__(self) -> None:
        super().__init__("a mailbox has this address already")


class AccountExistsError(StoreError):
    """The login is taken."""

    def __init__(self) -> None:
        super().__init__("an account has this login already")


class WeakSecretError(StoreError):
    """A device password given by the caller is too short."""

    def __init__(self) -> None:
        super().__init__("a device password has at least 20 characters")


class NoSuchFolderError(StoreError):
    """No folder has this id or name in this mailbox."""

    def __init__(self) -> None:
        super().__init__("no such folder")


class FolderExistsError(StoreError):
    """The name is taken in this mailbox."""

    def __init__(self) -> None:
        super().__init__("a folder has this name already")


class CannotError(StoreError):
    """A folder that may not be changed this way, or a name that cannot be one."""

    def __init__(self) -> None:
        super().__init__("this folder cannot be changed in this way")


class ServerKeywordError(StoreError):
    """A client set or removed a keyword that only the server sets."""

    def __init__(self) -> None:
        super().__init__("this keyword is set by the server only")


class TooManyKeywordsError(StoreError):
    """More keywords on one entry than the store keeps."""

    def __init__(self) -> None:
        super().__init__("too many keywords on one message")


class NotSharableError(StoreError):
    """Only a structure's ORG and CAB mailboxes are shared, with the holders of its PER ones."""

    def __init__(self) -> None:
        super().__init__("this mailbox cannot be shared with this person")


class UnknownRightError(StoreError):
    """A letter that names no right."""

    def __init__(self) -> None:
        super().__init__("an unknown right")


class OverQuotaError(StoreError):
    """The mailbox would hold more than it may."""

    def __init__(self) -> None:
        super().__init__("the mailbox is full")


class NoSuchEntryError(StoreError):
    """The entry was expunged meanwhile."""

    def __init__(self) -> None:
        super().__init__("no such entry")


class NoSuchBlobError(StoreError):
    """The body is gone: its last entry was expunged."""

    def __init__(self) -> None:
        super().__init__("the body is no longer stored")


class BlobSizeError(StoreError):
    """A staged body is not of the announced size."""

    def __init__(self) -> None:
        super().__init__("the body is not of the announced size")
