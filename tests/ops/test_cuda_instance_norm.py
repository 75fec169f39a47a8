"""The CUDA kernels, without a GPU in Triton's interpreter, against the formula in float64.

Tiles are made small, so that small planes meet every branch: several tiles a chunk, several chunks
a plane, remainders of all of them.
"""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from stylize.networks.transformer import TransformerNet
from stylize.ops import cuda_instance_norm as cuda
from stylize.ops import instance_norm as operator
from stylize.ops import triton_extend
from stylize.ops.extend import extend, extend_normalised
from stylize.ops.instance_norm import instance_norm, instance_norm_reference
from stylize.ops.route import ROUTE_VARIABLE, route
from tests.ops.test_instance_norm import DTYPES, affine

# The interpreter computes, and warns of, what a mask then keeps from memory.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning"),
    *([pytest.mark.gpu] if torch.cuda.is_available() else []),  # pytest -m gpu, on such a machine
]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module", autouse=True)
def _small_tiles() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "TILE", 64)
        patch.setattr(cuda, "GRADIENT_TILE", 32)
        patch.setattr(cuda, "MERGED", 4)
        patch.setattr(cuda, "MERGED_CHANNELS", 2)
        patch.setattr(triton_extend, "TILE", 64)
        patch.setattr(cuda, "ON_CHIP_TILE", 128)
        patch.setattr(cuda, "MAX_CHUNKS", 5)
        yield


@pytest.fixture(scope="module", autouse=True)
def _triton_route() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROUTE_VARIABLE, "triton")
        route.cache_clear()
        yield
    route.cache_clear()


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "strided":  # every second pixel of a row, every second channel of a picture
        wide = torch.zeros(x.shape[0], 2 * x.shape[1], x.shape[2], 2 * x.shape[3], dtype=x.dtype)
        view = wide[:, ::2, :, ::2]
        return view.copy_(x)
    if layout == "expanded":  # as the gradient of a sum comes
        return x[:1, :1, :1, :1].expand(x.shape)
    return x


def reference_with_gradients(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, relu: bool,
    grad: Tensor,
) -> tuple[Tensor, list[Tensor | None]]:  # fmt: skip
    """y and the gradients of all that has one, in float64."""
    inputs = [None if t is None else t.detach().double().requires_grad_() for t in
              (x, weight, bias, residual)]  # fmt: skip
    assert inputs[0] is not None
    y = instance_norm_reference(inputs[0], inputs[1], inputs[2], 1e-5, relu, inputs[3])
    torch.autograd.backward(y, grad.double())
    return y.detach(), [None if t is None else t.grad for t in inputs]


SIZES = st.one_of(
    # Many channels, or many pixels: the interpreter takes seconds for both.
    st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 19), st.integers(1, 19)),
)


