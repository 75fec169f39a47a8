"""Blending: strength, kept colours, and spaces there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stylize.imaging import colour
from stylize.imaging.colour import LUMA, AnyPixels, blend, from_own_space, recolour, to_own_space
from tests.conftest import SWAPPED, make_picture

PHOTO, RESTYLED = make_picture(40, 30, 1), make_picture(40, 30, 2)


@pytest.mark.parametrize("keep_colors", [False, True])
def test_no_strength_gives_the_photo_back_exactly(keep_colors: bool) -> None:
    assert np.array_equal(blend(PHOTO, RESTYLED, 0, keep_colors), PHOTO)
    deep = PHOTO.astype(np.uint16) * 257 + 3
    restyled = RESTYLED.astype(np.uint16) * 257
    assert np.array_equal(blend(deep, restyled, 0, keep_colors), deep)


def test_strengths_between() -> None:
    assert np.array_equal(blend(PHOTO, RESTYLED, 1), RESTYLED)
    assert np.abs(blend(PHOTO, RESTYLED, 0.001).astype(int) - PHOTO).max() <= 1
    half = blend(PHOTO, RESTYLED, 0.5)
    assert np.abs(half - (PHOTO.astype(float) + RESTYLED) / 2).max() <= 0.5


@given(
    hnp.arrays(np.float32, (3, 4, 3), elements=st.floats(0, 255, width=32)),
    hnp.arrays(np.float32, (3, 4, 3), elements=st.floats(0, 255, width=32)),
)
def test_kept_colours_are_light_as_one_and_coloured_as_the_other(
    light: np.ndarray, coloured: np.ndarray
) -> None:
    found = recolour(light, coloured, 255.0)
    # Single precision on values to 255: a few roundings of 255 * 2^-24 each.
    assert found.min() >= -1e-3
    assert found.max() <= 255 + 1e-3
    np.testing.assert_allclose(found @ LUMA, light @ LUMA, atol=1e-3)
    # Chroma points the same way: the cross product vanishes.
    chroma, wanted = (x - (x @ LUMA)[..., None] for x in (found, coloured))
    scale = max(1.0, float(np.abs(wanted).max())) * 255
    assert np.abs(np.cross(chroma, wanted)).max() <= 1e-4 * scale


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_on_white(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "_CHUNK_PIXELS", 100)  # several chunks
    white = np.iinfo(dtype).max
    pixels: AnyPixels = PHOTO.astype(dtype) * (257 if dtype is np.uint16 else 1)
    alpha = np.tile(np.linspace(0, white, 30).astype(dtype), (40, 1))
    seen = colour.on_white(pixels, alpha)
    expected = white + alpha[..., None] / white * (pixels.astype(float) - white)
    # To the nearest level, and single precision on values of up to 65535.
    assert np.abs(seen - expected).max() <= 0.51
    assert colour.on_white(pixels, np.full_like(alpha, white)) is pixels
    assert colour.on_white(pixels, None) is pixels


def test_grey_stays_grey_with_kept_colours() -> None:
    grey = np.repeat(PHOTO[..., :1], 3, axis=2)
    assert np.ptp(blend(grey, RESTYLED, 1, keep_colors=True).astype(int), axis=-1).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_there_and_back_through_a_profile(dtype: Any) -> None:
    pixels: AnyPixels = PHOTO.astype(dtype) * (257 if dtype is np.uint16 else 1)
    assert from_own_space(pixels, None) is pixels
    seen = from_own_space(pixels, SWAPPED)
    assert seen.dtype == dtype
    level = 257 if dtype is np.uint16 else 1
    assert np.abs(seen.astype(int) - pixels[..., ::-1]).max() <= 2 * level
    back = to_own_space(seen, SWAPPED)
    assert np.abs(back.astype(int) - pixels).max() <= 3 * level
