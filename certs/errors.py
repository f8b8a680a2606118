"""What can go wrong in the PKI and S/MIME package.

CertsError
├── MalformedMessageError    a message cannot be split into parts unambiguously
├── MalformedAddressError    an address, or a field of addresses, is not one
├── MalformedCmsError        bytes are not the CMS structure they should be
├── DecryptionError          no key opens the message, whatever the cause (one text for all)
├── KeyStoreError            the site's PKI directory cannot be used
└── SandboxError             a function of the worker pool raised (``error_type`` says the class)
    ├── SandboxTimeoutError  the worker passed its deadline and was killed
    └── SandboxCrashError    the worker died, or broke its protocol

A bad signature or an untrusted chain is no error: see ``certs.verdict``. Texts are fixed; no
byte, address or name of the input ever stands in one.
"""


class CertsError(Exception):
    """Root of the package's errors."""


class MalformedMessageError(CertsError):
    """The MIME structure cannot be split unambiguously."""

    def __init__(self) -> None:
        super().__init__("the message's structure is not sound")


class MalformedAddressError(CertsError):
    """What should be one address is not."""

    def __init__(self) -> None:
        super().__init__("not a well-formed address")


class MalformedCmsError(CertsError):
    """The bytes are not the CMS structure they should be."""

    def __init__(self) -> None:
        super().__init__("not a well-formed CMS structure")


class DecryptionError(CertsError):
    """The message was not opened.

    One text for a missing recipient, a wrong key and altered bytes: a difference would be an
    oracle (CWE-203; RFC 3218 §2.3).
    """

    def __init__(self) -> None:
        super().__init__("the message could not be opened")


class KeyStoreError(CertsError):
    """The PKI directory lacks a file, or holds one that cannot be used."""

    def __init__(self) -> None:
        super().__init__("the PKI directory cannot be used; see pli check")


class SandboxError(CertsError):
    """A function of the worker pool raised; its text stays in the worker."""

    def __init__(self, error_type: str = "Exception") -> None:
        super().__init__("a sandboxed function failed")
        self.error_type = error_type

    def __reduce__(self) -> tuple[type["SandboxError"], tuple[str, ...]]:
        return type(self), (self.error_type,)


class SandboxTimeoutError(SandboxError):
    """The worker passed its deadline and was killed."""

    def __init__(self, error_type: str = "TimeoutError") -> None:
        super().__init__(error_type)


class SandboxCrashError(SandboxError):
    """The worker died, ran out of memory, or broke its protocol."""

    def __init__(self, error_type: str = "WorkerDied") -> None:
        super().__init__(error_type)
