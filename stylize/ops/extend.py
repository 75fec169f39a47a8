"""Nearest enlargement and reflection padding, the way into every convolution."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.devices import as_it_is
from stylize.ops.instance_norm import instance_norm
from stylize.ops.route import on, route


def extend(x: Tensor, padding: int, upsample: int = 1) -> Tensor:
    """Repeat each pixel `upsample` times down and across, then reflect the edges by `padding`.

    Args:
        x: (N, C, H, W); enlarged, both sides must be larger than `padding`.

    Returns:
        (N, C, H * upsample + 2 * padding, W * upsample + 2 * padding).
    """
    if x.is_cuda and not torch.compiler.is_compiling():
        extended: Tensor = Extend.apply(x, padding, upsample)
        return extended
    with as_it_is(x):
        if upsample > 1:
            x = F.interpolate(x, scale_factor=upsample, mode="nearest")
        return F.pad(x, [padding] * 4, mode="reflect")


def extend_normalised(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
    padding: int,
    upsample: int = 1,
) -> Tensor:
    """`extend` of what `instance_norm` makes of x: what the next convolution reads.

    Where there are CUDA kernels at once, which spares a plane written and one read. Not
    differentiable there.
    """
    if route(x.device.type) == "triton":
        from stylize.ops import cuda_instance_norm

        extended = _room(x, padding, upsample)
        cuda_instance_norm.forward_extended(
            x, weight, bias, eps, relu, residual, extended, padding, upsample
        )
        return extended
    return extend(instance_norm(x, weight, bias, eps, relu, residual), padding, upsample)


class Extend(torch.autograd.Function):
    """As torch's two functions, the same numbers, written once and in channels_last.

    By kernels of its own where there is Triton, else by torch's copies. On CUDA torch's reflection
    copies to NCHW, the convolution behind it back again, and its derivative adds by atomics, in
    another order each time. On a CPU it does neither: this is quicker there in some shapes and
    slower in others, by a hundredth of a training step at most.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: int, upsample: int) -> Tensor:
        """See `extend`."""
        ctx.padding, ctx.upsample = p, factor = padding, upsample
        h, w = x.shape[2:]
        height, width = h * factor, w * factor
        extended = _room(x, padding, upsample)
        if extended.numel() and route(x.device.type) == "triton":
            from stylize.ops import triton_extend

            with on(x.device):
                triton_extend.extend(x, extended, padding, upsample)
            return extended
        inner = extended[..., p : p + height, p : p + width]
        cells = torch.unflatten(torch.unflatten(inner, 3, (w, factor)), 2, (h, factor))
        cells.copy_(x[:, :, :, None, :, None])
        for target, source in _reflected(width, p):
            inner_rows = extended[..., p : p + height, :]
            inner_rows[..., target] = inner_rows[..., source]
        for target, source in _reflected(height, p):
            extended[..., target, :] = extended[..., source, :]
        return extended

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Each pixel's derivative is the sum over those that were made of it."""
        p, factor = ctx.padding, ctx.upsample
        height, width = (side - 2 * p for side in grad.shape[-2:])
        if grad.numel() and route(grad.device.type) == "triton":
            from stylize.ops import triton_extend

            dx = torch.empty(
                (*grad.shape[:2], height // factor, width // factor),
                dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last,
            )  # fmt: skip
            with on(grad.device):
                triton_extend.gradient(grad, dx, padding=p, upsample=factor)
            return dx, None, None
        grad = grad.clone(memory_format=torch.channels_last)
        for target, source in _reflected(height, p):
            grad[..., source, :] += grad[..., target, :]
        inner_rows = grad[..., p : p + height, :]
        for target, source in _reflected(width, p):
            inner_rows[..., source] += inner_rows[..., target]
        inner = inner_rows[..., p : p + width]
        if factor > 1:
            return F.avg_pool2d(inner, factor, divisor_override=1), None, None
        return inner.contiguous(memory_format=torch.channels_last), None, None


def _room(x: Tensor, padding: int, upsample: int) -> Tensor:
    """For what `extend` makes of x, in channels_last, not filled."""
    n, channels, height, width = x.shape
    return torch.empty(
        (n, channels, height * upsample + 2 * padding, width * upsample + 2 * padding),
        dtype=x.dtype, device=x.device, memory_format=torch.channels_last,
    )  # fmt: skip


def _reflected(side: int, padding: int) -> list[tuple[int, int]]:
    """(row of the padding, row within that it repeats), counted in the extended picture."""
    first, last = padding, padding + side - 1
    return [
        pair
        for n in range(1, padding + 1)
        for pair in ((first - n, first + n), (last + n, last - n))
    ]
