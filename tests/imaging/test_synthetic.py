"""Generated pictures: the same for the same numbers, and something like photographs."""

from __future__ import annotations

import numpy as np

from stylize.imaging.synthetic import SIDE, Synthetic, _generate, read_source


def test_the_same_numbers_give_the_same_picture() -> None:
    first = Synthetic(3, 7).pixels().copy()
    _generate.cache_clear()
    assert np.array_equal(read_source(Synthetic(3, 7)), first)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    for other in (Synthetic(3, 8), Synthetic(4, 7)):
        assert not np.array_equal(other.pixels(), first)


def test_they_are_as_varied_as_photographs() -> None:
    """Not grey, not flat, not noise: neighbours are alike, and edges stand out."""
    pictures = [Synthetic(0, number).pixels().astype(float) / 255 for number in range(12)]
    assert np.ptp([picture.mean() for picture in pictures]) > 0.1
    for picture in pictures:
        assert picture.std() > 0.05
    steps = np.concatenate([np.abs(np.diff(picture, axis=1)).ravel() for picture in pictures])
    spread = np.mean([picture.std() for picture in pictures])
    # Of white noise the median step is as large as the spread; and a Gaussian's 99th percentile is
    # under 4 times its median, where photographs, and pictures of things that hide each other, have
    # far longer tails (Huang and Mumford, "Statistics of Natural Images and Models", 1999).
    assert np.median(steps) < 0.3 * spread
    assert np.percentile(steps, 99) > 8 * np.median(steps)
