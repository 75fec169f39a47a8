"""The way into a convolution as GPUs take it, against torch's two functions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.ops.extend import Extend, extend
from stylize.ops.route import ROUTE_VARIABLE, route

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

from stylize.ops import triton_extend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []


@pytest.fixture(scope="module", autouse=True, params=["triton", "reference"])
def _forced_route(request: pytest.FixtureRequest) -> Iterator[None]:
    """By the kernels, without a GPU in Triton's interpreter, and by torch's copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROUTE_VARIABLE, request.param)
        patch.setattr(triton_extend, "TILE", 32)  # so that small rows are made by several programs
        route.cache_clear()
        yield
    route.cache_clear()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, n) for n in (2, 5, 4, 4))),
    padding=st.integers(0, 4),
    upsample=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_both_ways_give_the_same_numbers_and_derivatives(
    shape: tuple[int, int, int, int], padding: int, upsample: int, channels_last: bool
) -> None:
    n, c, h, w = shape
    h, w = h + padding, w + padding  # a reflection needs more pixels than it makes
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(n, c, h, w, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected = extend(x, padding, upsample)  # on a CPU: torch's own
    found = Extend.apply(x.to(DEVICE), padding, upsample)
    assert torch.equal(found.cpu(), expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(expected)
    (there,) = torch.autograd.grad(expected, x, grad)
    (here,) = torch.autograd.grad(found, x, grad.to(DEVICE))
    # Sums of at most 4 * upsample^2 numbers of size 1 in another order.
    torch.testing.assert_close(here, there, atol=1e-13, rtol=0)


def test_half_precision_stays_half() -> None:
    x = torch.randn(1, 8, 6, 6, dtype=torch.bfloat16, device=DEVICE)
    extended = Extend.apply(x, 1, 2)
    assert extended.dtype == torch.bfloat16
    assert torch.equal(extended.cpu(), extend(x.cpu(), 1, 2))
    with torch.autocast("cpu", torch.bfloat16):  # which pads in float32
        assert extend(x.cpu(), 1, 2).dtype == torch.bfloat16
