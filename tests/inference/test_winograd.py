"""Convolutions with half of the multiplications: equal to torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stylize.inference import winograd
from stylize.inference.torch_backend import TorchBackend
from stylize.inference.winograd import WinogradConvolution
from stylize.networks.plan import make_plan
from stylize.networks.transformer import TransformerNet


def by_torch(padded: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(padded.permute(2, 0, 1)[None], weight)[0].permute(1, 2, 0)


def example(rows: int, columns: int, channels: int, more: int, dtype: torch.dtype) -> list[Tensor]:
    """An activation with its edges, and a kernel."""
    generator = torch.Generator().manual_seed(rows * columns)
    padded = torch.randn(rows + 2, columns + 2, channels, dtype=dtype, generator=generator)
    return [padded, torch.randn(more, channels, 3, 3, dtype=dtype, generator=generator)]


@given(
    rows=st.integers(1, 23),
    columns=st.integers(1, 12),
    channels=st.integers(1, 5),
    more=st.integers(1, 5),
    fours=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_convolution(
    rows: int, columns: int, channels: int, more: int, fours: int
) -> None:
    """Whatever is left over by fours, and however many fours there are in a part."""
    padded, weight = example(rows, columns, channels, more, torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "PART_BYTES", fours * padded[0].nbytes)
        found = WinogradConvolution(weight)(padded)
    # Sums of some hundred products of up to 10 * 10, in double precision (2^-53 each).
    torch.testing.assert_close(found, by_torch(padded, weight), atol=1e-11, rtol=0)


def test_rounds_little_more_than_the_convolution() -> None:
    """In single precision, at the network's own width."""
    padded, weight = example(33, 40, 128, 128, torch.float32)
    exact = by_torch(padded.double(), weight.double())
    distance = (WinogradConvolution(weight)(padded) - exact).square().mean().sqrt()
    # Rounding is random: one of 2^-24 for each of 3 * 128 products and the combinations add up as
    # the square root of their number, and the sums behind them (weights of up to 8, of kernels of
    # down to 1/24, of rows of up to 5) enlarge that some three times: 2^-24 * sqrt(400) * 3.
    assert distance / exact.square().mean().sqrt() < 2**-24 * 400**0.5 * 3


def test_a_constant_activation_stays_constant_by_fours() -> None:
    """Five of six combinations are exactly zero: four rows of a plane cannot differ."""
    padded = torch.full((10, 9, 64), 0.3)
    weight = example(1, 1, 64, 8, torch.float32)[1]
    made = WinogradConvolution(weight)(padded)
    assert torch.equal(made, made[:1, :1].expand_as(made))


@pytest.mark.parametrize(
    ("channels", "device", "dtype", "capability", "expected"),
    [
        (128, "cpu", torch.float32, "AVX2", True),
        (32, "cpu", torch.float32, "AVX2", False),
        (128, "meta", torch.float32, "AVX2", False),
        (128, "cpu", torch.bfloat16, "AVX2", False),
        (128, "cpu", torch.float32, "AVX512", True),
        (128, "cpu", torch.bfloat16, "AVX512", False),
        (128, "cpu", torch.float32, "NO AVX", False),
    ],
)
def test_is_taken_only_where_it_was_measured_to_pay(
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    device: str,
    dtype: torch.dtype,
    capability: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    plan, stage = make_plan(width=channels / 128), "res1a"
    weights = TransformerNet(width=channels / 128).tensors()
    backend = TorchBackend(plan, weights, torch.device(device), dtype)
    assert ((stage, False) in backend._fast) is expected
