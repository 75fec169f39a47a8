"""The ground: one field everywhere, as strong as the photo's contrast, in every network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.errors import UsageError
from stylize.imaging.levels import deviation
from stylize.networks.ground import GROUND_PERIOD, TILES, ground_at
from stylize.networks.plan import MAX_GROUND, make_plan
from stylize.networks.transformer import TransformerNet

STRENGTH = 0.3


def test_the_field_has_mean_0_and_deviation_1() -> None:
    field = ground_at(np.arange(4000), np.arange(4000)).astype(np.float64)
    # Each tile has exactly that over whole periods; of some 8 x 10 periods the last are cut, and
    # the two tiles' product, 0 in the long run, is averaged over 4000^2 / (30 * 4^2) patches: 0.5 %
    # of the variance, three times.
    assert abs(field.mean()) < 0.01
    assert abs(field.std() - 1) < 0.01


def test_the_field_is_the_same_wherever_and_whenever() -> None:
    found = ground_at(np.array([0, 1, 700]), np.array([0, 5000]))
    expected = np.array([[0.5632, 0.22191], [1.13398, 0.52808], [-0.02806, -0.49674]])
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 and another FFT's roundings


@given(top=st.integers(0, 3000), left=st.integers(0, 3000))
@settings(max_examples=20, deadline=None)
def test_a_part_of_the_field_is_the_field_at_that_part(top: int, left: int) -> None:
    rows, columns = np.arange(top, top + 7), np.arange(left, left + 9)
    whole = ground_at(np.arange(top + 7), np.arange(left + 9))
    np.testing.assert_array_equal(ground_at(rows, columns), whole[top:, left:])
    np.testing.assert_array_equal(ground_at(rows + GROUND_PERIOD, columns), whole[top:, left:])
    np.testing.assert_array_equal(ground_at(columns, rows, turned=True).T, whole[top:, left:])


@pytest.mark.parametrize("side", [side for side, _ in TILES])
def test_what_repeats_with_one_tile_is_at_most_half_of_it(side: int) -> None:
    here = ground_at(np.arange(side), np.arange(side)).ravel()
    there = ground_at(np.arange(side), np.arange(side) + side).ravel()
    # One tile of two, of half of the variance each, and what the other adds by chance.
    assert 0.4 < np.corrcoef(here, there)[0, 1] < 0.6


@pytest.mark.parametrize("place", [(0, 0), (1000, 77)])
def test_the_network_is_the_plain_one_on_the_photo_with_the_field_added(
    place: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    plain = TransformerNet(width=0.25).eval()
    grounded = TransformerNet(width=0.25, ground=STRENGTH).eval()
    grounded.load_state_dict(plain.state_dict())  # which holds nothing of the ground
    photos = torch.rand(2, 3, 21, 34) * torch.tensor([1.0, 0.2])[:, None, None, None]
    field = ground_at(np.arange(21) + place[0], np.arange(34) + place[1])
    contrast = photos.numpy().reshape(2, -1).std(axis=1)
    added = STRENGTH * contrast[:, None, None, None] * field
    with torch.inference_mode():
        found, expected = grounded(photos, place), plain(photos + torch.from_numpy(added))
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
