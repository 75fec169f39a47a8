"""Stroke size: which sizes are restyled, and that the last is the picture's own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylize.errors import UsageError
from stylize.imaging.colour import AnyPixels
from stylize.inference.strokes import (
    AUTO_PIXELS,
    LARGEST_STEP,
    MAX_SCALE,
    MIN_SCALE,
    Restyle,
    auto_scale,
    parse_style_scale,
    plan_sizes,
    restyle_coarse_to_fine,
)
from tests.conftest import make_picture


@given(st.integers(1, 9000), st.integers(1, 9000), st.floats(1, MAX_SCALE))
def test_sizes_grow_in_small_steps_to_the_pictures_own(h: int, w: int, scale: float) -> None:
    sizes = plan_sizes(h, w, scale)
    assert sizes[-1] == (h, w)
    assert sizes[0][0] == max(1, round(h / scale))
    for (before, _), (after, _) in pairwise(sizes):
        assert before <= after <= before * LARGEST_STEP * 1.0001 + 2  # both rounded to pixels


@given(st.floats(MIN_SCALE, 1, exclude_max=True))
def test_finer_strokes_are_one_pass_on_an_enlarged_picture(scale: float) -> None:
    assert plan_sizes(100, 200, scale) == [(round(100 / scale), round(200 / scale))]


@pytest.mark.parametrize("text", ["", "large", "0", "0.1", "100", "nan", "-2", "inf"])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="give auto, native, or a number"):
        parse_style_scale(text)


def test_photos_of_about_a_megapixel_are_restyled_once_as_they_are() -> None:
    assert auto_scale(800, 1000) == auto_scale(1000, 1000) == auto_scale(1080, 1440) == 1
    assert auto_scale(1080, 1920) > 1
    seen: list[tuple[int, int]] = []
    restyle_coarse_to_fine(recorder(seen), make_picture(30, 40), 1.0)
    assert seen == [(30, 40)]


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_auto_paints_small_photos_finer_at_twice_the_work(height: int, width: int) -> None:
    scale = auto_scale(height, width)
    pixels = height * width
    (*_, last) = plan_sizes(height, width, scale)
    if pixels < 0.64 * AUTO_PIXELS:
        assert scale < 1
        # 1 / 0.7^2 = 2.04; a side's rounding adds half a pixel at the most.
        assert last[0] * last[1] <= min(2.05 * pixels, AUTO_PIXELS) + (height + width) + 1
    else:
        assert scale >= 1
        assert last == (height, width)


def recorder(seen: list[tuple[int, int]], stretches: list[float] | None = None) -> Restyle:
    """Restyles to black, and notes the sizes and the ground's stretch."""

    def restyle(pixels: AnyPixels, on_progress: object, stretch: float) -> AnyPixels:
        seen.append((pixels.shape[0], pixels.shape[1]))
        if stretches is not None:
            stretches.append(stretch)
        on_progress(1.0)  # type: ignore[operator]
        return np.zeros_like(pixels)

    return restyle


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_size_is_restyled_in_turn(dtype: Any) -> None:
    seen: list[tuple[int, int]] = []
    progress: list[float] = []
    stretches: list[float] = []
    pixels: AnyPixels = make_picture(80, 120).astype(dtype)
    if dtype is np.float32:
        pixels /= 255
    out = restyle_coarse_to_fine(recorder(seen, stretches), pixels, 4.0, progress.append)
    assert seen == [(20, 30), (40, 60), (80, 120)]
    assert stretches == [1, 2, 4]  # one ground beneath all of them
    assert (out.shape, out.dtype) == (pixels.shape, dtype)
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1)
    fine = restyle_coarse_to_fine(recorder(seen, stretches), pixels, 0.5)
    assert (seen[-1], stretches[-1]) == ((160, 240), 1)
    assert (fine.shape, fine.dtype) == (pixels.shape, dtype)


def test_floats_stay_in_0_to_1_where_resampling_overshoots() -> None:
    stripes = np.zeros((40, 60, 3), np.float32)
    stripes[:, ::4] = stripes[:, 1::4] = 1.0
    for scale in (0.7, 2.0, 3.0):
        found = restyle_coarse_to_fine(lambda pixels, report, stretch: pixels, stripes, scale)
        assert found.min() >= 0
        assert found.max() <= 1