@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    dtype=st.sampled_from(DTYPES),
    weight=st.sampled_from(("none", "channel", "instance")),
    bias=st.sampled_from(("none", "channel", "instance")),
    relu=st.booleans(),
    residual=st.booleans(),
    layout=st.sampled_from(("contiguous", "channels_last", "strided")),
    grad_layout=st.sampled_from(("contiguous", "channels_last", "strided", "expanded")),
)
def test_forward_and_backward_equal_the_formula(
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    weight: str,
    bias: str,
    relu: bool,
    residual: bool,
    layout: str,
    grad_layout: str,
) -> None:
    torch.manual_seed(sum(size))
    n, c = size[:2]
    x = lay_out(torch.randn(size).to(dtype), layout).to(DEVICE)
    gamma, beta = affine(weight, n, c, torch.float32), affine(bias, n, c, torch.float32)
    extra = torch.randn(size).to(dtype).to(DEVICE) if residual else None
    grad = lay_out(torch.randn(size).to(dtype), grad_layout).to(DEVICE)
    gamma, beta = (None if t is None else t.to(DEVICE) for t in (gamma, beta))

    y, mean, rstd = cuda.forward(x, gamma, beta, 1e-5, relu, extra)
    expected, (dx, dgamma, dbeta, _) = reference_with_gradients(x, gamma, beta, extra, relu, grad)
    assert y.dtype == dtype
    if layout != "strided":
        assert y.stride() == x.stride()
    # The interpreter truncates to bfloat16 where hardware rounds: one ulp of values up to 8. In
    # float32, sums of 361 terms; a plane of few pixels with variance near eps multiplies the error
    # of x by up to 1 / sqrt(eps).
    ulp = torch.finfo(dtype).eps
    slack = 1e-12 if dtype == torch.float64 else 1e-4
    assert (y.double() - expected).abs().max() <= 8 * ulp + slack

    got_dx, got_dgamma, got_dbeta = cuda.backward(grad, x, mean, rstd, gamma, beta, relu)
    assert got_dx.dtype == dtype
    assert dx is not None
    # Where an affine value lies within rounding of 0, the ReLU may fall the other way in float64.
    if relu and dtype != torch.float64:
        wide = [None if t is None else t.double() for t in (gamma, beta)]
        edge = instance_norm_reference(x.double(), wide[0], wide[1])
        if edge.abs().min() < 1e-4:
            return
    # dx is of the order of rstd * gamma * grad: relative to its largest value.
    scale = 1 + dx.abs().max()
    assert (got_dx.double() - dx).abs().max() <= (4 * ulp + slack) * scale
    for got, wanted in ((got_dgamma, dgamma), (got_dbeta, dbeta)):
        if wanted is not None:
            summed = got.double() if wanted.dim() == 2 else got.double().sum(0)
            assert (summed - wanted).abs().max() <= slack * (1 + wanted.abs().max()) * 10


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 12, 13)])  # on chip, and in chunks
def test_gradcheck(layout: str, size: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    x = lay_out(torch.randn(size, dtype=torch.float64), layout).to(DEVICE).requires_grad_()
    weight = torch.randn(size[:2], dtype=torch.float64, device=DEVICE, requires_grad=True)
    bias = torch.randn(size[1], dtype=torch.float64, device=DEVICE, requires_grad=True)
    residual = torch.randn(size, dtype=torch.float64, device=DEVICE, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *t: instance_norm(t[0], t[1], t[2], 1e-5, True, t[3]),
        (x, weight, bias, residual),
        fast_mode=True,
    )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("side", [1, 5, 23])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_plane_gives_exactly_beta(dtype: torch.dtype, side: int, layout: str) -> None:
    x = lay_out(torch.full((1, 3, side, side), 10000.1).to(dtype), layout).to(DEVICE)
    beta = torch.tensor([0.5, -1.25, 3.0], device=DEVICE)
    y = instance_norm(x, torch.tensor([2.0, 3.0, 4.0], device=DEVICE), beta)
    assert torch.equal(y.float(), beta.reshape(1, 3, 1, 1).expand(1, 3, side, side))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_keeps_its_digits_where_the_mean_dwarfs_the_deviation(layout: str) -> None:
    torch.manual_seed(1)
    x = lay_out(torch.randn(1, 4, 30, 31) + 1e4, layout).to(DEVICE)
    expected = instance_norm_reference(x.double())
    assert (instance_norm(x).double() - expected).abs().max() < 1e-5  # sums of order 1, float32


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_runs_give_the_same_bits(layout: str) -> None:
    x = lay_out(torch.randn(1, 3, 30, 31), layout).to(DEVICE)
    grad = torch.randn_like(x)
    runs = []
    for _ in range(2):
        y, mean, rstd = cuda.forward(x, None, None, 1e-5, True, None)
        runs.append((y, *cuda.backward(grad, x, mean, rstd, None, None, True)))
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


@pytest.mark.parametrize("strides", [(2**31, 400, 20, 1), (400, 2**31, 20, 1)])
def test_offsets_take_64_bits(strides: tuple[int, int, int, int]) -> None:
    """A view over untouched virtual memory; only the pages of its planes are ever real."""
    last = sum(stride * (side - 1) for stride, side in zip(strides, (2, 2, 20, 20), strict=True))
    x = torch.empty(last + 1, dtype=torch.float16, device=DEVICE).as_strided(
        (2, 2, 20, 20), strides
    )
    x.copy_(torch.randn(2, 2, 20, 20))
    y, mean, rstd = cuda.forward(x, None, None, 1e-5, False, None)
    expected = instance_norm_reference(x.double())
    assert (y.double() - expected).abs().max() <= 8 * torch.finfo(torch.float16).eps
    grad = torch.randn(2, 2, 20, 20, device=DEVICE)
    dx, _, _ = cuda.backward(grad, x, mean, rstd, None, None, False)
    _, (wanted, *_) = reference_with_gradients(x, None, None, None, False, grad)
    assert wanted is not None
    assert (dx.double() - wanted).abs().max() <= 16 * torch.finfo(torch.float16).eps


def test_planes_beyond_32_bits_go_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weights = torch.randn(2, 1, 2, 9, 11, device=DEVICE)
    monkeypatch.setattr(operator, "LARGEST_PLANE", 98)
    for name in ("forward", "backward"):
        monkeypatch.delattr(cuda, name)
    found = []
    for norm in (instance_norm, instance_norm_reference):
        differentiable = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((norm(differentiable) * weights).sum(), differentiable)
        found.append((norm(x), gradient))
    for ours, reference in zip(*found, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(operator, "LARGEST_PLANE", 99)
    with pytest.raises(AttributeError):  # they are what is taken
        instance_norm(x)


@pytest.mark.parametrize("side", [4, 12])  # on chip, and in chunks
def test_parameters_may_be_parts_of_other_tensors(side: int) -> None:
    """Gamma and beta an instance are the halves of what one linear layer gives."""
    torch.manual_seed(side)
    x = torch.randn(2, 3, side, side, device=DEVICE)
    both = torch.randn(2, 6, device=DEVICE)
    alternate = torch.randn(6, device=DEVICE)
    one_row = torch.randn(1, 3, device=DEVICE).expand(2, 3)
    for gamma, beta in (both.chunk(2, dim=1), (both[:, ::2], one_row), alternate.reshape(3, 2).T):
        assert not gamma.is_contiguous()
        y, mean, rstd = cuda.forward(x, gamma, beta, 1e-5, True, None)
        wanted, mean_wanted, rstd_wanted = cuda.forward(
            x, gamma.contiguous(), beta.contiguous(), 1e-5, True, None
        )
        assert torch.equal(y, wanted)
        # The ReLU's mask reads them again.
        got = cuda.backward(x, x, mean, rstd, gamma, beta, True)
        plain = (gamma.contiguous(), beta.contiguous())
        expected = cuda.backward(x, x, mean_wanted, rstd_wanted, *plain, True)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_an_empty_batch_stays_empty() -> None:
    x = torch.zeros(0, 3, 4, 4, device=DEVICE, requires_grad=True)
    weight = torch.ones(3, device=DEVICE, requires_grad=True)
    y = instance_norm(x, weight)
    torch.autograd.backward(y.sum())
    assert y.shape == (0, 3, 4, 4)
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.zeros(3, device=DEVICE))


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 32),
    c=st.integers(1, 512),
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    interleaved=st.booleans(),
    processors=st.sampled_from((1, 4, 80, 132)),
    tile=st.sampled_from((64, 4096, 8192)),
)
def test_chunks_cover_every_pixel_once(
    n: int, c: int, height: int, width: int, interleaved: bool, processors: int, tile: int
) -> None:
    pixels = height * width
    strides = (pixels * c, 1, c) if interleaved else (pixels * c, pixels, 1)
    launch = cuda.plan_launch(torch.Size((n, c, height, width)), strides, processors, tile)
    assert (launch.chunks - 1) * launch.chunk_pixels < pixels
    assert launch.chunks * launch.chunk_pixels >= pixels
    assert launch.chunks <= cuda.MAX_CHUNKS
    assert launch.block_p * launch.block_c <= max(tile, cuda.ON_CHIP_TILE)
    assert not launch.on_chip or (launch.chunks == 1 and launch.block_p >= pixels)


