"""Logs as JSON lines on stderr, with nothing in them that concerns a person.

Invariants: only our four packages' loggers reach the handler, so no library can print a body, a
password or an address; a field that is not on the list is dropped, and so is the text of an
exception (its class is kept). Who saw what is the trail's business, never the log's.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

OWN_LOGGERS = ("certs", "directory", "record_bridge", "mailserver")

FIELDS = frozenset(
    {
        "attempts", "code", "count", "duration_ms", "error_type", "item", "list",
        "listener", "mailbox_id", "octets", "operator", "phase", "port", "process", "receipt_id",
        "reply", "structure_id", "verdict", "where",
    }
)  # fmt: skip
"""What a line may say beside its event. Anything else is dropped (STYLE §1, Logging)."""

_STRUCTURE = frozenset({"event", "level", "logger", "timestamp"})
_FRAMES_KEPT = 6


class OwnRecordsOnly(logging.Filter):
    """Let through the records of our own packages only."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is ours."""
        return record.name.split(".", 1)[0] in OWN_LOGGERS


def keep_listed_fields(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    """Drop every field that is not on the list, and reduce an exception to class and places.

    Any: structlog's own processor signature.
    """
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    kept = {key: value for key, value in event.items() if key in FIELDS or key in _STRUCTURE}
    if isinstance(error, BaseException):
        kept["error_type"] = type(error).__name__
        kept["where"] = _places(error)
    return kept


def _places(error: BaseException) -> list[str]:
    """Give the last frames as module:line; never a local value or a source line."""
    places: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "?")
        places.append(f"{name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[-_FRAMES_KEPT:]


def configure(*, level: str = "INFO") -> None:
    """Send our own records, and nothing else, to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(OwnRecordsOnly())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                keep_listed_fields,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    # aiosmtpd prints whole bodies at DEBUG on this one.
    logging.getLogger("mail.log").disabled = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_listed_fields,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
