"""What testssl.sh finds on the TLS of a running site, and which findings are accepted and why."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.site import DemoSite

LISTENERS: Mapping[str, tuple[str, ...]] = {
    "smtp": ("--starttls", "smtp"),
    "submission": ("--starttls", "smtp"),
    "submissions": (),
    "imaps": (),
}
"""Ports 25, 587, 465 and 993, and how their TLS begins."""
QUICK = ("--fast", "--protocols", "--cipher-per-proto")
"""Which protocols and which suites: a quarter of a minute for the four."""
WHOLE = (
    "--protocols",
    "--cipher-per-proto",
    "--server-preference",
    "--server-defaults",
    "--fs",
    "--standard",
    "--vulnerable",
    "--grease",
)
SUITES = frozenset(
    {
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
)
"""What the French guide on TLS (ANSSI, SDE-NT-035) allows and OpenSSL has."""
HARMLESS = frozenset({"OK", "INFO", "LOW", "DEBUG"})
ACCEPTED: Mapping[str, str] = {
    "engine_problem": "about the examiner's own OpenSSL, not about the server",
    "cert_validityPeriod": "practice certificates live for three years, as IGC-Santé's do",
    "cert_revocation": "the practice authority publishes no list; IGC-Santé's certificates name one",
}
"""Findings above "low" that a practice site may have: each with its reason."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examiner's report."""

    listener: str
    id: str
    severity: str
    text: str

    @property
    def accepted(self) -> bool:
        """Whether it is harmless, or on the written list."""
        return self.severity in HARMLESS or self.id in ACCEPTED


def examine(site: DemoSite, sections: Sequence[str], *, timeout: float) -> list[Finding]:
    """Let testssl.sh examine the four listeners of a running demo site, at the same time."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(LISTENERS)) as threads:
        return [
            finding
            for findings in threads.map(
                lambda name: _examine(site, name, sections, Path(folder), timeout), LISTENERS
            )
            for finding in findings
        ]


def _examine(
    site: DemoSite, name: str, sections: Sequence[str], folder: Path, timeout: float
) -> list[Finding]:
    report = folder / f"{name}.json"
    subprocess.run(
        [
            "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
            "--ip", "127.0.0.1", "--add-ca", site.demo["ca_file"], "--connect-timeout", "10",
            "--openssl-timeout", "20", "--jsonfile", str(report), *sections, *LISTENERS[name],
            f"localhost:{site.port(name)}",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=timeout,
    )  # fmt: skip
    return [
        Finding(name, row["id"], row["severity"], row["finding"])
        for row in json.loads(report.read_text())
    ]


def suites(findings: Sequence[Finding], listener: str) -> frozenset[str]:
    """Give the IANA names of the suites that a listener takes."""
    return frozenset(
        finding.text.split()[-1]
        for finding in findings
        if finding.listener == listener and finding.id.startswith("cipher-tls")
    )


def protocols(findings: Sequence[Finding], listener: str) -> dict[str, bool]:
    """Give which protocols a listener speaks."""
    return {
        finding.id: not finding.text.startswith("not offered")
        for finding in findings
        if finding.listener == listener
        and finding.id in {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3"}
    }
