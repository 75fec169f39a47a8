"""What is softened before it is learned, and what is left as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from stylize.imaging.files import Pixels
from stylize.imaging.grit import HALVINGS, WIDEST, grit, soften
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
    height=st.integers(1, 30),
    width=st.integers(1, 40),
    most=st.floats(0.01, 0.2),
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
    assert grit(softened) <= most

    def blurred(step: int) -> Pixels:
        radius = step * WIDEST / 2**HALVINGS
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))

    radii = [n for n in range(1, 2**HALVINGS + 1) if np.array_equal(blurred(n), softened)]
    assert radii
    assert grit(blurred(radii[0] - 1)) > most
