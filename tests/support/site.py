"""A demo site as its own processes: made, started, killed and asked with the ``pli`` command.

Used by the end-to-end tests, the demo, the bench and the proofs. Nothing here imports the server.
"""

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.ports import free_base

PLI = str(Path(sys.executable).with_name("pli"))
STOP_S = 60
_TEMPLATE_BASE = 47000
_TEMPLATE_PORT = re.compile(r"\b47\d{3}\b")


class PliError(Exception):
    """The command ended with something else than 0; the text is what it printed."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"exit {code}: {text}")
        self.code = code


def pli(*arguments: str, stdin: str | None = None, timeout: float = 300) -> Any:
    """Run ``pli``; give its JSON output, or its text when it is none.

    Any: whatever the command prints.
    """
    code, output, errors = pli_result(*arguments, stdin=stdin, timeout=timeout)
    if code != 0:
        raise PliError(code, errors + output)
    try:
        return json.loads(output)
    except json.JSONDecodeError:
        return output


def pli_result(
    *arguments: str, stdin: str | None = None, timeout: float = 300
) -> tuple[int, str, str]:
    """Run ``pli``; give its exit status, stdout and stderr."""
    done = subprocess.run(
        [PLI, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    return done.returncode, done.stdout, done.stderr


@cache
def _template(options: tuple[str, ...]) -> Path:
    """A demo site that is only copied; it is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="pli-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pli("init", str(folder / "site"), "--demo", "--base-port", str(_TEMPLATE_BASE), *options)
    return folder / "site"


class DemoSite:
    """A demo site and, between ``start`` and ``stop``, its server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.demo: Mapping[str, Any] = json.loads((root / "demo.json").read_text())
        self._process: subprocess.Popen[str] | None = None
        self._traced = False

    @classmethod
    def create(cls, root: Path, *options: str, base: int | None = None) -> "DemoSite":
        """Make it as ``pli init --demo`` does, on free ports, those of ``base`` if they are free.

        The command runs once in a process for the same options; what it made is copied to the
        next place, so the keys of such sites are the same.
        """
        made = _template(options)
        shutil.copytree(made, root)
        moved = free_base(base) - _TEMPLATE_BASE
        for name in ("pli.toml", "demo.json"):
            text = (root / name).read_text().replace(str(made), str(root))
            (root / name).write_text(
                _TEMPLATE_PORT.sub(lambda port: str(int(port[0]) + moved), text)
            )
        return cls(root)

    def start(self, *, prefix: Sequence[str] = ()) -> None:
        """Start ``pli serve`` in a process group of its own and wait until it listens."""
        self._traced = bool(prefix)
        with (self.root.parent / "serve.log").open("a") as log:
            self._process = subprocess.Popen(
                [*prefix, PLI, "serve", str(self.root)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.startswith("ready "):
            self.kill()
            told = [each for each in self.log().splitlines() if '"level": "info"' not in each]
            raise RuntimeError("\n".join(["the server did not start; it said:", *told[-10:]]))

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL the whole process group, as a power cut would end it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reap()

    def stop(self) -> int:
        """SIGTERM the server; give its exit status."""
        if self._process is None:
            return 0
        os.kill(self._supervisor(), signal.SIGTERM)
        try:
            code = self._process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reap()
        return code

    def _supervisor(self) -> int:
        """The process to signal: under a tracer, which keeps signals to itself, its child."""
        if not self._traced:
            return self.pid
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0])

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=STOP_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until nothing is queued and nothing is pending."""
        pli("wait", str(self.root), "--idle", "--timeout", str(timeout), timeout=timeout + 30)

    def log(self) -> str:
        """Everything the server logged so far."""
        return (self.root.parent / "serve.log").read_text()

    def port(self, name: str) -> int:
        """Give a listener's port."""
        return int(self.demo["ports"][name])

    def tls(self) -> ssl.SSLContext:
        """A client's context that trusts the site's practice root only."""
        return ssl.create_default_context(cafile=self.demo["ca_file"])

    def operator_tls(self, number: int = 0) -> ssl.SSLContext:
        """An operator's context, with its client certificate."""
        context = self.tls()
        operator = self.demo["operators"][number]
        context.load_cert_chain(operator["certificate_file"], operator["key_file"])
        return context

    def send(
        self,
        *recipients: str,
        files: Sequence[Path],
        number: int = 0,
        options: Sequence[str] = (),
    ) -> Any:
        """Send reports with ``pli report send`` as one of the operators."""
        operator = self.demo["operators"][number]
        arguments = [
            "report", "send", "--host", "localhost", "--port", str(self.port("smtp")),
            "--ca", self.demo["ca_file"],
            "--cert", operator["certificate_file"], "--key", operator["key_file"],
            "--smime-cert", operator["smime_certificate_file"],
            "--smime-key", operator["smime_key_file"],
            "--from", operator["sender"], *options,
        ]  # fmt: skip
        for recipient in recipients:
            arguments += ["--to", recipient]
        return pli(*arguments, *map(str, files))


@contextlib.contextmanager
def receiver(site: DemoSite, number: int = 0) -> Iterator[Path]:
    """Run an operator's receiver; give the folder it fills."""
    operator = site.demo["operators"][number]
    with (site.root.parent / "receiver.log").open("a") as log:
        process = subprocess.Popen(
            [
                PLI, "hospital", "serve", "--port", str(operator["receiver"]["port"]),
                "--ca", site.demo["ca_file"], "--cert", operator["certificate_file"],
                "--key", operator["key_file"], "--dir", operator["receiver"]["dir"],
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )  # fmt: skip
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("ready"):
            raise RuntimeError(f"the receiver did not start; see {site.root.parent}")
        yield Path(operator["receiver"]["dir"])
    finally:
        process.terminate()
        process.wait(timeout=STOP_S)
        if process.stdout is not None:
            process.stdout.close()
