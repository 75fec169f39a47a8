"""Pictures in: upright, sRGB, and one clear line for whatever is none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylize.errors import StylizeError, UsageError
from stylize.imaging.files import find_pictures, open_picture, read_rgb
from stylize.imaging.photo import read_photo
from tests.conftest import SRGB, SWAPPED, make_picture, save_picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(make_picture(20, 30))
    undo = {
        1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4],
    }[orientation]  # fmt: skip
    stored = upright
    for operation in undo:
        stored = stored.transpose(Image.Transpose(operation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    assert np.array_equal(read_rgb(path), np.asarray(upright))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    grey = Image.fromarray(make_picture(20, 30)).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = grey.convert(mode)
    image.save(path)
    pixels = read_rgb(path)
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    if mode in ("L", "RGB", "RGBA", "LA", "I;16"):
        assert np.array_equal(pixels, np.stack([np.asarray(grey)] * 3, -1))


def test_channels_of_32_bits_are_refused(tmp_path: Path) -> None:
    """Taken for 16 bits, or for 0 to 255, such a picture would come out white or black."""
    grey = np.asarray(Image.fromarray(make_picture(20, 30)).convert("L"))
    deepest = {"floats": grey / np.float32(255), "whole": grey.astype(np.int32) << 23}
    for name, values in deepest.items():
        path = tmp_path / f"{name}.tif"
        Image.fromarray(values).save(path)
        for read in (read_rgb, read_photo):
            with pytest.raises(StylizeError, match=rf"{name}\.tif.* 32 bits; save it with 16 or 8"):
                read(path)
    sixteen = tmp_path / "sixteen.ppm"  # which Pillow has in 32 bits too
    sixteen.write_bytes(b"P5 30 20 65535\n" + (grey.astype(">u2") * 257).tobytes())
    with Image.open(sixteen) as image:
        assert image.mode == "I"
    assert np.array_equal(read_rgb(sixteen)[..., 0], grey)


def test_transparency_is_kept_and_read_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 0, 0, 255))
    image.save(tmp_path / "clear.png")
    picture = open_picture(tmp_path / "clear.png")
    assert picture.mode == "RGBA"
    assert picture.getchannel("A").getextrema() == (0, 255)
    pixels = read_rgb(tmp_path / "clear.png")
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_an_embedded_profile_is_obeyed(tmp_path: Path) -> None:
    picture = make_picture(16, 16)
    for name, profile, seen in (("srgb", SRGB, picture), ("swapped", SWAPPED, picture[..., ::-1])):
        path = tmp_path / f"{name}.png"
        Image.fromarray(picture).save(path, icc_profile=profile)
        # The way through the profile connection space rounds by a level or two.
        assert np.abs(read_rgb(path).astype(int) - seen).max() <= 2
    assert np.abs(picture.astype(int) - picture[..., ::-1]).max() > 20


def test_a_broken_profile_is_ignored(tmp_path: Path) -> None:
    picture = make_picture(16, 16)
    Image.fromarray(picture).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert np.array_equal(read_rgb(tmp_path / "broken.png"), picture)


def test_a_jpeg_may_come_smaller_but_never_below_what_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(make_picture(800, 1200)).save(path)
    assert read_rgb(path).shape == (800, 1200, 3)
    small = read_rgb(path, enough=150)
    assert 150 <= min(small.shape[:2]) < 800


def test_what_is_hidden_is_nobodys_photo(tmp_path: Path) -> None:
    folder = tmp_path / ".photos"  # itself it was asked for
    photo = save_picture(folder / "trip" / "a.jpg")
    save_picture(folder / ".thumbnails" / "a.jpg")
    save_picture(folder / "trip" / "._a.jpg")
    (folder / "album.jpg").mkdir()
    assert find_pictures(folder) == [photo]


def broken_files(folder: Path) -> dict[str, Path]:
    """A file of each kind that people have and no picture is in."""
    good = io.BytesIO()
    Image.fromarray(make_picture(200, 200)).save(good, "JPEG")
    files = {"text.jpg": b"hello", "empty.png": b"", "cut.jpg": good.getvalue()[:4000]}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


def test_broken_files_are_named_with_the_reason(tmp_path: Path) -> None:
    reasons = {
        "text.jpg": "is no readable picture: its format is not known",
        "empty.png": "is empty",
        "cut.jpg": "is no readable picture: .*truncated",
    }
    for name, path in broken_files(tmp_path).items():
        with pytest.raises(StylizeError, match=reasons[name]) as error:
            open_picture(path)
        assert str(path) in str(error.value)
        assert error.value.exit_code == 1


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(StylizeError, match="larger than stylize reads"):
        open_picture(save_picture(tmp_path / "bomb.png"))


def test_missing_paths_are_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_picture(tmp_path / "none.jpg")
    with pytest.raises(UsageError, match="is a folder"):
        open_picture(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        find_pictures(tmp_path / "none")
    with pytest.raises(UsageError, match="no pictures in"):
        find_pictures(tmp_path)
    file = save_picture(tmp_path / "file.png")
    with pytest.raises(UsageError, match="is a file; a folder is wanted"):
        find_pictures(file)


def test_folders_are_searched_to_the_bottom(photo_folder: Path) -> None:
    found = find_pictures(photo_folder)
    assert len(found) == 12
    assert found == sorted(found)
