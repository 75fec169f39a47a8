"""bfloat16 on a CPU by torch's batch norm, against the formula in float64."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylize.ops import bf16_instance_norm
from stylize.ops.bf16_instance_norm import EXACT_PIXELS, MOST_MEAN, moments
from stylize.ops.instance_norm import instance_norm, instance_norm_reference

ULP = torch.finfo(torch.bfloat16).eps


def picture(*size: int, offset: float = 0.0) -> Tensor:
    """Channels with other means and deviations each."""
    torch.manual_seed(sum(size))
    x = torch.randn(size) * torch.rand(size[:2])[..., None, None] + offset
    return x.bfloat16().to(memory_format=torch.channels_last)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(1, 40), st.integers(1, 40)),
    weight=st.sampled_from(("none", "channel", "instance")),
    relu=st.booleans(),
    residual=st.booleans(),
)
def test_equals_the_formula(
    size: tuple[int, int, int, int], weight: str, relu: bool, residual: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bf16_instance_norm, "LEAST_NUMBERS", 1)
        x = picture(*size, offset=2.0)
        shape = {"none": None, "channel": size[1:2], "instance": size[:2]}[weight]
        gamma, beta = (None if shape is None else torch.randn(shape) for _ in range(2))
        extra = picture(*size) if residual else None
        x.requires_grad_()
        leaves = [one.requires_grad_() for one in (x, gamma, beta, extra) if one is not None]
        y = instance_norm(x, gamma, beta, 1e-5, relu, extra)
        grad = picture(*size)
        found = torch.autograd.grad(y, leaves, grad)
        passes = instance_norm(x, gamma, beta, relu=True) > 0
        wanted = [one.detach().double().requires_grad_() for one in leaves]
        rest = iter(wanted)
        exact = [None if one is None else next(rest) for one in (x, gamma, beta, extra)]
        # Of what is all but 0 either derivative is right: ReLU cuts where the operator's does.
        formula = instance_norm_reference(wanted[0], exact[1], exact[2], 1e-5)
        formula = torch.where(passes | (not relu), formula, 0.0)
        formula = formula if exact[3] is None else formula + exact[3]
        expected = torch.autograd.grad(formula, wanted, grad.double())
    # One rounding of the norm and one of the sum with a residual, each half an ulp, and float32's
    # on the way, amplified by 1 / sqrt(eps) at most.
    slack = 9 * torch.finfo(torch.float32).eps * 300
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    bound = ULP * (formula.abs() + (0 if extra is None else extra.double().abs())) + slack
    assert ((y.double() - formula).abs() <= bound).all()
    for one, other in zip(found, expected, strict=True):
        # Sums of up to 1,600 roundings in float32, and one rounding of each derivative.
        assert (one.double() - other).abs().max() <= 2 * ULP * (1e-3 + other.abs().max())


def test_training_sizes_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would hold the formula against itself."""
    asked = Mock(wraps=torch.batch_norm_update_stats)
    monkeypatch.setattr(torch, "batch_norm_update_stats", asked)
    instance_norm(picture(2, 128, 64, 64).requires_grad_())
    assert asked.call_count == 2
    instance_norm(picture(2, 128, 64, 64).contiguous().requires_grad_())
    instance_norm(picture(2, 128, 64, 64).float().requires_grad_())
    instance_norm(picture(2, 128, 16, 16).requires_grad_())
    assert asked.call_count == 2


def test_moments_of_many_pieces() -> None:
    x = picture(1, 5, 700, 300, offset=3.0)
    assert x[0, 0].numel() > 3 * EXACT_PIXELS
    mean, var = moments(x)
    exact = x.double().flatten(2)[0]
    # Each piece adds up 2^16 numbers, whose roundings, at random, are 2^8 * 2^-24 of the sum.
    assert (mean - exact.mean(1)).abs().max() <= 3 * 2**-15
    assert (var / exact.var(1, correction=0) - 1).abs().max() <= 1e-3
    assert torch.equal(moments(x[..., :1, :1])[1], torch.zeros(5))


@pytest.mark.parametrize("value", [1.0078125, 10000.1, 1e-3])
def test_a_constant_plane_gives_exactly_beta(value: float) -> None:
    """1 + 2^-7 a million times, one by one, would be lost in part."""
    x = picture(1, 3, 1000, 1000)
    x[:, 1] = value
    mean, var = moments(x)
    assert mean[1] == x[0, 1, 0, 0]
    assert var[1] == 0
    y = instance_norm(x, torch.tensor([1.0, 3.0, 1.0]), torch.tensor([0.0, -1.25, 0.0]))
    assert torch.equal(y[:, 1], torch.full_like(y[:, 1], -1.25))


def test_a_mean_that_dwarfs_the_deviation_is_left_to_the_formula() -> None:
    x = torch.full((1, 4, 256, 256), 100.0).bfloat16()
    x[..., 7, 9] = 100.5  # the next number
    x = x.to(memory_format=torch.channels_last)
    mean, var = moments(x)
    assert (mean > MOST_MEAN * var.sqrt()).all()
    found = instance_norm(x).double()
    expected = instance_norm_reference(x.double())
    assert ((found - expected).abs() <= ULP * expected.abs()).all()


def test_backward_cuts_where_forward_did() -> None:
    """To the last bit, or a derivative would pass where the value is 0."""
    x = picture(2, 128, 64, 64, offset=0.3).requires_grad_()
    beta = torch.full((128,), -1e-3)
    y = instance_norm(x, None, beta, relu=True)
    pre = instance_norm(x.detach().clone().requires_grad_(), None, beta)
    assert torch.equal(y > 0, pre > 0)
    (ones,) = torch.autograd.grad(
        instance_norm(x.detach(), None, beta.requires_grad_(), relu=True).sum(), beta
    )
    assert torch.equal(ones, (y > 0).sum((0, 2, 3)).float())
