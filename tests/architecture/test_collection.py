"""Every test of the repository is run: ``testpaths`` names folders one by one, for their order."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_folder_with_tests_is_left_out():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    found = {path.relative_to(ROOT).parts[:2] for path in ROOT.glob("tests/**/test_*.py")}

    assert sorted(named) == sorted("/".join(parts) for parts in found)
