"""What must never be seen outside a record or a mailbox: canaries, INS numbers, addresses."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from mailserver.logs import keep_listed_fields

CANARY = "ZZCANARY"
"""Stands in the names, titles and texts of every fixture."""
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "canary": re.compile(CANARY, re.IGNORECASE),
    "INS": re.compile(r"(?<!\w)[12]\d{14}(?!\w)"),
    "address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
}

LEAKS: list[str] = []
"""What the log lines of this run let through, as ``kind: event``; emptied by ``take_leaks``."""


def traces(text: str) -> list[str]:
    """Name what a text lets through, with the place; empty when it is clean."""
    return [
        f"{kind}: …{text[max(match.start() - 40, 0) : match.end() + 40]}…"
        for kind, pattern in PATTERNS.items()
        for match in pattern.finditer(text)
    ]


def watch(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Note what a log line would show; Any: structlog's own processor signature."""
    LEAKS.extend(traces(repr(dict(event))))
    return event


def take_leaks() -> list[str]:
    """Give what was noted since the last call."""
    found = LEAKS[:]
    LEAKS.clear()
    return found


def watch_logs() -> None:
    """Log to stdout as a server would write it, and look at every line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            keep_listed_fields,
            watch,
            structlog.processors.JSONRenderer(default=repr),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
