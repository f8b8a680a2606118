"""The command line as a stranger meets it: help everywhere, 2 for usage, errors that help, JSON."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from mailserver.cli.main import app
from tests.support.site import DemoSite

ROOT = Path(__file__).parents[2]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give each command that does something, with its words."""
    subcommands: Mapping[str, Any] = getattr(command, "commands", {})
    if not subcommands:
        yield path, command
    for name, inner in subcommands.items():
        yield from leaves(inner, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))
GROUPS = sorted({path[:1] for path in COMMANDS if len(path) > 1})
LISTS = sorted(path for path in COMMANDS if path[-1] == "list")
ON_A_SITE = sorted(
    path
    for path, command in COMMANDS.items()
    if path != ("init",) and any(option.name == "site" for option in command.params)
)


KEYED = sorted(
    path
    for path, command in COMMANDS.items()
    if any(option.metavar in {"ID", "ID...", "ITEM", "UID", "PART"} for option in command.params)
    and path[:1] != ("structure",)
)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def spoken(path: tuple[str, ...]) -> str:
    return " ".join(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    """A demo site that nothing serves."""
    return DemoSite.create(tmp_path_factory.mktemp("cli") / "site")


def needed(path: tuple[str, ...], demo: Mapping[str, Any]) -> list[str]:
    """Give what a list command needs besides the site."""
    patient = demo["patients"][0]
    names = {option.name for option in COMMANDS[path].params}
    named = {"ins": "--ins", "patient": "--patient"}
    given = [word for name in named if name in names for word in (named[name], patient["ins"])]
    if given:
        given += ["--oid", patient["oid"], "--structure", patient["structure"]]
    return given


def test_the_version_is_the_package_s() -> None:
    result = invoke("--version")

    assert (result.exit_code, result.stdout) == (0, f"pli {metadata.version('pli-sante')}\n")


@pytest.mark.parametrize("group", [(), *GROUPS], ids=spoken)
def test_a_list_of_commands_cuts_nothing_short(group: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"})

    listed = result.stdout.partition("Commands:\n")[2].splitlines()
    assert listed
    assert not [line for line in listed if line.endswith("...") or len(line) > 80]


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=spoken)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = invoke(*path, "--help")

    assert result.exit_code == 0
    assert COMMANDS[path].help
    for option in COMMANDS[path].params:
        if option.param_type_name == "option":
            assert option.opts[0] in result.stdout


@pytest.mark.parametrize("path", [(), *GROUPS], ids=spoken)
def test_a_family_alone_lists_its_commands(path: tuple[str, ...]) -> None:
    result = invoke(*path)

    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=spoken)
def test_an_unknown_option_is_usage(path: tuple[str, ...]) -> None:
    result = invoke(*path, "--no-such-option")

    assert result.exit_code == 2
    assert "no-such-option" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=spoken)
def test_a_missing_argument_is_usage(path: tuple[str, ...]) -> None:
    result = invoke(*path)

    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("number", [-1, 2**63])
@pytest.mark.parametrize("path", KEYED, ids=spoken)
def test_a_number_that_no_line_can_have_is_usage(path: tuple[str, ...], number: int) -> None:
    words = ["x" if option.metavar == "DIR" else str(number) for option in COMMANDS[path].params
             if option.param_type_name == "argument"]  # fmt: skip

    result = invoke(*path, "--", *words)

    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize("path", ON_A_SITE, ids=spoken)
def test_every_command_that_asks_for_a_site_asks_first(path: tuple[str, ...]) -> None:
    first = next(
        option for option in COMMANDS[path].params if option.param_type_name == "argument"
    )

    assert first.name == "site"


@pytest.mark.parametrize("path", [("status",), ("check",), ("serve",), *LISTS], ids=spoken)
def test_a_folder_that_is_no_site_is_told_what_to_do(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    extra = {
        ("device", "list"): ["somebody@example.test"],
        ("record", "list"): ["--ins", "1", "--oid", "1"],
        ("access", "list"): ["--patient", "1"],
        ("agenda", "list"): ["--ins", "1", "--oid", "1"],
    }.get(path, [])

    result = invoke(*path, str(tmp_path), *extra)

    assert result.exit_code == 1
    assert "pli init" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("path", LISTS, ids=spoken)
def test_a_list_as_json_is_one_array(path: tuple[str, ...], site: DemoSite) -> None:
    address = [site.demo["practitioners"][0]["address"]] if path == ("device", "list") else []

    result = invoke(*path, str(site.root), *address, *needed(path, site.demo), "--json")

    assert result.exit_code == 0, result.output
    assert isinstance(json.loads(result.stdout), list)
    assert result.stderr == ""


@pytest.mark.parametrize("path", LISTS, ids=spoken)
def test_a_list_for_people_says_something(path: tuple[str, ...], site: DemoSite) -> None:
    address = [site.demo["practitioners"][0]["address"]] if path == ("device", "list") else []

    result = invoke(*path, str(site.root), *address, *needed(path, site.demo))

    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_a_fresh_site_balances_in_json(site: DemoSite) -> None:
    result = invoke("audit", "verify", str(site.root), "--json")

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["received"], told["balanced"], told["problems"]) == (0, True, [])


def test_a_device_password_is_given_once_and_in_json(site: DemoSite) -> None:
    address = site.demo["practitioners"][0]["address"]

    made = json.loads(invoke("device", "add", str(site.root), address, "phone", "--json").stdout)
    listed = invoke("device", "list", str(site.root), address, "--json").stdout

    assert made["password"]
    assert "phone" in listed
    assert made["password"] not in listed


REFUSED = {
    "unknown mailbox": "device add {site} nobody@example.test phone",
    "unknown mailbox's devices": "device list {site} nobody@example.test",
    "not an address": "account add {site} nobody --type PER --structure cabinet",
    "unknown structure": "account add {site} a@cabinet-demo.mssante.test --type PER"
    " --structure nowhere",
    "structure that exists": "structure add {site} cabinet --name x --organization 75000001600015"
    " --domain x.test --patient-domain y.test",
    "address of another domain": "account add {site} a@elsewhere.test --type ORG"
    " --structure cabinet",
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_one_line_on_stderr(line: str, site: DemoSite) -> None:
    result = invoke(*line.format(site=site.root).split())

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_init_does_not_overwrite_a_site(site: DemoSite) -> None:
    before = (site.root / "pli.toml").read_bytes()

    result = invoke("init", str(site.root))

    assert result.exit_code == 1
    assert "error: " in result.stderr
    assert (site.root / "pli.toml").read_bytes() == before


def test_production_refuses_a_demo(tmp_path: Path) -> None:
    result = invoke("init", str(tmp_path / "site"), "--demo", "--environment", "production")

    assert result.exit_code in {1, 2}
    assert not (tmp_path / "site" / "pli.toml").exists()


def test_the_installed_command_answers_at_once() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("pli"), "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert done.returncode == 0
    assert done.stderr == ""


def test_a_command_loads_no_more_than_it_needs_to_answer() -> None:
    loads = (
        "import sys, mailserver.cli.main; "
        "print([each for each in ('sqlalchemy', 'starlette', 'lxml', 'alembic') if each in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
