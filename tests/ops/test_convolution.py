"""Convolutions for training on older CPUs: equal to torch's own, with all derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylize.networks import layers
from stylize.networks.plan import NORMS, Norm
from stylize.networks.transformer import TransformerNet
from stylize.ops import convolution
from stylize.ops.convolution import (
    COLUMNS,
    Convolution,
    convolve_columns,
    convolve_enlarged,
    kernel_gradient,
    pays,
)
from stylize.ops.extend import extend

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def by_torch(grad: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    weight = x.new_zeros(grad.shape[1], x.shape[1], side, side, requires_grad=True)
    (found,) = torch.autograd.grad(F.conv2d(x, weight, stride=stride), weight, grad)
    return found


@given(
    count=st.integers(1, 3),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    channels=st.integers(1, 4),
    made=st.integers(1, 4),
    side=st.integers(1, 9),
    stride=st.integers(1, 3),
    part=st.integers(1, 10_000),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=100, deadline=None)
def test_the_kernels_derivative_is_torchs(
    count: int,
    rows: int,
    columns: int,
    channels: int,
    made: int,
    side: int,
    stride: int,
    part: int,
    layout: torch.memory_format,
) -> None:
    """However many rows there are in a part, and with rows and columns that no kernel reaches."""
    height, width = (stride * (n - 1) + side for n in (rows, columns))
    width += -width % stride
    x = draw(count, channels, height + stride - 1, width).to(memory_format=layout)
    grad = draw(count, made, rows, (width - side) // stride + 1).to(memory_format=layout)
    wanted = by_torch(grad, x, side, stride)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "PART_BYTES", part)
        found = kernel_gradient(grad, x, side, stride)
    # Sums of up to 3 * 9 * 13 products of up to 5 * 5, in double precision (2^-53 each).
    torch.testing.assert_close(found, wanted, atol=1e-11, rtol=0)
    assert found.is_contiguous(memory_format=torch.channels_last)


@given(
    count=st.integers(1, 2),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.integers(1, 4),
    made=st.integers(1, 4),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=50, deadline=None)
def test_enlarging_and_convolving_at_once_is_both(
    count: int, height: int, width: int, channels: int, made: int, layout: torch.memory_format
) -> None:
    x, weight = draw(count, channels, height, width), draw(made, channels, 3, 3)
    found = convolve_enlarged(x.to(memory_format=layout), weight.to(memory_format=layout))
    # Sums of up to 36 products of up to 5 * 5, in double precision (2^-53 each).
    torch.testing.assert_close(found, F.conv2d(extend(x, 1, 2), weight), atol=1e-12, rtol=0)


@given(
    count=st.integers(1, 2),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 4),
    side=st.sampled_from([3, 9]),
    biased=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
@settings(max_examples=50, deadline=None)
def test_colours_made_by_blocks_are_torchs(
    count: int,
    height: int,
    width: int,
    channels: int,
    side: int,
    biased: bool,
    layout: torch.memory_format,
) -> None:
    """Whether blocks divide the sides or not."""
    x = draw(count, channels, height + side - 1, width + side - 1).to(memory_format=layout)
    weight, bias = draw(3, channels, side, side), draw(3) if biased else None
    found = convolution._Convolution.apply(x, weight, bias, 1)
    # Sums of up to 4 * 81 products of up to 5 * 5, in double precision (2^-53 each).
    torch.testing.assert_close(found, F.conv2d(x, weight, bias), atol=1e-11, rtol=0)


def convolved(stride: int) -> Callable[[Tensor, Tensor, Tensor], Any]:
    return lambda x, weight, bias: convolution._Convolution.apply(x, weight, bias, stride)


@pytest.mark.parametrize(("stride", "height", "made"), [(1, 5, 2), (2, 5, 2), (1, 6, 3)])
def test_gradcheck(stride: int, height: int, made: int) -> None:
    """The last one makes colours by blocks."""
    inputs = draw(2, 3, height, 6), draw(made, 3, 3, 3), draw(made)
    assert torch.autograd.gradcheck(convolved(stride), [x.requires_grad_() for x in inputs])


def test_gradcheck_behind_an_enlargement() -> None:
    inputs = draw(2, 3, 4, 3), draw(2, 3, 3, 3)
    assert torch.autograd.gradcheck(convolve_enlarged, [x.requires_grad_() for x in inputs])


def test_only_what_is_asked_for_is_differentiated() -> None:
    x, weight, bias = draw(1, 2, 4, 4), draw(2, 2, 3, 3), draw(2)
    bias.requires_grad_()
    convolved(1)(x, weight, bias).sum().backward()
    assert bias.grad is not None
    assert weight.grad is None
    torch.testing.assert_close(bias.grad, torch.full((2,), 4.0, dtype=torch.float64))


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_learns_the_same(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer on this way against every layer on torch's, in double precision."""
    found = {}
    photos = draw(2, 3, 24, 20).sigmoid().requires_grad_()
    for fast in (True, False):
        torch.manual_seed(0)
        network = TransformerNet(norm, 0.25).double()
        for module in (convolution, layers):
            monkeypatch.setattr(module, "pays", lambda *_, fast=fast: fast)
        restyled = network(photos)
        gradients = torch.autograd.grad(
            (restyled * draw(*restyled.shape)).sum(), [photos, *network.parameters()]
        )
        found[fast] = [restyled.detach(), *gradients]
    largest = max(float(gradient.abs().max()) for gradient in found[False])
    for ours, torchs in zip(found[True], found[False], strict=True):
        # Sixteen layers of sums of some hundred products, double precision (2^-53 = 1e-16 each);
        # some derivatives are zero but for that, as a norm removes what they would change.
        torch.testing.assert_close(ours, torchs, atol=1e-11 * largest, rtol=0)


