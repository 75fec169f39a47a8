"""A painting's colours: what is foreign to them, and how pictures take them on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylize.networks.transformer import TransformerNet
from stylize.palette import (
    LEAST_VARIANCE,
    RARE,
    colour_map,
    foreign_colours,
    palette_of,
    recolour,
)

LEVEL = st.floats(0, 1, width=32)


def drawing() -> Tensor:
    """Grey, (1, 3, 40, 50)."""
    return torch.rand(1, 1, 40, 50, generator=torch.manual_seed(0)).expand(1, 3, 40, 50)


def covariance(picture: Tensor) -> Tensor:
    return torch.cov(picture.transpose(0, 1).flatten(1), correction=0)


@settings(deadline=None)  # the first call wakes torch's threads
@given(LEVEL, LEVEL, LEVEL)
def test_in_a_grey_painting_every_tint_is_foreign(red: float, green: float, blue: float) -> None:
    colour = torch.tensor([red, green, blue])
    picture = colour[None, :, None, None].expand(2, 3, 5, 7)
    # Whatever its lightness: what counts is the distance from the nearest grey.
    tint = (colour - colour.mean()).square().sum()
    found = foreign_colours(picture, palette_of(drawing()))
    torch.testing.assert_close(found, tint, atol=1e-6, rtol=1e-5)  # 20 roundings of 6e-8 each


def test_a_painting_is_hardly_foreign_to_itself() -> None:
    painting = torch.rand(1, 3, 60, 70, generator=torch.manual_seed(1))
    palette = palette_of(painting)
    # On each of two axes, 2 RARE of the pixels are out, by less than the box is wide.
    most = (2 * RARE * (palette.high - palette.low).square()).sum()
    assert 0 < foreign_colours(painting, palette) < most
    inside = (palette.mean[:, None, None] + 0.1 * (painting - 0.5)).requires_grad_()
    torch.autograd.backward(foreign_colours(inside, palette))
    assert inside.grad is not None
    assert not inside.grad.any()  # it has no say in what the painting has


def test_autocast_does_not_round_colours() -> None:
    picture, palette = torch.rand(1, 3, 20, 20), palette_of(drawing())
    with torch.autocast("cpu", torch.bfloat16):
        found = foreign_colours(picture, palette)
    assert found == foreign_colours(picture, palette)


@pytest.mark.parametrize("grey", [False, True])
def test_recoloured_pictures_have_the_painting_s_colours(grey: bool) -> None:
    painting = drawing() if grey else torch.rand(1, 3, 40, 50) ** 2
    mixed = torch.tensor([[0.5, 0.2, 0.1], [0.1, 0.3, 0.3], [0.0, 0.1, 0.8]])
    pictures = torch.einsum("ij,njhw->nihw", mixed, torch.rand(3, 3, 30, 20))
    turn, shift = colour_map(pictures, palette_of(painting))
    recoloured = recolour(pictures, turn, shift)
    torch.testing.assert_close(recoloured[1, :, 2, 3], turn @ pictures[1, :, 2, 3] + shift)
    torch.testing.assert_close(recoloured.mean((0, 2, 3)), painting.mean((0, 2, 3)))
    # Exactly where LEAST_VARIANCE had been in the pictures' covariance.
    wanted = covariance(painting) - LEAST_VARIANCE * turn @ turn.T
    torch.testing.assert_close(covariance(recoloured), wanted, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(turn, turn.T)  # so it turns no colour into another's place
    if grey:
        assert foreign_colours(recoloured, palette_of(painting)) < 1e-6


def test_a_picture_of_one_colour_is_not_torn_apart() -> None:
    turn, shift = colour_map(torch.full((1, 3, 8, 8), 0.3), palette_of(torch.rand(1, 3, 9, 9)))
    assert turn.abs().max() <= (1 / LEAST_VARIANCE) ** 0.5  # a deviation of 1 at the most, of that
    assert shift.isfinite().all()


def test_a_network_takes_a_map_of_colours_in() -> None:
    network = TransformerNet(width=0.125).eval()
    photo = torch.rand(1, 3, 16, 20)
    turn, shift = torch.rand(3, 3), torch.rand(3)
    with torch.no_grad():
        wanted = recolour(network(photo), turn, shift)
        network.recolour(turn, shift)
        torch.testing.assert_close(network(photo), wanted, atol=1e-5, rtol=1e-5)
