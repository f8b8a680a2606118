"""A real Thunderbird without a window, driven through its Marionette port.

Marionette frames JSON arrays as ``<length>:<json>``: ``[0, id, command, parameters]`` there,
``[1, id, error, result]`` back. Scripts run with Thunderbird's own rights (the chrome context), so
they speak to the same services as its windows do.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.ports import free_port

START_S = 60.0
PREFERENCES: Mapping[str, object] = {
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.server.default.login_at_startup": False,
    "mail.spotlight.firstRunDone": True,
    "mail.winsearch.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}


class ScriptError(AssertionError):
    """A script failed inside Thunderbird."""


class Thunderbird:
    """One running Thunderbird."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._count = 0
        self._socket: socket.socket | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        """Wait for the port, open a session, and take the program's own rights."""
        until = time.monotonic() + START_S
        while self._socket is None:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=90)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        self._read()  # its greeting
        self._call("WebDriver:NewSession", {"capabilities": {}})
        self._call("Marionette:SetContext", {"value": "chrome"})
        self._call("WebDriver:SetTimeouts", {"script": 60_000})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask it to quit."""
        with contextlib.suppress(OSError, AssertionError, ValueError):
            self._call("Marionette:Quit", {"flags": ["eForceQuit"]})
        if self._socket is not None:
            self._socket.close()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function; gives what it returns.

        Args:
            script: JavaScript; ``args`` holds the arguments, ``MailServices``, ``Services``,
                ``Ci``, ``Cc`` and ``until(condition, what)`` are there.
            arguments: JSON values.

        Raises:
            ScriptError: it threw.
        """
        body = f"""
            const [args, done] = [arguments[0], arguments[arguments.length - 1]];
            const {{ MailServices }} = ChromeUtils.importESModule(
                "resource:///modules/MailServices.sys.mjs");
            const {{ setTimeout }} = ChromeUtils.importESModule(
                "resource://gre/modules/Timer.sys.mjs");
            const until = async (condition, what) => {{
                for (let turn = 0; turn < 300; turn++) {{
                    const value = await condition();
                    if (value) return value;
                    await new Promise(resolve => setTimeout(resolve, 100));
                }}
                throw new Error("waited in vain: " + what);
            }};
            (async () => {{ {script} }})().then(
                value => done({{ value: value === undefined ? null : value }}),
                error => done({{ error: String(error) + " " + String(error && error.stack) }}));
        """
        parameters = {"script": body, "args": [list(arguments)], "sandbox": "system"}
        said = self._call("WebDriver:ExecuteAsyncScript", parameters)["value"]
        if "error" in said:
            raise ScriptError(said["error"])
        return said["value"]

    def _call(self, command: str, parameters: Mapping[str, Any]) -> Any:
        assert self._socket is not None
        self._count += 1
        text = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _kind, _number, error, result = self._read()
        if error is not None:
            raise ScriptError(json.dumps(error))
        return result

    def _read(self) -> Any:
        assert self._socket is not None
        while b":" not in self._buffer:
            self._more()
        length, _, rest = self._buffer.partition(b":")
        self._buffer = rest
        while len(self._buffer) < int(length):
            self._more()
        text, self._buffer = self._buffer[: int(length)], self._buffer[int(length) :]
        return json.loads(text)

    def _more(self) -> None:
        assert self._socket is not None
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise ScriptError("Thunderbird closed the connection")
        self._buffer += piece


@contextlib.contextmanager
def thunderbird(
    profile: Path, preferences: Mapping[str, object] | None = None
) -> Iterator[Thunderbird]:
    """Run Thunderbird on a fresh profile until the block ends."""
    program = shutil.which("thunderbird")
    assert program is not None
    profile.mkdir(parents=True)
    port = free_port()
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});"
        for name, value in {**PREFERENCES, **(preferences or {}), "marionette.port": port}.items()
    ]
    (profile / "user.js").write_text("\n".join(lines), "utf-8")
    environment = {**os.environ, "HOME": str(profile), "MOZ_HEADLESS": "1"}
    arguments = ["--headless", "-marionette", "-remote-allow-system-access", "--no-remote"]
    with (profile / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [program, *arguments, "--profile", str(profile)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            with Thunderbird(port) as running:
                yield running
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()
            process.wait()