PARAMETERS = st.sampled_from(("none", "channel", "instance"))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(3, 12), st.integers(3, 12)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(["contiguous", "channels_last", "strided"]),
    weight=PARAMETERS,
    bias=PARAMETERS,
    relu=st.booleans(),
    residual=st.booleans(),
    padding=st.integers(0, 2),
    upsample=st.integers(1, 2),
)
def test_reflected_at_once_is_as_reflected_after(
    size: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: str,
    weight: str,
    bias: str,
    relu: bool,
    residual: bool,
    padding: int,
    upsample: int,
) -> None:
    n, c, h, w = size
    x = lay_out(torch.randn(size).to(dtype), layout).to(DEVICE)
    gamma, beta = (affine(kind, n, c, torch.float32) for kind in (weight, bias))
    gamma, beta = (None if rows is None else rows.to(DEVICE) for rows in (gamma, beta))
    # As the network has it: the inside of what was reflected for a convolution.
    wide = lay_out(torch.randn(n, c, h + 2, w + 2).to(dtype), "channels_last").to(DEVICE)
    extra = wide[..., 1:-1, 1:-1] if residual else None
    found = extend_normalised(x, gamma, beta, 1e-5, relu, extra, padding, upsample)
    expected = extend(instance_norm(x, gamma, beta, 1e-5, relu, extra), padding, upsample)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Chunks are merged in another order, which moves the statistics by some units of the last
    # place of the type that accumulates; the result may then round to the next number of its own.
    units = 16 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    own = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, atol=units, rtol=own + units)


def test_a_constant_plane_reflected_at_once_is_exactly_beta() -> None:
    x = torch.full((1, 3, 12, 13), 1e4, device=DEVICE)
    beta = torch.tensor([0.25, -1.5, 3.0], device=DEVICE)
    found = extend_normalised(x, None, beta, 1e-5, False, None, 1)
    assert torch.equal(found, beta[:, None, None].expand_as(found))


def test_the_network_gives_the_references_picture_without_a_gradient() -> None:
    torch.manual_seed(0)
    network = TransformerNet(width=0.125, ground=0.25).to(DEVICE)
    photo = torch.rand(1, 3, 17, 12, device=DEVICE)
    with (
        patch("stylize.ops.instance_norm.route", return_value="reference"),
        patch.object(network, "_ahead", side_effect=AssertionError),
    ):
        in_turn = network(photo).detach()
    with torch.no_grad(), patch.object(network, "_in_turn", side_effect=AssertionError):
        ahead = network(photo)
    # Fifteen norms, each off by some units of float32's last place.
    torch.testing.assert_close(ahead, in_turn, atol=1e-5, rtol=0)
