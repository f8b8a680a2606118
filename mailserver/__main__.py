"""Entry point of the ``pli`` command."""

import sys
from pathlib import Path
from types import TracebackType

from certs.errors import SandboxCrashError
from mailserver import logs
from mailserver.cli.main import app
from mailserver.cli.output import complain

UNEXPECTED = 1
NOT_WRITABLE = "readonly database", "unable to open database file", "database or disk is full"


def main() -> None:
    """Run the command line; no traceback is shown, since it may quote what is private."""
    # A command says itself what became of it, on stdout; `pli serve` configures its own log.
    logs.configure(level="CRITICAL")
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
        sys.exit(UNEXPECTED)
    except Exception as error:  # noqa: BLE001 - the top: what nobody expected ends here
        complain(_explained(error))
        sys.exit(UNEXPECTED)


def _explained(error: Exception) -> str:
    """Say in one line what went wrong, with nothing that the error quotes."""
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"{error.filename}: {error.strerror}; run pli as the site's own user, "
            "and see 'pli check DIR'"
        )
    if any(text in str(error) for text in NOT_WRITABLE):
        return (
            "a database cannot be opened or written: check the owner and the mode of DIR/data "
            "and the free disk"
        )
    if isinstance(error, SandboxCrashError):
        return (
            "a process that opens messages did not start, or ended: the machine has no memory "
            "left, or too much to do; run this again"
        )
    return (
        f"unexpected {type(error).__name__} in {_place(error.__traceback__)}; "
        "please report this line"
    )


def _place(trace: TracebackType | None) -> str:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "?"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


if __name__ == "__main__":
    main()
