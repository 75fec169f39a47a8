"""Whole photos: strength, colours, transparency, depth, frames and size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import stylize
from stylize.errors import UsageError
from stylize.imaging.colour import LUMA, AnyPixels, on_white
from stylize.imaging.geometry import resize
from stylize.imaging.photo import Frame, Photo
from stylize.inference.restyle import Look, restyle_photo
from stylize.inference.stylizer import Stylizer
from tests.conftest import SWAPPED, Trained, make_picture

PIXELS = make_picture(36, 44)
ALPHA = np.tile(np.linspace(0, 255, 44).astype(np.uint8), (36, 1))


@pytest.fixture(scope="module")
def stylizer(trained: Trained) -> Stylizer:
    return stylize.load(trained.instance, device="cpu", precision="fp32")


@pytest.mark.parametrize("profile", [None, SWAPPED], ids=["no profile", "swapped"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_strength_is_the_photo(stylizer: Stylizer, profile: bytes | None, dtype: type) -> None:
    pixels: AnyPixels = PIXELS.astype(dtype) * (257 if dtype is np.uint16 else 1)
    alpha: AnyPixels = ALPHA.astype(dtype)
    photo = Photo([Frame(pixels, alpha)], profile=profile)
    out = restyle_photo(stylizer, photo, Look(strength=0))
    assert np.array_equal(out.frames[0].pixels, pixels)
    found = out.frames[0].alpha
    assert found is not None
    assert np.array_equal(found, alpha)
    near = restyle_photo(stylizer, photo, Look(strength=0.001)).frames[0].pixels
    limit = 66 if dtype is np.uint16 else 1
    assert np.abs(near.astype(int) - pixels).max() <= limit


def test_the_network_sees_srgb(stylizer: Stylizer) -> None:
    """A photo in a space of its own looks like its sRGB twin, before and after."""
    own = restyle_photo(stylizer, Photo([Frame(PIXELS)], profile=SWAPPED), Look())
    twin = restyle_photo(stylizer, Photo([Frame(np.ascontiguousarray(PIXELS[..., ::-1]))]), Look())
    seen = own.frames[0].pixels[..., ::-1].astype(int)
    # Two conversions round by some levels, and the network may enlarge the first.
    assert np.abs(seen - twin.frames[0].pixels).mean() < 3
    assert own.profile == SWAPPED


def test_kept_colours(stylizer: Stylizer) -> None:
    photo = Photo([Frame(PIXELS)])
    plain = restyle_photo(stylizer, photo, Look()).frames[0].pixels
    kept = restyle_photo(stylizer, photo, Look(keep_colors=True)).frames[0].pixels
    assert np.abs(kept @ LUMA - plain @ LUMA).max() <= 1.0  # each channel rounded by one half
    assert not np.array_equal(kept, plain)


def test_every_frame_and_its_duration(stylizer: Stylizer) -> None:
    frames = [Frame(make_picture(20, 24, seed), duration=100 * seed) for seed in range(3)]
    progress: list[float] = []
    out = restyle_photo(stylizer, Photo(frames), Look(), progress.append)
    assert [frame.duration for frame in out.frames] == [0, 100, 200]
    for before, after in zip(frames, out.frames, strict=True):
        assert np.array_equal(after.pixels, stylizer.restyle(before.pixels, None))
    assert progress == sorted(progress)


def test_larger_photos_are_shrunk_smaller_ones_are_left(stylizer: Stylizer) -> None:
    photo = Photo([Frame(PIXELS, ALPHA)])
    out = restyle_photo(stylizer, photo, Look(size=22))
    assert out.size == (18, 22)
    assert out.frames[0].alpha is not None
    assert out.frames[0].alpha.shape == (18, 22)
    assert restyle_photo(stylizer, photo, Look(size=500)).size == (36, 44)
    narrow = replace(photo, frames=[Frame(np.zeros((1, 300, 3), np.uint8))])
    assert restyle_photo(stylizer, narrow, Look(size=10)).size == (1, 10)


def test_a_small_photo_is_enlarged_before_it_is_painted(stylizer: Stylizer) -> None:
    photo = Photo([Frame(PIXELS, ALPHA)])
    out = restyle_photo(stylizer, photo, Look(size=88, enlarge=True)).frames[0]
    seen = on_white(resize(PIXELS, 72, 88), resize(ALPHA, 72, 88))
    assert np.array_equal(out.pixels, stylizer.restyle(seen, None))
    assert out.alpha is not None
    assert np.array_equal(out.alpha, resize(ALPHA, 72, 88))
    assert restyle_photo(stylizer, photo, Look(size=22, enlarge=True)).size == (18, 22)
    with pytest.raises(UsageError, match="--enlarge needs --size"):
        Look(enlarge=True)


def test_depth_is_kept(stylizer: Stylizer) -> None:
    deep = restyle_photo(stylizer, Photo([Frame(PIXELS.astype(np.uint16) * 257)]), Look())
    assert deep.frames[0].pixels.dtype == np.uint16
    assert all(np.unique(deep.frames[0].pixels[..., c]).size > 256 for c in range(3))
