"""What is softened before it is learned, along its strokes, and what is left as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.imaging.files import Pixels
from stylize.imaging.grit import (
    ALONG,
    HALVINGS,
    PASSES,
    grit,
    smooth_along_strokes,
    soften,
)
from tests.conftest import make_picture

PARTS = 2**HALVINGS


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
def test_pictures_are_softened_as_little_as_does_it(
    height: int, width: int, most: float, seed: int
) -> None:
    picture = make_picture(height, width, seed=seed)
    picture[::2, ::3] //= 4
    softened = soften(picture, most)
    if grit(picture) <= most:
        assert softened is picture
        return
    passes = [picture]
    while grit(passes[-1]) > most and len(passes) <= PASSES:
        passes.append(smooth_along_strokes(passes[-1]))
    if grit(passes[-1]) > most:  # all of them do not suffice
        assert np.array_equal(softened, passes[-1])
        return
    assert grit(softened) <= most

    def changed(part: int) -> Pixels:
        before, after = passes[-2].astype(float), passes[-1].astype(float)
        mixed: Pixels = np.rint(before + part / PARTS * (after - before)).astype(np.uint8)
        return mixed

    parts = [n for n in range(1, PARTS + 1) if np.array_equal(changed(n), softened)]
    assert parts
    assert grit(changed(parts[0] - 1)) > most


@settings(deadline=None)
@given(deviation=st.floats(5, 60), seed=st.integers(0, 99))
def test_noise_goes_whatever_it_is(deviation: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(128, deviation, (64, 64, 1))
    picture: Pixels = noise.clip(0, 255).astype(np.uint8).repeat(3, 2)
    assert grit(soften(picture, 0.02)) <= 0.02


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


def test_a_speck_on_a_stroke_is_spread_along_it() -> None:
    stripes = striped(48, 64)
    speck = stripes.copy()
    speck[25, 32] += 60
    change = smooth_along_strokes(speck).astype(float) - stripes
    steps = np.arange(-8, 9)
    curve = np.exp(-0.5 * (steps / ALONG) ** 2)
    # Rounding to levels takes half of one. The speck itself turns the direction, by so little that
    # other rows change by one level at the most.
    np.testing.assert_allclose(
        change[25, 24:41], 60 * (curve / curve.sum())[:, None].repeat(3, 1), atol=0.55
    )
    change[25, 24:41] = 0
    assert np.abs(change).max() <= 1


@pytest.mark.parametrize("turned", [lambda x: x.transpose(1, 0, 2), lambda x: x[::-1, ::-1]])
def test_no_direction_is_preferred(turned: Callable[[Pixels], Pixels]) -> None:
    picture = make_picture(40, 56)
    smoothed = smooth_along_strokes(picture)
    other = smooth_along_strokes(np.ascontiguousarray(turned(picture)))
    # Sums in another order: a level where a value lies between two.
    assert np.abs(turned(smoothed).astype(int) - other).max() <= 1


def test_dots_stay_dots_and_specks_go() -> None:
    """Where no direction prevails dots of four pixels keep half of their contrast, specks not."""
    dots = np.full((64, 64, 3), 60, np.uint8)
    specks = dots.copy()
    for row in range(4, 60, 8):
        for column in range(4, 60, 8):
            dots[row - 2 : row + 2, column - 2 : column + 2] = 180
            specks[row, column] = 180

    def contrast(picture: Pixels) -> int:
        return int(np.ptp(smooth_along_strokes(picture)[16:48, 16:48]))

    assert contrast(dots) > 120 / 2
    assert contrast(specks) < 120 / 4
