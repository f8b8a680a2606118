"""Asking the record's writer for something, from a page."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from mailserver.errors import CommandError, MailServerError
from mailserver.webmail.services import WebmailServices
from record_bridge.errors import InsError, RecordBridgeError, RecordStateError


async def run(services: WebmailServices, command: str, arguments: Mapping[str, Any]) -> Any:
    """Have the bridge do something.

    Raises:
        HTTPException: 404 when the record refuses it, 503 when the bridge cannot be asked.
    """
    try:
        return await services.record(command, arguments)
    except (CommandError, RecordBridgeError) as error:
        raise HTTPException(404) from error
    except (OSError, MailServerError) as error:
        raise HTTPException(503) from error


async def ask(
    services: WebmailServices, command: str, arguments: Mapping[str, Any]
) -> tuple[Any, str]:
    """Have the bridge do something; give its result, or why it refused, "" when it did not.

    Raises:
        HTTPException: 503 when the bridge cannot be asked.
    """
    try:
        return await services.record(command, arguments), ""
    except CommandError as error:
        return None, error.code
    except RecordStateError as error:
        return None, error.reason
    except InsError:
        return None, "no_such_patient"
    except (OSError, MailServerError, RecordBridgeError) as error:
        raise HTTPException(503) from error
