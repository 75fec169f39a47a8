"""What travels: an installed wheel finds its styles and configs, and so does a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROBE = """
import json, sys, stylize
from stylize.zoo import find_style
from stylize.config import load_config
print(json.dumps([stylize.__file__, str(find_style("starry_night")), load_config("batch_norm")]))
"""


def probe(site: Path, folder: Path) -> tuple[str, str, dict[str, str]]:
    """Where stylize, its style and its config come from, with `site` first on the path."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    home, style, config = json.loads(done.stdout)
    return home, style, config


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend itself, without an isolated environment: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_what_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "stylize/py.typed",
        "stylize/comparison/page.html.jinja",
        "stylize/comparison/report.html.jinja",
        "stylize/ablation/report.html.jinja",
        "stylize/shipped/configs/batch_norm.toml",
        "stylize/shipped/models/starry_night.safetensors",
        "stylize/shipped/models/README.md",
        "stylize/shipped/models/ground.png",
        "stylize/shipped/models/perceptual/vgg19-slim.safetensors",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]


def test_an_installed_wheel_finds_styles_and_configs(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", str(site), str(wheel)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    home, style, config = probe(site, tmp_path)
    assert home.startswith(str(site))
    assert style.startswith(str(site))
    assert config == {"norm": "batch"}


def test_a_checkout_finds_styles_and_configs(tmp_path: Path) -> None:
    home, style, config = probe(ROOT, tmp_path)
    assert home == str(ROOT / "stylize" / "__init__.py")
    assert style == str(ROOT / "models" / "starry_night.safetensors")
    assert config == {"norm": "batch"}
