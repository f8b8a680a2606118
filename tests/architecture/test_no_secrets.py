"""What is published holds no private key, no path of one machine, no package mirror."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = {".png", ".svg"}
DASHES = "-" * 5
PATTERNS = {
    "private key": re.compile(
        f"{DASHES}BEGIN ([A-Z]+ )?PRIVATE KEY{DASHES}\\s*[A-Za-z0-9+/=]{{16}}"
    ),
    "bare key of a machine": re.compile(r"\b(ghp|gho|glpat|AKIA|xox[abp])[-_]?[A-Za-z0-9]{16}"),
    "path of a machine": re.compile(r"(?<![\w.$}/<])/(?:home|root|work|Users|mnt)/[a-z]"),
    "package mirror": re.compile(
        r"(?:extra-)?index-url|trusted-host|artifactory|https?://[^\s/]*(?:pypi|pythonhosted|npmjs)"
    ),
}
TAKEN_AS_THEY_ARE = {"tests/support/axe_core/axe.min.js"}
"""Other people's files, with their licence beside them."""


def published() -> Iterator[Path]:
    """Give the files that git knows."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what is published is not known")
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and name not in TAKEN_AS_THEY_ARE:
            yield path


@pytest.mark.parametrize("what", PATTERNS)
def test_no_published_file_holds_a(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in published()
        if path.suffix not in PICTURES and path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1)
        if PATTERNS[what].search(line)
    ]

    assert found == []


def test_no_key_or_database_is_published() -> None:
    kinds = {".key", ".pem", ".p12", ".pfx", ".sqlite3", ".db", ".jsonl"}

    assert [path.name for path in published() if path.suffix in kinds] == []


def test_no_published_file_is_larger_than_a_picture() -> None:
    assert [path.name for path in published() if path.stat().st_size > 1_000_000] == []
