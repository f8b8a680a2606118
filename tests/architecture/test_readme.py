"""The README says nothing that is not there: commands, options, scripts, modules, files."""

import os
import re
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mailserver.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PACKAGES = ("certs", "directory", "record_bridge", "mailserver")


def commands() -> list[str]:
    """Give each command line of the README's shell blocks."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def words(line: str) -> list[str]:
    """Split a command line as the shell would, up to a pipe or a second command."""
    found = []
    for word in shlex.split(line, comments=True):
        if word in {"|", "&&", ";", "&", ">"}:
            break
        found.append(word)
    return found


PLI = sorted({line for line in commands() if words(line)[0].endswith("pli")})
INLINE = sorted(set(re.findall(r"`(pli [a-z][^`]*)`", README)))


def parsed(line: str) -> Mapping[str, Any]:
    """Let the command's own parser read a line, without running it; give its options."""
    rest = words(line)[1:]
    command: Any = typer.main.get_command(app)
    while subcommands := getattr(command, "commands", None):
        command = subcommands[rest.pop(0)]
    options: Mapping[str, Any] = command.make_context(command.name, rest).params
    return options


def test_the_readme_has_commands() -> None:
    assert PLI
    assert any(line.startswith("scripts/") for line in commands())


@pytest.mark.parametrize("line", PLI)
def test_a_pli_command_of_the_readme_is_read_by_its_parser(line: str) -> None:
    assert parsed(line)


@pytest.mark.parametrize("line", INLINE)
def test_a_pli_command_in_the_text_exists(line: str) -> None:
    command: Any = typer.main.get_command(app)
    for word in words(line)[1:]:
        if not getattr(command, "commands", None) or not word.islower():
            break
        command = command.commands[word]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(scripts/[\w-]+)(?![\w.])", README))))
def test_a_script_of_the_readme_exists_and_can_be_run(name: str) -> None:
    script = ROOT / name

    assert script.is_file()
    assert os.access(script, os.X_OK)
    assert script.read_text("utf-8").startswith("#!")


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", README)))
)
def test_a_module_named_in_the_readme_exists(name: str) -> None:
    parts = name.split(".")
    path = ROOT.joinpath(*parts)

    assert path.is_dir() or path.with_suffix(".py").is_file() or find_spec(name) is not None


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#]+)", README))))
def test_a_file_that_the_readme_links_exists(target: str) -> None:
    assert (ROOT / target).exists()
