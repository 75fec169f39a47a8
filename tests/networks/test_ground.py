"""The ground: one field everywhere, as strong as the photo's contrast, in every network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylize.errors import UsageError
from stylize.imaging.levels import deviation
from stylize.networks.ground import GROUND_PERIOD, ground_at
from stylize.networks.plan import MAX_GROUND, make_plan
from stylize.networks.transformer import TransformerNet

TOP = Path(__file__).parents[2]
STRENGTH = 0.3


def test_the_field_has_mean_0_and_deviation_1() -> None:
    period = np.arange(GROUND_PERIOD)
    field = ground_at(period, period + 300).astype(np.float64)
    # float32 rounds a million numbers of up to 5, either way: 5 * 2^-24 at the very most.
    assert abs(field.mean()) < 3e-7
    assert abs(field.std() - 1) < 3e-7


def test_the_field_is_the_same_wherever_and_whenever() -> None:
    found = ground_at(np.array([0, 1, 700]), np.array([0, 5000]))
    expected = np.array([[-0.40629, -1.84382], [-0.62504, -2.12508], [-1.15631, 0.21873]])
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32, and five digits


def test_the_field_is_what_the_script_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    subprocess.run([sys.executable, TOP / "scripts/make_ground.py", drawn], check=True)
    levels = [np.asarray(Image.open(path), int) for path in (TOP / "models/ground.png", drawn)]
    # Another FFT's roundings, some 1e-15 of a level, matter where a level is just half, and on the
    # edge between two directions, which are blended: to no more than the next level.
    assert np.mean(levels[0] != levels[1]) < 1e-4
    assert np.abs(levels[0] - levels[1]).max() <= 1


def test_calm_areas_get_strokes_in_every_direction() -> None:
    period = np.arange(GROUND_PERIOD)
    down, right = np.gradient(ground_at(period, period))
    # Of the structure tensor of blocks of 32 px: the angle across which strokes lie, and how much
    # more there is across than along; 0 of 1 where they had no direction.
    tensor = [part.reshape(32, 32, 32, 32).mean((1, 3)) for part in (
        down * down - right * right, 2 * down * right, down * down + right * right
    )]  # fmt: skip
    assert np.mean(np.hypot(tensor[0], tensor[1]) / tensor[2]) > 0.4
    angles = np.arctan2(tensor[1], tensor[0])
    shares = np.histogram(angles, 6, (-np.pi, np.pi))[0] / angles.size
    assert shares.min() > 0.08  # of a sixth


@given(top=st.integers(0, 3000), left=st.integers(0, 3000))
@settings(max_examples=20, deadline=None)
def test_a_part_of_the_field_is_the_field_at_that_part(top: int, left: int) -> None:
    rows, columns = np.arange(top, top + 7), np.arange(left, left + 9)
    whole = ground_at(np.arange(top + 7), np.arange(left + 9))
    np.testing.assert_array_equal(ground_at(rows, columns), whole[top:, left:])
    np.testing.assert_array_equal(ground_at(rows + GROUND_PERIOD, columns), whole[top:, left:])
    np.testing.assert_array_equal(ground_at(columns, rows, turned=True).T, whole[top:, left:])


@given(stretch=st.floats(1, 8), top=st.integers(0, 9000), left=st.integers(0, 9000))
@settings(max_examples=30, deadline=None)
def test_a_stretched_field_lies_straight_between_its_pixels(
    stretch: float, top: int, left: int
) -> None:
    rows, columns = np.arange(top, top + 5), np.arange(left, left + 6)
    found = ground_at(rows, columns, stretch=stretch)
    turned = ground_at(columns, rows, True, stretch).T
    np.testing.assert_allclose(turned, found, atol=5e-6, rtol=0)  # as below
    period = np.arange(GROUND_PERIOD)
    across = np.array([np.interp(columns / stretch, period, row, period=GROUND_PERIOD)
                       for row in ground_at(period, period)])  # fmt: skip
    down = [np.interp(rows / stretch, period, one, period=GROUND_PERIOD) for one in across.T]
    # Four values of up to 5, three roundings of each by 2^-24, and weights rounded as well.
    np.testing.assert_allclose(found, np.array(down).T, atol=5e-6, rtol=0)


@pytest.mark.parametrize(("place", "stretch"), [((0, 0), 1), ((1000, 77), 1), ((0, 0), 2.5)])
def test_the_network_is_the_plain_one_on_the_photo_with_the_field_added(
    place: tuple[int, int], stretch: float
) -> None:
    torch.manual_seed(0)
    plain = TransformerNet(width=0.25).eval()
    grounded = TransformerNet(width=0.25, ground=STRENGTH).eval()
    grounded.load_state_dict(plain.state_dict())  # which holds nothing of the ground
    photos = torch.rand(2, 3, 21, 34) * torch.tensor([1.0, 0.2])[:, None, None, None]
    field = ground_at(np.arange(21) + place[0], np.arange(34) + place[1], stretch=stretch)
    contrast = photos.numpy().reshape(2, -1).std(axis=1)
    added = STRENGTH * contrast[:, None, None, None] * field
    with torch.inference_mode():
        found, expected = grounded(photos, place, stretch), plain(photos + torch.from_numpy(added))
        unmoved = plain(photos)
    # The sum is rounded in another order, 2^-23 of inputs up to 1, which sixteen normalised layers
    # enlarge some hundred times.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found - unmoved).abs().max() > 100 * 1e-4


def test_contrast_and_brightness_are_still_divided_out() -> None:
    torch.manual_seed(0)
    network = TransformerNet(width=0.25, ground=STRENGTH).eval()
    photo = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        difference = (network(photo) - network(0.5 * photo + 0.25)).abs().max()
    assert difference < 5e-3  # as without a ground, in test_transformer.py


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_contrast_is_numpys_standard_deviation(dtype: type) -> None:
    values = np.random.default_rng(0).random((77, 5, 3))
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    pixels: npt.NDArray[Any] = (values * most).astype(dtype)
    expected = (pixels / most).std()
    assert deviation(pixels) == pytest.approx(expected, rel=1e-6)  # levels as float32, 2^-24


def test_a_picture_without_contrast_has_no_ground() -> None:
    torch.manual_seed(0)
    plain = TransformerNet(width=0.25).eval()
    grounded = TransformerNet(width=0.25, ground=STRENGTH).eval()
    grounded.load_state_dict(plain.state_dict())
    grey = torch.full((1, 3, 20, 20), 0.25)  # whose sums are exact
    with torch.inference_mode():
        assert torch.equal(grounded(grey), plain(grey))


def test_the_plan_refuses_a_ground_that_hides_the_photo() -> None:
    assert make_plan(ground=MAX_GROUND).ground == MAX_GROUND
    for ground in (-0.1, 2.1, float("nan")):
        with pytest.raises(UsageError, match="ground is"):
            make_plan(ground=ground)
    assert make_plan(ground=0.2).takes_weights_of(make_plan())
    assert not make_plan(ground=0.2).takes_weights_of(make_plan("batch"))
