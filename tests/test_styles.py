"""What ships, and how it is listed."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors import safe_open

from stylize.console.styles import half_blocks, shows_pictures
from stylize.model_file import file_sha256, read_card, read_model, read_thumbnail
from stylize.paths import shipped
from stylize.zoo import TWINS, list_styles
from tests.conftest import Run, Trained, assert_one_line, make_picture, save_picture

SHIPPED = sorted(shipped("models").glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_small_and_whole(path: Path) -> None:
    """`scripts/ship_styles.py` makes them so, and measures what rounding changes."""
    card = read_card(path)
    assert path.stat().st_size < 3.6e6
    assert card.name == path.stem
    assert card.title
    assert card.licence == "MIT"
    assert len(card.rounded_from) == 64
    assert card.held_out_after is not None
    picture = read_thumbnail(path)
    assert picture is not None
    assert picture.std() > 10  # a picture, not one colour
    arrays = read_model(path).arrays
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert all(np.isfinite(array).all() for array in arrays.values())
    with safe_open(path, framework="np") as file:
        types = {name: file.get_slice(name).get_dtype() for name in arrays}
    assert {kind for name, kind in types.items() if ".conv." in name} == {"F16"}
    assert {kind for name, kind in types.items() if ".norm." in name} == {"F32"}


def test_training_leaves_a_small_picture(trained: Trained) -> None:
    picture = read_thumbnail(trained.instance)
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8


def test_a_picture_in_half_blocks() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[1] = (255, 0, 9)
    text = half_blocks(picture, 4)
    assert text.plain == "▀▀▀▀\n" * 2
    assert str(text.spans[0].style) == "rgb(0,0,0) on rgb(255,0,9)"
    assert str(text.spans[-1].style) == "rgb(0,0,0) on rgb(0,0,0)"
    assert half_blocks(make_picture(64, 64), 14).plain.count("\n") == 7


def test_pictures_are_for_terminals_that_can() -> None:
    assert shows_pictures(Console(color_system="truecolor", width=100))
    assert shows_pictures(Console(color_system="256", width=80))
    assert not shows_pictures(Console(color_system="standard", width=100))
    assert not shows_pictures(Console(color_system=None, width=100))
    assert not shows_pictures(Console(color_system="truecolor", width=79))


def test_lists_what_ships_and_what_is_the_users(run: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(trained.instance.read_bytes())
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    done = run("styles", "--json", STYLIZE_STYLES=str(tmp_path))
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert entries["starry_night"]["origin"] == "shipped"
    assert entries["mine"]["origin"] == "yours"
    assert entries["mine"]["norm"] == "instance"
    assert "no model file" in entries["broken"]["error"]
    for end, difference in {"": "", **TWINS}.items():
        assert entries[f"starry_night{end}"]["twin"] == difference
    table = run("styles", STYLIZE_STYLES=str(tmp_path)).stdout
    assert {"starry_night", "mine", "broken"} <= set(table.split())
    own = next(line for line in table.splitlines() if line.startswith("mine "))
    assert "width 0.25" in own


def test_the_card_of_one(run: Run, trained: Trained) -> None:
    done = run("styles", trained.batch)
    assert done.returncode == 0, done.stderr
    for words in ("batch norm, width 0.25", "3 steps on", "random weights", "tiny-vgg"):
        assert words in done.stdout
    card = json.loads(run("styles", "starry_night", "--json").stdout)
    assert card["name"] == "starry_night"
    assert card["sha256"] == file_sha256(Path(card["path"]))
    assert_one_line(run("styles", "stary_night"), 2, "did you mean starry_night?")


def test_the_users_styles_apply_by_name(run: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(trained.instance.read_bytes())
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    done = run("apply", photo, "--style", "mine", STYLIZE_STYLES=str(tmp_path))
    assert done.stdout == f"{tmp_path / 'photo-mine.png'}\n"


def test_pictures_in_a_terminal_of_colours(run: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    environment = {"STYLIZE_STYLES": str(tmp_path), "FORCE_COLOR": "1", "COLORTERM": "truecolor"}
    listed = run("styles", **environment)
    assert listed.returncode == 0, listed.stderr
    shown = [style for style in list_styles() if style.origin == "shipped" and not style.twin]
    assert len(shown) == 8
    assert listed.stdout.count("▀") == 14 * 7 * len(shown)
    words = re.sub(r"\x1b\[[0-9;]*m", "", listed.stdout)
    night = words[words.index("  starry_night ") : words.index("  the_scream ")]
    assert "starry_night_batch" in night  # beside the picture of what it is a twin of
    assert "starry_night_fast" in night
    assert run("styles", "starry_night", **environment).stdout.count("▀") == 32 * 16
    assert "▀" not in run("styles", "starry_night", "--json", **environment).stdout


@pytest.mark.parametrize(
    ("encoding", "shows"), [("utf-8", True), ("cp437", True), ("latin-1", False)]
)
def test_a_terminal_without_half_blocks_gets_no_pictures(encoding: str, shows: bool) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=100)
    assert shows_pictures(console) == shows
