"""What is softened before it is learned, and what is left as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylize.imaging.grit import grit, soften
from tests.conftest import make_picture


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


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    most=st.floats(0.01, 0.2),
    seed=st.integers(0, 99),
)
def test_softened_pictures_have_what_is_asked_for_and_no_less(
    height: int, width: int, most: float, seed: int
) -> None:
    picture = make_picture(height, width, seed=seed)
    picture[::2, ::3] //= 4
    softened = soften(picture, most)
    assert softened.shape == picture.shape
    if grit(picture) <= most:
        assert softened is picture
        return
    # A hundredth of a pixel of radius, and levels of 1/255, which blurring rounds to.
    assert most - 0.01 < grit(softened) <= most
    # Blurring keeps what lies side by side on average.
    assert np.abs(softened.mean((0, 1)) - picture.mean((0, 1))).max() < 12
