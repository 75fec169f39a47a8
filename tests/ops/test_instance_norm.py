"""The operator against the formula, torch's own layer, and its own derivative."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylize.ops.instance_norm import instance_norm, instance_norm_reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

sizes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))


def affine(kind: str, n: int, c: int, dtype: torch.dtype) -> Tensor | None:
    """A parameter of one of the three shapes, away from zero so that ReLU cuts some planes."""
    shape = {"none": None, "channel": (c,), "instance": (n, c)}[kind]
    return None if shape is None else torch.randn(shape, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    dtype=st.sampled_from(DTYPES),
    weight=st.sampled_from(("none", "channel", "instance")),
    bias=st.sampled_from(("none", "channel", "instance")),
    relu=st.booleans(),
    residual=st.booleans(),
    channels_last=st.booleans(),
)
def test_equals_the_formula(
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    weight: str,
    bias: str,
    relu: bool,
    residual: bool,
    channels_last: bool,
) -> None:
    torch.manual_seed(hash(size) % 1000)
    n, c = size[:2]
    x = torch.randn(size).to(dtype)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    gamma, beta = affine(weight, n, c, torch.float32), affine(bias, n, c, torch.float32)
    extra = torch.randn(size).to(dtype) if residual else None
    y = instance_norm(x, gamma, beta, 1e-5, relu, extra)
    for_training = instance_norm(x.clone().requires_grad_(), gamma, beta, 1e-5, relu, extra)
    expected = instance_norm_reference(
        x.double(),
        None if gamma is None else gamma.double(),
        None if beta is None else beta.double(),
        1e-5,
        relu,
        None if extra is None else extra.double(),
    )
    assert y.dtype == dtype
    assert y.shape == x.shape
    # One rounding to the output's type of values up to about 8 (half an ulp each for the norm and
    # for the added residual), and sums of at most 81 terms, amplified where a tiny plane has a
    # variance near eps: sqrt(81) ulps of the sums' type times 1 / sqrt(eps), at the very worst.
    # Float64 met 66 ulps in 40,000 draws of such sizes.
    ulp = torch.finfo(dtype).eps
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    slack = 9 * torch.finfo(sums).eps * 30
    for found in (y, for_training):
        assert (found.double() - expected).abs().max() <= 8 * ulp + slack


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_large_planes_lose_no_digits(channels_last: bool, gradient: bool) -> None:
    """torch's group norm, for one, is off by 6e-4 here in channels_last."""
    torch.manual_seed(0)
    x = torch.rand(1, 4, 1000, 1000) ** 2 * 3 + torch.linspace(0, 2, 1000)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    expected = instance_norm_reference(x.double())
    found = instance_norm(x.requires_grad_(gradient)).detach()
    # Values of up to 4 deviations, some ten roundings of 2^-24 each.
    assert (found - expected).abs().max() <= 4e-6


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", ["none", "channel", "instance"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients(relu: bool, shape: str, channels_last: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    inputs = (
        x.requires_grad_(),
        affine(shape, 2, 3, torch.float64),
        affine(shape, 2, 3, torch.float64),
        torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True),
    )
    for tensor in inputs[1:3]:
        if tensor is not None:
            tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, weight, bias, residual: instance_norm(x, weight, bias, 1e-5, relu, residual),
        inputs,  # type: ignore[arg-type]  # None is passed on as it is
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_plane_gives_exactly_beta(dtype: torch.dtype) -> None:
    x = torch.full((2, 3, 37, 41), 10000.1, dtype=torch.float64).to(dtype)
    if dtype == torch.float16:
        x = x / 2
    beta = torch.tensor([0.5, -1.25, 3.0])
    y = instance_norm(x, torch.tensor([2.0, 3.0, 4.0]), beta)
    assert torch.equal(y.double(), beta.double().reshape(1, 3, 1, 1).expand(2, 3, 37, 41))


def test_a_single_pixel_gives_exactly_beta() -> None:
    beta = torch.tensor([0.5, -1.25])
    assert torch.equal(
        instance_norm(torch.randn(4, 2, 1, 1), None, beta)[..., 0, 0], beta.expand(4, 2)
    )


def test_keeps_its_digits_where_the_mean_dwarfs_the_deviation() -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 4, 64, 64) + 1e4
    expected = instance_norm_reference(x.double())
    # x itself has ulp(1e4) = 1e-3 and is exact as given; after the exact subtraction of the first
    # element, sums of 4096 numbers of order 1 in float32 err by about 1e-6.
    assert (instance_norm(x).double() - expected).abs().max() < 1e-4


def test_bias_and_weight_may_have_different_shapes() -> None:
    x, gamma, beta = torch.randn(2, 3, 4, 4), torch.randn(2, 3), torch.randn(3)
    torch.testing.assert_close(
        instance_norm(x, gamma, beta), instance_norm(x, gamma, beta.expand(2, 3))
    )


@pytest.mark.parametrize(
    ("x", "weight", "message"),
    [
        (torch.zeros(3, 4, 4), None, "takes"),
        (torch.zeros(1, 3, 0, 4), None, "one pixel"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), "weight is"),
    ],
)
def test_wrong_shapes_are_named(x: Tensor, weight: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        instance_norm(x, weight)


def test_an_empty_batch_stays_empty() -> None:
    assert instance_norm(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)
