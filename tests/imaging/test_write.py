"""Pictures out: the right format, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylize.errors import StylizeError, UsageError
from stylize.imaging.sheet import GAP, contact_sheet
from stylize.imaging.write import write_picture
from tests.conftest import make_picture

PICTURE = Image.fromarray(make_picture(40, 50))


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png", "webp", "tif", "bmp", "gif", "avif"])
def test_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    write_picture(path, PICTURE, "stylize", "a style")
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.size == (50, 40)
        if ending.lower() not in ("bmp", "gif"):
            assert image.getexif()[0x0131] == "stylize"
            assert image.getexif()[0x010E] == "a style"


def test_jpeg_keeps_full_chroma(tmp_path: Path) -> None:
    write_picture(tmp_path / "out.jpg", PICTURE)
    with Image.open(tmp_path / "out.jpg") as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # type: ignore[attr-defined]


def test_transparency_goes_where_the_format_has_it(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    write_picture(tmp_path / "out.png", clear)
    write_picture(tmp_path / "out.jpg", clear)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "RGBA"
    with Image.open(tmp_path / "out.jpg") as image:
        assert np.asarray(image).min() > 250  # white


@pytest.mark.parametrize("name", ["out.xyz", "out", "missing/out.png"])
def test_impossible_paths_are_wrong_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        write_picture(tmp_path / name, PICTURE)
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    wide = Image.new("RGB", (20000, 1))  # beyond what a WebP holds
    with pytest.raises(StylizeError, match="cannot write"):
        write_picture(tmp_path / "wide.webp", wide)
    assert not list(tmp_path.iterdir())


def test_results_are_as_readable_as_other_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_picture(tmp_path / "out.png", PICTURE)
    assert (tmp_path / "out.png").stat().st_mode == plain.stat().st_mode


def test_contact_sheet_lays_rows_and_columns() -> None:
    red, blue = (np.full((10, 20, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = contact_sheet([[red, blue], [blue]])
    assert sheet.size == (3 * GAP + 40, 3 * GAP + 20)
    assert sheet.getpixel((GAP, GAP)) == (255, 0, 0)
    assert sheet.getpixel((2 * GAP + 20, GAP)) == (0, 0, 255)
    assert sheet.getpixel((GAP, 2 * GAP + 10)) == (0, 0, 255)
    assert sheet.getpixel((2 * GAP + 20, 2 * GAP + 10)) == (255, 255, 255)
    assert contact_sheet([[red]], ["a label"]).size[1] > sheet.size[1] - 10 - GAP