def test_a_flat_picture_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision: nothing of the rounding may reach the norms, which would enlarge it."""
    monkeypatch.setattr(layers, "pays", lambda *_: True)
    torch.manual_seed(0)
    restyled = TransformerNet("instance", 0.25)(torch.full((1, 3, 40, 52), 0.9)).detach()
    assert float((restyled - restyled[..., :1, :1]).abs().max()) < 1 / 255


def test_is_more_accurate_than_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, over the pixels of a training step; what torch adds up in one go."""
    x, grad = draw(2, 16, 130, 130, dtype=torch.float32), draw(2, 16, 128, 128, dtype=torch.float32)
    exact = by_torch(grad.double(), x.double(), 3, 1)
    distance = (kernel_gradient(grad, x, 3, 1) - exact).square().mean().sqrt()
    # 32,768 products by parts of at most 64 rows: rounding adds up as the square root of their
    # number even where a part is one long sum, 2^-24 * sqrt(128 * 130 * 2).
    assert distance / exact.square().mean().sqrt() < 2**-24 * 33280**0.5


@pytest.mark.parametrize(
    ("x", "stride", "capability", "expected"),
    [
        (torch.zeros(1, 16, 4, 6), 1, "AVX2", True),
        (torch.zeros(1, 16, 4, 6), 2, "AVX2", True),
        (torch.zeros(1, 16, 4, 5), 2, "AVX2", False),
        (torch.zeros(1, 3, 4, 6), 1, "AVX2", False),
        (torch.zeros(1, 16, 4, 6, device="meta"), 1, "AVX2", False),
        (torch.zeros(1, 16, 4, 6, dtype=torch.float64), 1, "AVX2", False),
        (torch.zeros(1, 16, 4, 6), 1, "AVX512", False),
    ],
)
def test_is_taken_only_where_it_was_measured_to_pay(
    monkeypatch: pytest.MonkeyPatch, x: Tensor, stride: int, capability: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert pays(x, stride) is expected
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, stride)


def test_a_layer_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Convolution(16, 4, 3, 2)
    with torch.no_grad():
        layer.weight.copy_(draw(4, 16, 3, 3))
        assert layer.bias is not None
        layer.bias.zero_()
    x = draw(1, 16, 7, 8, dtype=torch.float32)
    for capability, name in (("AVX2", "_ConvolutionBackward"), ("AVX512", "ConvolutionBackward0")):
        monkeypatch.setattr(
            torch.backends.cpu, "get_cpu_capability", lambda found=capability: found
        )
        node = layer(x).grad_fn
        assert node is not None
        assert type(node).__name__ == name


@given(
    count=st.integers(1, 2),
    rows=st.integers(9, 12),
    columns=st.integers(1, 4),
    channels=st.integers(1, 5),
    made=st.integers(1, 5),
    side=st.sampled_from((1, 5, 9)),
    with_bias=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_columns_taken_together_give_torchs_numbers_and_derivatives(
    count: int, rows: int, columns: int, channels: int, made: int, side: int, with_bias: bool
) -> None:
    x = draw(count, channels, rows, COLUMNS * columns + side - 1)
    x = x.to(memory_format=torch.channels_last).requires_grad_()
    weight = draw(made, channels, side, side).requires_grad_()
    bias = draw(made).requires_grad_() if with_bias else None
    expected, found = F.conv2d(x, weight, bias), convolve_columns(x, weight, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Float64 sums of at most 405 products of size 1, added in another order.
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
    inputs = [tensor for tensor in (x, weight, bias) if tensor is not None]
    grad = draw(*expected.shape)
    for here, there in zip(
        torch.autograd.grad(found, inputs, grad),
        torch.autograd.grad(expected, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(here, there, atol=1e-11, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("channels", "made"), [(3, 32), (32, 3), (32, 32)])
@pytest.mark.parametrize("width", [40, 41])  # of whole columns, and not
def test_layers_of_colours_on_a_gpu(channels: int, made: int, width: int) -> None:
    layer = Convolution(channels, made, 9, bias=made == 3).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw(*parameter.shape))
    x = draw(2, channels, 20, width).to(memory_format=torch.channels_last)
    expected = layer(x)
    # Float64 sums of 2592 products of size 1.
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected, atol=1e-10, rtol=0)
