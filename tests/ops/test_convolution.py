"""Convolutions as CPUs and GPUs want them: equal to torch's own, with all derivatives."""

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
    convolve_blocks,
    convolve_columns,
    convolve_enlarged,
    floats_for,
    in_blocks,
    kernel_gradient,
    pixels_together,
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
    """Whether blocks divide the sides or not, for each kind of CPU, with all derivatives."""
    x = draw(count, channels, height + side - 1, width + side - 1).to(memory_format=layout)
    layer = Convolution(channels, 3, side, bias=biased).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw(*parameter.shape))
    x.requires_grad_()
    inputs, grad = [x, *layer.parameters()], draw(count, 3, height, width)
    expected = F.conv2d(x, layer.weight, layer.bias)
    derivatives = torch.autograd.grad(expected, inputs, grad)
    for floats in (8, 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(convolution, "floats_for", lambda *_, found=floats: found)
            found = layer(x)
        # Sums of up to 4 * 81 products of up to 5 * 5, in double precision (2^-53 each).
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)
        for here, there in zip(torch.autograd.grad(found, inputs, grad), derivatives, strict=True):
            torch.testing.assert_close(here, there, atol=1e-11, rtol=0)


@pytest.mark.parametrize("floats", [8, 16])
def test_whole_blocks_are_taken(floats: int) -> None:
    """What a block of the last layer is, so that the test above has met one."""
    rows, columns = pixels_together(floats)
    x, weight = draw(1, 2, rows + 8, columns + 8), draw(3, 2, 9, 9)
    assert in_blocks(x, weight, (rows, columns))
    assert not in_blocks(x[..., 1:], weight, (rows, columns))
    assert not in_blocks(x, weight[:2], (rows, columns))
    made = convolve_blocks(x, weight, None, (rows, columns))
    torch.testing.assert_close(made, F.conv2d(x, weight), atol=1e-11, rtol=0)


def convolved(stride: int) -> Callable[[Tensor, Tensor, Tensor], Any]:
    return lambda x, weight, bias: convolution._Convolution.apply(x, weight, bias, stride)


