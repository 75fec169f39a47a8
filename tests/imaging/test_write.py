"""Pictures out: the right format, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stylize.errors import StylizeError, UsageError
from stylize.imaging import deep
from stylize.imaging.photo import Frame, Photo, is_own_result, read_photo
from stylize.imaging.sheet import GAP, contact_sheet
from stylize.imaging.write import check_sides, write_photo, write_picture
from tests.conftest import SWAPPED, make_picture

PIXELS = make_picture(40, 50)
PICTURE = Image.fromarray(PIXELS)


def photo(pixels: npt.NDArray[Any], **more: Any) -> Photo:
    return Photo([Frame(pixels, more.pop("alpha", None))], **more)


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png", "webp", "tif", "bmp", "gif", "avif"])
def test_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    write_photo(path, photo(PIXELS), "stylize 9")
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.size == (50, 40)
    assert is_own_result(path) == (ending != "bmp")  # which holds no metadata


def test_jpeg_keeps_full_chroma(tmp_path: Path) -> None:
    write_picture(tmp_path / "out.jpg", PICTURE)
    with Image.open(tmp_path / "out.jpg") as image:
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # type: ignore[attr-defined]


def test_avif_keeps_full_chroma(tmp_path: Path) -> None:
    stripes = np.zeros((16, 64, 3), np.uint8)
    stripes[:, ::2] = 255, 0, 0
    stripes[:, 1::2] = 0, 0, 255
    write_photo(tmp_path / "out.avif", photo(stripes))
    with Image.open(tmp_path / "out.avif") as image:
        # At half the chroma all columns would be of one purple, 128 levels off.
        assert np.abs(np.asarray(image).astype(int) - stripes).mean() < 16


def test_what_is_half_transparent_is_there_or_not_in_a_gif(tmp_path: Path) -> None:
    alpha = np.repeat(np.array([[0, 127, 128, 255]], np.uint8), 4, axis=0)
    write_photo(tmp_path / "out.gif", photo(np.zeros((4, 4, 3), np.uint8), alpha=alpha))
    with Image.open(tmp_path / "out.gif") as image:
        found = np.asarray(image.convert("RGBA"))[0]
    assert found[:, 3].tolist() == [0, 0, 255, 255]
    assert np.abs(found[2:, 0].astype(int) - [127, 0]).max() <= 2  # as seen on white


def test_transparency_goes_where_the_format_has_it(tmp_path: Path) -> None:
    clear = photo(np.zeros((8, 8, 3), np.uint8), alpha=np.zeros((8, 8), np.uint8))
    write_photo(tmp_path / "out.png", clear)
    write_photo(tmp_path / "out.jpg", clear)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "RGBA"
    with Image.open(tmp_path / "out.jpg") as image:
        assert np.asarray(image).min() > 250  # white


def test_sixteen_bits_become_eight_where_the_format_has_no_more(tmp_path: Path) -> None:
    deep = photo(PIXELS.astype(np.uint16) * 257 + 128)  # 128 / 257 below one half
    write_photo(tmp_path / "out.bmp", deep)
    with Image.open(tmp_path / "out.bmp") as image:
        assert np.array_equal(np.asarray(image), PIXELS)


def test_a_profile_goes_where_the_format_has_one_else_colours_become_srgb(tmp_path: Path) -> None:
    own = photo(PIXELS, profile=SWAPPED)
    write_photo(tmp_path / "out.png", own)
    write_photo(tmp_path / "out.bmp", own)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == SWAPPED
        assert np.array_equal(np.asarray(image), PIXELS)
    with Image.open(tmp_path / "out.bmp") as image:  # red and blue exchanged, within a level or two
        assert np.abs(np.asarray(image).astype(int) - PIXELS[..., ::-1]).max() <= 2


@pytest.mark.parametrize("name", ["out.xyz", "out", "missing/out.png"])
def test_impossible_paths_are_wrong_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        write_picture(tmp_path / name, PICTURE)
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    wide = Image.new("RGB", (20000, 1))  # beyond what a WebP holds: see also check_sides
    with pytest.raises(StylizeError, match="cannot write"):
        write_picture(tmp_path / "wide.webp", wide)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ending", "most"), [("jpg", 65500), ("webp", 16383), ("gif", 65535)])
def test_sides_that_a_format_does_not_hold_are_known_beforehand(
    tmp_path: Path, ending: str, most: int
) -> None:
    path = tmp_path / f"long.{ending}"
    check_sides(path, 1, most)
    write_picture(path, Image.new("RGB", (most, 1)))
    with pytest.raises(StylizeError, match=rf"up to {most} a side; use .png or .tif"):
        check_sides(path, most + 1, 1)
    with pytest.raises(StylizeError, match="cannot write"):
        write_picture(path, Image.new("RGB", (1, most + 1)))
    check_sides(tmp_path / "long.png", most + 1, 1)


def test_a_tiff_beyond_four_gigabytes_is_a_big_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wide = tmp_path / "out.tif", PIXELS.astype(np.uint16) * 257
    for pixels in (PIXELS, wide):
        for limit, version in ((pixels.nbytes, 42), (pixels.nbytes - 1, 43)):
            monkeypatch.setattr(deep, "LARGE_TIFF", limit)
            write_photo(path, photo(pixels))
            assert path.read_bytes()[2] == version
            assert np.array_equal(read_photo(path).frames[0].pixels, pixels)


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
