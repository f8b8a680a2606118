"""Log lines: a constant event, listed fields, nothing of a stranger (STYLE §1, Logging)."""

import ast
import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import structlog

from mailserver import logs
from tests.support import phi

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
ALLOWED_EXTRA = {"exc_info"}
MODULES = sorted(
    path
    for package in logs.OWN_LOGGERS
    for path in (ROOT / package).rglob("*.py")
    if "get_logger(" in path.read_text("utf-8") and path.name != "logs.py"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def log_calls(tree: ast.Module) -> Iterator[tuple[ast.Call, Function | None]]:
    """Give each call of the module's logger with the innermost function around it."""

    def walk(node: ast.AST, around: Function | None) -> Iterator[tuple[ast.Call, Function | None]]:
        for child in ast.iter_child_nodes(node):
            inside = child if isinstance(child, Function) else around
            if (
                isinstance(child, ast.Call)
                and isinstance(child.func, ast.Attribute)
                and child.func.attr in LEVELS
                and isinstance(child.func.value, ast.Name)
                and child.func.value.id in {"log", "logger", "_log"}
            ):
                yield child, around
            yield from walk(child, inside)

    yield from walk(tree, None)


def values_given(tree: ast.Module, function: Function, parameter: str) -> list[ast.expr]:
    """Give what the module's own callers pass for one parameter of a function."""
    names = [argument.arg for argument in function.args.args if argument.arg != "self"]
    place = names.index(parameter)
    given = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called == function.name:
            named = [item.value for item in node.keywords if item.arg == parameter]
            given.append(named[0] if named else node.args[place])
    return given


def is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_log_call_has_a_constant_event_and_listed_fields(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    wrong = []
    for call, function in log_calls(tree):
        (event,) = call.args
        if isinstance(event, ast.Name) and function is not None:
            constant = all(map(is_constant, values_given(tree, function, event.id)))
        else:
            constant = is_constant(event)
        fields = {keyword.arg for keyword in call.keywords}
        if not constant or not fields <= logs.FIELDS | ALLOWED_EXTRA:
            wrong.append((call.lineno, ast.unparse(call)))

    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_log_call_passes_the_text_of_an_error(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    texts = [
        ast.unparse(call)
        for call, _ in log_calls(tree)
        for keyword in call.keywords
        for node in ast.walk(keyword.value)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"str", "repr", "format"}
    ]

    assert texts == []


def test_nothing_but_structlog_writes_logs() -> None:
    users = [
        str(path.relative_to(ROOT))
        for package in logs.OWN_LOGGERS
        for path in (ROOT / package).rglob("*.py")
        if "logging.getLogger" in path.read_text("utf-8")
    ]

    # aiosmtpd's and aioimaplib's own loggers are switched off where the library is used.
    quiet = {"mailserver/smtp/conversation.py", "record_bridge/inbox.py"}
    assert set(users) <= {"mailserver/logs.py"} | quiet


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Our logging as a process configures it, writing into a string."""
    root = logging.getLogger()
    before, level, configured = root.handlers[:], root.level, structlog.get_config()
    stream = io.StringIO()
    with redirect_stderr(stream):
        logs.configure(level="DEBUG")
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    for name in logs.OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.configure(**configured)


def test_a_field_that_is_not_listed_is_dropped(written: io.StringIO) -> None:
    structlog.get_logger("mailserver").info("event", count=1, address="zzcanary@example.test")

    (line,) = written.getvalue().splitlines()
    assert json.loads(line)["count"] == 1
    assert "zzcanary" not in line


def test_an_exception_leaves_its_class_and_places_only(written: io.StringIO) -> None:
    log = structlog.get_logger("record_bridge")
    try:
        int("ZZCANARY")
    except ValueError:
        log.exception("event")

    (line,) = written.getvalue().splitlines()
    assert json.loads(line)["error_type"] == "ValueError"
    assert json.loads(line)["where"]
    assert "ZZCANARY" not in line


@pytest.mark.parametrize("name", ["mail.log", "aioimaplib", "sqlalchemy.engine", "asyncio", "x"])
def test_what_a_library_logs_never_reaches_the_handler(written: io.StringIO, name: str) -> None:
    logging.getLogger(name).error("ZZCANARY %s", "ZZCANARY")

    assert written.getvalue() == ""


def test_the_watch_over_every_test_sees_a_person_in_a_line() -> None:
    log = structlog.get_logger("mailserver")

    log.info("clean", count=1, address="somebody@example.test")
    assert phi.take_leaks() == []
    log.info("leaks", where="somebody@example.test", phase="ZZcanary", item="279039999000178")
    assert len(phi.take_leaks()) == 3
