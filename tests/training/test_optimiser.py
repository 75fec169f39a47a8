"""Muon against torch's own, on matrices; and who moves what."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stylize.networks.transformer import TransformerNet
from stylize.training.optimiser import (
    KERNEL_RATE,
    REST_RATE,
    Muon,
    make_optimisers,
    orthogonal,
    set_rates,
)

SIDES = st.integers(1, 24)


def kernel_of(matrix: Tensor, k: int) -> nn.Parameter:
    """(C', k k C) as a kernel in channels_last, as training has it."""
    kernel = matrix.reshape(len(matrix), k, k, -1).permute(0, 3, 1, 2)
    return nn.Parameter(kernel.clone(memory_format=torch.channels_last))


def matrix_of(kernel: Tensor) -> Tensor:
    return kernel.detach().permute(0, 2, 3, 1).flatten(1)


@given(SIDES, SIDES, st.integers(0, 99))
def test_singular_values_come_close_to_one(rows: int, columns: int, seed: int) -> None:
    matrices = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    u, before, vh = torch.linalg.svd(matrices, full_matrices=False)
    along = torch.einsum("nri,nrc,nic->ni", u, orthogonal(matrices), vh)
    # Values from 0.01 of the norm on end between 0.68 and 1.21, where the iteration's polynomial
    # applied five times has its lowest and highest value; smaller ones come from below.
    large = before > 0.01 * torch.linalg.matrix_norm(matrices)[:, None]
    assert ((along > 0.6) & (along < 1.25))[large].all()
    assert ((along > -1e-3) & (along < 1.25)).all()


def test_no_gradient_is_no_step() -> None:
    assert not orthogonal(torch.zeros(1, 4, 9)).any()


def test_it_moves_as_torchs_own_does_on_matrices() -> None:
    torch.manual_seed(0)
    start = torch.randn(3, 6, 36)
    kernels = [kernel_of(matrix, 3) for matrix in start]
    matrices = [nn.Parameter(matrix.clone()) for matrix in start]
    ours = Muon(kernels, lr=0.01)
    theirs = torch.optim.Muon(
        matrices, lr=0.01, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(5):
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = torch.randn(6, 36)
            kernel.grad = kernel_of(matrix.grad, 3).detach()
        ours.step()
        theirs.step()  # type: ignore[no-untyped-call]
    moved = torch.stack([matrix_of(kernel) for kernel in kernels]) - start
    expected = torch.stack([matrix.detach() for matrix in matrices]) - start
    # Theirs computes in bfloat16: 2^-9 a number, enlarged up to 3.4-fold in each of five rounds,
    # which the next round takes back where it is across the matrix.
    assert (moved - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layout_and_neighbours_do_not_matter(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    values, gradients = torch.randn(2, 3, 8, 4, 3, 3)
    together = [nn.Parameter(value.clone(memory_format=layout)) for value in values]
    alone = [nn.Parameter(value.clone()) for value in values]
    for kernel, gradient in zip(together + alone, [*gradients, *gradients], strict=True):
        kernel.grad = gradient.clone()
    Muon(together, lr=0.1).step()
    for kernel in alone:
        Muon([kernel], lr=0.1).step()
    for one, other, before in zip(together, alone, values, strict=True):
        # A step's numbers are at most 0.1 x 0.2 x 6 in size; sums in another order.
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
        assert not torch.equal(one, before)
        assert one.stride() == before.clone(memory_format=layout).stride()


@given(st.floats(1e-6, 1e6))
def test_only_the_direction_of_a_gradient_counts(scale: float) -> None:
    gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    steps = []
    for factor in (1.0, scale):
        kernel = nn.Parameter(torch.zeros_like(gradient))
        kernel.grad = gradient * factor
        Muon([kernel], lr=0.1).step()
        steps.append(kernel.detach())
    # The scaled gradient's roundings, 2^-24, and those of sums, twice as many; enlarged up to
    # 3.4-fold in each of five rounds, in a step of 0.1 x 0.2 x 6.
    torch.testing.assert_close(*steps, rtol=0, atol=0.12 * 3 * 450 * 2**-24)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_each_parameter_has_one_optimiser(norm: str) -> None:
    network = TransformerNet(norm, 0.25)  # type: ignore[arg-type]
    names = {parameter: name for name, parameter in network.named_parameters()}
    muon, adam = make_optimisers(network, "muon", 1e-3, torch.float32)
    moved = {
        part: [names[p] for group in part.param_groups for p in group["params"]]
        for part in (muon, adam)
    }
    assert sorted(moved[muon] + moved[adam]) == sorted(names.values())
    assert len(moved[muon]) == 14
    assert all(name.endswith(".conv.weight") for name in moved[muon])
    assert {"down1.conv.weight", "out.conv.weight"} <= set(moved[adam])
    assert muon.param_groups[0]["initial_lr"] == KERNEL_RATE * 1e-3
    assert adam.param_groups[0]["initial_lr"] == REST_RATE * 1e-3
    (alone,) = make_optimisers(network, "adam", 1e-3, torch.float32)
    assert set(alone.param_groups[0]["params"]) == set(names)
    assert alone.param_groups[0]["initial_lr"] == 1e-3


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_what_is_recorded_moves_alike_by_rates_that_stay_where_they_are(
    kind: Literal["muon", "adam"],
) -> None:
    torch.manual_seed(0)
    network = TransformerNet(width=0.125).to(memory_format=torch.channels_last)
    moved = []
    for recorded in (False, True):
        trial = copy.deepcopy(network)
        optimisers = make_optimisers(trial, kind, 1e-2, torch.float32, recorded)
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        rates = [group["lr"] for group in groups]
        random = torch.Generator().manual_seed(1)
        for factor in (0.5, 1.0, 0.25):
            set_rates(optimisers, factor)
            for parameter in trial.parameters():
                gradient = torch.randn(parameter.shape, generator=random)
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            for optimiser in optimisers:
                optimiser.step()
        for group, rate in zip(groups, rates, strict=True):
            assert (group["lr"] is rate) == recorded
            assert float(group["lr"]) == pytest.approx(0.25 * group["initial_lr"])
        moved.append(torch.cat([parameter.detach().flatten() for parameter in trial.parameters()]))
    # Three steps of at most 0.01, each rounded some ten times, and weights of up to 1: 2^-24 each.
    torch.testing.assert_close(*moved, rtol=0, atol=3 * (0.01 * 10 + 1) * 2**-24)
