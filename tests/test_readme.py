"""What the README promises exists: commands, options, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "models" / "README.md"]


@pytest.mark.parametrize(
    "command", ["apply", "styles", "train", "compare", "ablate", "export", "import", "info"]
)
def test_commands_and_options_exist(run: Run, command: str) -> None:
    shown = run(command, "--help").stdout
    lines = [line for line in README.splitlines() if f"stylize {command}" in line]
    assert lines
    for line in lines:
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line.split("#")[0]):
            assert option in shown, f"{line.strip()}: no {option}"


def test_the_tables_of_options_are_trains_and_applys(run: Run) -> None:
    shown = run("train", "--help").stdout + run("apply", "--help").stdout
    rows = [line for line in README.splitlines() if line.startswith("| `--")]
    assert len(rows) >= 16
    for row in rows:
        for option in re.findall(r"--[a-z-]+", row.split("|")[1]):
            assert option in shown


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link
    for script in re.findall(r"scripts/\w+\.py", page.read_text(encoding="utf-8")):
        assert (ROOT / script).exists(), script
