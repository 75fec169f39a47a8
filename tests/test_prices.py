"""What keeps pictures clean: each price sees its own dirt, and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from stylize.prices import (
    CALM,
    EDGE_STRIPS,
    edge_tint,
    flat_variation,
    lattice_energy,
    total_variation,
    unasked_colours,
)


def test_total_variation() -> None:
    picture = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert total_variation(picture).item() == 1.0  # across 1, down 0
    assert total_variation(torch.ones(1, 3, 1, 1)).item() == 0.0


def test_flat_variation_minds_what_the_photo_does_not_ask_for() -> None:
    hatching = torch.zeros(2, 3, 40, 50)
    hatching[..., ::2] = 0.1
    flat, busy = torch.full_like(hatching, 0.5), torch.rand_like(hatching)
    # On a flat photo it is the total variation, but for the last column's missing neighbour.
    plain = total_variation(hatching).item()
    assert flat_variation(hatching, flat).item() == pytest.approx(plain * 49 / 50)
    assert flat_variation(hatching, busy).item() < 0.01 * plain
    # Half flat, half busy: half of it is minded, for the half and not for the mean.
    half = torch.cat([flat[..., :25], busy[..., 25:]], -1)
    assert flat_variation(hatching, half).item() == pytest.approx(plain / 2, rel=0.2)
    assert flat_variation(flat, busy).item() == 0.0
    assert flat_variation(torch.ones(1, 3, 1, 1), torch.ones(1, 3, 1, 1)).item() == 0.0


def test_colours_that_the_photo_tells_are_free() -> None:
    torch.manual_seed(0)
    photo = F.interpolate(torch.rand(2, 3, 6, 8), scale_factor=32, mode="bicubic").clamp(0, 1)
    other = torch.einsum("dc,nchw->ndhw", torch.randn(3, 3), photo) + 0.3
    # Ridge regression misses a map's part along a direction of variance v by CALM / (CALM + v).
    areas = F.avg_pool2d(photo, 16, 8).flatten(2)
    least = torch.stack([torch.cov(one, correction=0) for one in areas])
    part = (CALM / (CALM + torch.linalg.eigvalsh(least)[:, 0])).max().item()
    assert part < 0.1
    variance = F.avg_pool2d(other, 16, 8).flatten(2).var(2, correction=0).mean().item()
    assert unasked_colours(other, photo).item() < part**2 * variance
    strokes = torch.rand(1, 3, 2, 2).repeat(1, 1, 96, 128)  # alike in all areas
    assert unasked_colours(strokes, photo[:1]).item() == pytest.approx(0, abs=1e-9)


def test_patches_that_the_photo_does_not_tell_cost_their_variance() -> None:
    torch.manual_seed(0)
    patches = F.interpolate(torch.rand(2, 3, 4, 5), scale_factor=40)
    areas = F.avg_pool2d(patches, 16, 8).flatten(2)
    variance = areas.var(2, correction=0).mean().item()
    flat = torch.full_like(patches, 0.7)
    assert unasked_colours(patches, flat).item() == pytest.approx(variance, rel=1e-5)
    # A gradient of a sky's strength excuses next to nothing.
    sky = flat + torch.linspace(0, 0.03, 200)
    assert unasked_colours(patches, sky).item() > 0.8 * variance
    assert unasked_colours(patches, patches).item() < 0.01 * variance


@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 99))
def test_unasked_colours_are_what_a_solver_leaves(height: int, width: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    picture, photo = torch.rand(2, 2, 3, height, width, generator=random)
    side = min(16, height, width)
    painted, asked = (
        F.avg_pool2d(x.double(), side, max(1, side // 2)).flatten(2) for x in (picture, photo)
    )
    painted, asked = (x - x.mean(2, keepdim=True) for x in (painted, asked))
    count = asked.shape[2]
    ridge = asked @ asked.mT / count + CALM * torch.eye(3, dtype=torch.float64)
    slope = torch.linalg.solve(ridge, asked @ painted.mT / count).mT
    expected = (painted - slope @ asked).square().mean().item()
    # The matrix has eigenvalues from CALM to 0.3, so float32's 6e-8 grows 300-fold, and colours
    # of up to 0.5 are predicted to 1e-5. (r + 1e-5)^2 is 2e-5 r + 1e-10 more than r^2.
    found = unasked_colours(picture, photo)
    assert found.item() == pytest.approx(expected, rel=0, abs=2e-5 * expected**0.5 + 1e-10)
    with torch.autocast("cpu", torch.bfloat16):  # in which training calls it
        assert unasked_colours(picture, photo) == found


def test_lattice_energy_tells_a_grid_from_texture() -> None:
    torch.manual_seed(0)
    texture = torch.randn(1, 3, 128, 128)
    # White noise of variance 1, averaged over 8 x 8 cells: a variance of 1/64, less its mean over
    # 16 places (15/16 of it is left); over 16 blocks x 3 channels x 16 places within some 6 %.
    assert lattice_energy(texture).item() == pytest.approx(15 / 16 / 64, rel=0.2)
    grid = torch.zeros(1, 3, 130, 131)
    grid[..., ::4, ::4] = 1.0  # one place of 16: variance 1/16 - 1/256
    assert lattice_energy(grid).item() == pytest.approx(15 / 256)
    assert lattice_energy(grid[..., :9, :17]).item() == pytest.approx(15 / 256)
    stripes = torch.ones(1, 3, 128, 128)
    stripes[..., ::5] = 0.0  # a period that shares nothing with the lattice
    assert lattice_energy(stripes).item() < 0.01
    assert lattice_energy(torch.rand(1, 3, 3, 50)).item() == 0.0


def test_edge_tint_tells_a_band_from_a_change_all_over() -> None:
    photo = torch.rand(2, 3, 128, 160)

    def check(found: torch.Tensor, expected: torch.Tensor) -> None:
        # float32's rounding of the means of numbers up to 1.3
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)

    check(edge_tint(photo + 0.3, photo), torch.zeros(4, 4, 3))
    band = photo.clone()
    band[:, 2, -16:] += 0.3  # the lowest 16 rows: the sides have it in strips and middle alike
    expected = torch.zeros(4, 4, 3)
    expected[1, :2, 2] = 0.3
    check(edge_tint(band, photo), expected)
    turned = edge_tint(band.mT, photo.mT)
    check(turned, expected[[2, 3, 0, 1]])
    half = photo.clone()
    half[0, 1, :, :32] -= 0.2  # the left edge of one of two pictures
    expected = torch.zeros(4, 4, 3)
    expected[2, :3, 1] = -0.1
    check(edge_tint(half, photo), expected)


@given(height=st.integers(1, 140), width=st.integers(1, 140))
def test_edge_tint_is_defined_for_every_size(height: int, width: int) -> None:
    photo = torch.zeros(1, 3, height, width)
    # A ramp down the picture: each strip's middle lies where its rows do.
    ramp = photo + torch.arange(height, dtype=torch.float32)[:, None]
    tint = edge_tint(ramp, photo)
    assert torch.equal(tint[2:], torch.zeros(2, 4, 3))
    reach = min(48, height * 3 // 8)
    for strip, (begin, end) in enumerate(EDGE_STRIPS):
        there = max(0, (height - 1) / 2 - (begin + min(end, reach) - 1) / 2) * (begin < reach)
        for edge, sign in enumerate((-1, 1)):
            assert tint[edge, strip].tolist() == pytest.approx(3 * [sign * there], abs=1e-4)
