"""What the README promises exists: commands, options, files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import stylize.presets
from stylize.presets import preset_settings
from tests.conftest import Run, make_picture, save_picture

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


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if not link.startswith("http"):
            target = page.parent / link if link else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), f"{link}#{anchor}"
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).exists(), script


def python_in(page: Path) -> str:
    """The page's first block of Python."""
    found = re.search(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert found
    return found[1]


def test_pictures_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "photo.jpg", 24, 32)
    names: dict[str, Any] = {
        "Image": Image, "array": make_picture(24, 32), "batch": torch.rand(2, 3, 24, 32)
    }  # fmt: skip
    exec(python_in(ROOT / "README.md"), names)
    assert names["restyle"].card.name == "starry_night"


def test_training_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page has it, but for its steps, which would take minutes."""
    few = {"steps": 2, "warmup_steps": 1, "size": 64, "device": "cpu"}
    monkeypatch.setattr(stylize.presets, "preset_settings", lambda *a: preset_settings(*a) | few)
    monkeypatch.chdir(tmp_path)
    save_picture(tmp_path / "starry.jpg")
    for number in range(11):
        save_picture(tmp_path / "photos" / f"{number:02}.jpg", seed=number)
    exec(python_in(ROOT / "docs" / "training.md"), {})
    card = stylize.load(tmp_path / "starry.safetensors", device="cpu").card
    assert (card.name, card.steps, card.settings["seed"]) == ("starry", 2, 3)
    assert card.held_out_after is not None