@pytest.mark.parametrize(("stride", "height", "made"), [(1, 5, 2), (2, 5, 2), (1, 6, 3)])
def test_gradcheck(stride: int, height: int, made: int) -> None:
    """The last one makes colours by blocks."""
    inputs = draw(2, 3, height, 6), draw(made, 3, 3, 3), draw(made)
    assert torch.autograd.gradcheck(convolved(stride), [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("floats", [8, 16])
def test_gradcheck_behind_an_enlargement(floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "register_floats", lambda *_: floats)
    inputs = draw(2, 3, 4, 3), draw(2, 3, 3, 3)
    assert torch.autograd.gradcheck(convolve_enlarged, [x.requires_grad_() for x in inputs])


def test_only_what_is_asked_for_is_differentiated() -> None:
    x, weight, bias = draw(1, 2, 4, 4), draw(2, 2, 3, 3), draw(2)
    bias.requires_grad_()
    convolved(1)(x, weight, bias).sum().backward()
    assert bias.grad is not None
    assert weight.grad is None
    torch.testing.assert_close(bias.grad, torch.full((2,), 4.0, dtype=torch.float64))


@pytest.mark.parametrize("floats", [8, 16])
@pytest.mark.parametrize("norm", NORMS)
def test_a_network_learns_the_same(
    norm: Norm, floats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer on this way against every layer on torch's, in double precision."""
    found = {}
    photos = draw(2, 3, 24, 20).sigmoid().requires_grad_()
    for fast in (True, False):
        torch.manual_seed(0)
        network = TransformerNet(norm, 0.25).double()
        for module in (convolution, layers):
            monkeypatch.setattr(module, "floats_for", lambda *_, fast=fast: fast * floats)
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
    monkeypatch.setattr(layers, "floats_for", lambda *_: 8)
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


def test_half_precision_rounds_its_parts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what they come to once more: in bfloat16 itself they would lose what they add up."""
    x, grad = draw(2, 16, 130, 130, dtype=torch.float32), draw(2, 16, 128, 128, dtype=torch.float32)
    x, grad = x.bfloat16(), grad.bfloat16()
    exact = by_torch(grad.double(), x.double(), 3, 1)
    monkeypatch.setattr(convolution, "PART_BYTES", 1 << 13)  # a row each, 256 in all
    found = kernel_gradient(grad, x, 3, 1)
    assert found.dtype == torch.bfloat16
    distance = (found - exact).square().mean().sqrt()
    # Each rounding is of 2^-9 at the most, and those of 256 parts, each a sixteenth of their sum,
    # add up as the square root of their number.
    assert distance / exact.square().mean().sqrt() < 2 * 2**-9


@pytest.mark.parametrize(
    ("x", "capability", "alone", "under_autocast"),
    [
        (torch.zeros(1, 16, 4, 6), "AVX2", 8, 0),
        (torch.zeros(1, 3, 4, 6), "AVX2", 0, 0),
        (torch.zeros(1, 16, 4, 6, device="meta"), "AVX2", 0, 0),
        (torch.zeros(1, 16, 4, 6, dtype=torch.float64), "AVX2", 0, 0),
        (torch.zeros(1, 16, 4, 6, dtype=torch.bfloat16), "AVX2", 0, 0),
        (torch.zeros(1, 16, 4, 6), "AVX512", 16, 16),
        (torch.zeros(1, 16, 4, 6, dtype=torch.bfloat16), "AVX512", 16, 16),
        (torch.zeros(1, 3, 4, 6), "AVX512", 0, 0),
        (torch.zeros(1, 16, 4, 6), "NO AVX", 0, 0),
    ],
)
def test_is_taken_only_where_it_was_measured_to_pay(
    monkeypatch: pytest.MonkeyPatch, x: Tensor, capability: str, alone: int, under_autocast: int
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert floats_for(x) == alone
    with torch.autocast("cpu", torch.bfloat16):
        assert floats_for(x) == under_autocast


@pytest.mark.parametrize(
    ("capability", "stride", "width", "name"),
    [
        ("AVX2", 2, 8, "_ConvolutionBackward"),
        ("AVX2", 2, 7, "ConvolutionBackward0"),  # no whole pairs of columns
        ("AVX2", 1, 7, "_ConvolutionBackward"),
        ("AVX512", 2, 8, "ConvolutionBackward0"),
    ],
)
def test_a_layer_takes_it(
    capability: str, stride: int, width: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Convolution(16, 4, 3, stride)
    with torch.no_grad():
        layer.weight.copy_(draw(4, 16, 3, 3))
        assert layer.bias is not None
        layer.bias.zero_()
    x = draw(1, 16, 7, width, dtype=torch.float32)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    node = layer(x).grad_fn
    assert node is not None
    assert type(node).__name__ == name


@pytest.mark.parametrize("enlarging", [True, False])
def test_autocast_decides_what_is_made(enlarging: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the parameters' derivatives are float32 whatever it was."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    weight = draw(3, 16, 3, 3, dtype=torch.float32)
    x = draw(1, 16, 6, 10, dtype=torch.float32)
    layer = Convolution(16, 3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    seen = extend(x, 1, 2) if enlarging else x
    expected = F.conv2d(seen, weight)
    with torch.autocast("cpu", torch.bfloat16):
        made = convolve_enlarged(x, layer.weight) if enlarging else layer(x)
    made.sum().backward()
    assert made.dtype == torch.bfloat16
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    # Rounded by 2^-9 of themselves: both factors of each product, the sum, and where a CPU has no
    # bfloat16 the four parts that a transposed convolution adds up.
    largest = F.conv2d(seen.abs(), weight.abs())
    assert ((made.float() - expected).abs() <= 7 * 2**-9 * largest).all()


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
