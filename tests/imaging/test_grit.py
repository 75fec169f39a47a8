"""What is softened before it is learned, along its strokes, and what is left as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.imaging.files import Pixels
from stylize.imaging.grit import AGAIN, ALIKE, ALONG, SEEN, grit, smooth_along_strokes, soften
from tests.conftest import make_picture

Plane = npt.NDArray[np.floating[Any]]


def test_grit_is_what_neighbours_do_not_tell() -> None:
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 60, 0).repeat(3, 2)
    # A ramp of 2 levels is its neighbours' mean but at both ends, where it misses by half of one.
    assert grit(ramp) == pytest.approx(0.5 / 255 * (2 / 100) ** 0.5)
    board = (np.indices((40, 40)).sum(0) % 2 * 51).astype(np.uint8)[..., None].repeat(3, 2)
    # The mean around is 25.5 wherever there are neighbours all around, half of 51 away.
    inner = grit(board)
    assert inner == pytest.approx(25.5 / 255, rel=0.05)
    colours = board * np.array([1, 0, 0], np.uint8)
    assert grit(colours) == pytest.approx(inner / 3)


@settings(deadline=None)  # the first call wakes torch's threads
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 40),
    most=st.floats(0.002, 0.2),
    seed=st.integers(0, 99),
)
def test_pictures_are_smoothed_where_they_have_too_much(
    height: int, width: int, most: float, seed: int
) -> None:
    picture = make_picture(height, width, seed=seed)
    picture[::2, ::3] //= 4
    softened = soften(picture, most)
    if grit(picture) <= most:
        assert softened is picture
        return
    expected = smooth_along_strokes(picture)
    if grit(expected) > AGAIN * most:
        expected = smooth_along_strokes(expected)
    assert np.array_equal(softened, expected)


@settings(deadline=None)
@given(deviation=st.floats(5, 60), seed=st.integers(0, 99))
def test_noise_goes_whatever_it_is(deviation: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(128, deviation, (64, 64, 1))
    picture: Pixels = noise.clip(0, 255).astype(np.uint8).repeat(3, 2)
    assert grit(soften(picture, 0.02 / AGAIN)) <= 0.02


def test_a_woodcut_stays_black_and_white() -> None:
    rings = np.hypot(*(np.mgrid[:160, :160] - 80)) // 5 % 2
    woodcut: Pixels = np.where(rings, 220, 30).astype(np.uint8)[..., None].repeat(3, 2)
    softened = soften(woodcut, 0.02)
    assert grit(softened) > 0.02  # edges, which no smoothing along them takes
    # Within lines of five pixels a fifth lies in the middle, where a blur would leave grey.
    inner = np.percentile(softened[20:140, 20:140], (10, 90))
    assert inner.tolist() == [30, 220]


@settings(deadline=None)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    upright=st.booleans(),
    seed=st.integers(0, 99),
)
def test_even_stripes_of_any_size_stay(height: int, width: int, upright: bool, seed: int) -> None:
    levels = np.random.default_rng(seed).integers(0, 256, (width if upright else height, 3))
    stripes = np.broadcast_to(levels[None] if upright else levels[:, None], (height, width, 3))
    picture: Pixels = stripes.astype(np.uint8)
    assert np.array_equal(smooth_along_strokes(picture), picture)


def striped(height: int, width: int) -> Pixels:
    """Horizontal stripes, four pixels wide, dark and light."""
    rows = np.where(np.arange(height) // 4 % 2, 180, 60).astype(np.uint8)
    return np.broadcast_to(rows[:, None, None], (height, width, 3)).copy()


def blurred(rows: Plane, deviation: float) -> Plane:
    """Along the last axis, by Gauss's curve, edges extended."""
    reach = math.ceil(3 * deviation)
    curve = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(rows, ((0, 0), (reach, reach)), mode="edge")
    return np.array([np.convolve(row, curve / curve.sum(), "valid") for row in padded])


def test_a_stroke_becomes_a_mean_of_what_is_alike_along_it() -> None:
    picture = striped(48, 64)
    picture[25, 32] += 60
    smoothed = smooth_along_strokes(picture).astype(float)
    values = picture[..., 0].astype(float)
    seen = blurred(blurred(values, SEEN).T, SEEN).T[25, 24:41]
    steps = np.arange(-8, 9)
    around = values[25, 24 + np.arange(17)[:, None] + steps]  # of each pixel, those along the row
    alike = np.exp(-0.5 * ((around - seen[:, None]) / (ALIKE * values.std())) ** 2)
    weights = alike * np.exp(-0.5 * (steps / ALONG) ** 2)
    expected = (weights * around).sum(1) / weights.sum(1)
    # Rounding to levels takes half of one. The speck itself turns the direction, by so little that
    # other rows change by one level at the most.
    np.testing.assert_allclose(smoothed[25, 24:41], expected[:, None].repeat(3, 1), atol=0.55)
    assert smoothed[25, 32].max() < 60 + 60 / 8
    smoothed[25, 24:41] = 60
    assert np.abs(smoothed - striped(48, 64)).max() <= 1


def test_contrast_changes_nothing() -> None:
    """What is alike is so by the picture's own measure: half the contrast gives half of all."""
    picture = make_picture(40, 56) // 2 * 2
    smoothed, faint = smooth_along_strokes(picture), smooth_along_strokes(picture // 2)
    # Each is rounded by half a level.
    assert np.abs(smoothed / 2 - faint).max() <= 0.75


@pytest.mark.parametrize("turned", [lambda x: x.transpose(1, 0, 2), lambda x: x[::-1, ::-1]])
def test_no_direction_is_preferred(turned: Callable[[Pixels], Pixels]) -> None:
    picture = make_picture(40, 56)
    smoothed = smooth_along_strokes(picture)
    other = smooth_along_strokes(np.ascontiguousarray(turned(picture)))
    # Sums in another order: a level where a value lies between two.
    assert np.abs(turned(smoothed).astype(int) - other).max() <= 1


@pytest.mark.parametrize(("size", "least", "most"), [(1, 0, 2), (3, 115, 120), (4, 115, 120)])
def test_dots_stay_dots_and_specks_go(size: int, least: int, most: int) -> None:
    """Where no direction prevails dots of three pixels keep their contrast of 120, specks none."""
    dots = np.full((64, 64, 3), 60, np.uint8)
    for row in range(4, 60, 8):
        for column in range(4, 60, 8):
            dots[row : row + size, column : column + size] = 180
    assert least <= np.ptp(smooth_along_strokes(dots)[16:48, 16:48]) <= most
