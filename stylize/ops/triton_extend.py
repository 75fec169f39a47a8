"""Enlarging and reflecting on a GPU, in Triton: each pixel is read where it lies, written once.

A program makes a run of pixels of one row, (BLOCK_P pixels, BLOCK_C channels), in channels_last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylize.ops.triton_instance_norm import affine, relu, saved

TILE = 4096
"""Elements of a tile: 16 a thread at 8 warps, as of instance norm's."""


@triton.jit
def _inside(place, side):
    """Where a place up to `side` - 1 beyond either edge is reflected to, 0 to side - 1."""
    place = tl.where(place < 0, -place, place)
    return tl.where(place >= side, 2 * (side - 1) - place, place)


@triton.jit
def _locate(channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Program numbers -> (instance, row, columns of the tile, channels of the tile)."""
    groups = tl.cdiv(channels, BLOCK_C)
    n = (tl.program_id(2) // groups).to(tl.int64)
    c = tl.program_id(2) % groups * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    column = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    return n, tl.program_id(0), column, c


@triton.jit
def _tile(
    extended, channels, height, width,
    PADDING: tl.constexpr, FACTOR: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Instance, channels, row and columns of the pixels that a program repeats; where it writes
    them, and what of that there is.
    """
    n, row, column, c = _locate(channels, BLOCK_P, BLOCK_C)
    high, wide = height * FACTOR, width * FACTOR
    source_row = (_inside(row - PADDING, high) // FACTOR).to(tl.int64)
    source = _inside(column - PADDING, wide) // FACTOR
    first = (n * (high + 2 * PADDING) + row) * (wide + 2 * PADDING) * channels
    result = extended + first + column * channels + c
    return n, c, source_row, source, result, (column < wide + 2 * PADDING) & (c < channels)


@triton.jit
def extend_kernel(
    x, extended, channels, height, width, x_n, x_c, x_h, x_w,
    PADDING: tl.constexpr, FACTOR: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Programs: (rows of the result, runs of its columns, instances and groups of channels)."""
    n, c, row, column, result, valid = _tile(
        extended, channels, height, width, PADDING, FACTOR, BLOCK_P, BLOCK_C
    )  # fmt: skip
    planes = x + n * x_n + c.to(tl.int64) * x_c
    tl.store(result, tl.load(planes + row * x_h + column * x_w, mask=valid), mask=valid)


@triton.jit
def extend_normalised_kernel(
    x, extended, residual, gamma, beta, mean_in, rstd_in, channels, height, width,
    x_n, x_c, x_h, x_w, r_n, r_c, r_h, r_w, gamma_n, beta_n,
    RELU: tl.constexpr, ACC: tl.constexpr,
    PADDING: tl.constexpr, FACTOR: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """`extend_kernel` of what instance norm makes of `x`, by its kernel's very expression."""
    n, c, row, column, result, valid = _tile(
        extended, channels, height, width, PADDING, FACTOR, BLOCK_P, BLOCK_C
    )  # fmt: skip
    planes = x + n * x_n + c.to(tl.int64) * x_c
    # Asked for first, as it is what takes longest to come.
    value = tl.load(planes + row * x_h + column * x_w, mask=valid, other=0.0).to(ACC)
    if residual is not None:
        extra = residual + n * r_n + c.to(tl.int64) * r_c + row * r_h + column * r_w
        added = tl.load(extra, mask=valid, other=0.0).to(ACC)
    shift, mean, rstd, g, b = saved(
        planes, mean_in, rstd_in, gamma, beta, n, c, channels, gamma_n, beta_n, ACC
    )
    y = affine(value - shift, mean, rstd, g, b)
    if RELU:
        y = relu(y)
    if residual is not None:
        y += added
    tl.store(result, y, mask=valid)


@triton.jit
def _add_row(
    total, grads, row, columns, wide, valid, g_h, g_w,
    PADDING: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add what one row of the gradient holds for the enlarged `columns`."""
    mirrored = tl.where(columns <= PADDING, PADDING - columns, -1)
    beyond = tl.where(columns >= wide - 1 - PADDING, 2 * (wide - 1) - columns + PADDING, -1)
    start = grads + tl.cast(row, tl.int64) * g_h
    total += tl.load(start + (columns + PADDING) * g_w, mask=valid, other=0.0).to(ACC)
    twice = valid & (columns >= 1) & (mirrored >= 0)
    total += tl.load(start + mirrored * g_w, mask=twice, other=0.0).to(ACC)
    twice = valid & (columns <= wide - 2) & (beyond >= 0)
    return total + tl.load(start + beyond * g_w, mask=twice, other=0.0).to(ACC)


@triton.jit
def gradient_kernel(
    grad, dx, channels, height, width, g_n, g_c, g_h, g_w,
    PADDING: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Programs as in `extend_kernel`, of rows and columns of dx; always added in the same order."""
    high, wide = height * FACTOR, width * FACTOR
    n, row, column, c = _locate(channels, BLOCK_P, BLOCK_C)
    valid = (column < width) & (c < channels)
    grads = grad + n * g_n + c.to(tl.int64) * g_c
    total = tl.zeros([BLOCK_P, BLOCK_C], ACC)
    for down in tl.static_range(FACTOR):
        enlarged = row * FACTOR + down
        above = (enlarged >= 1) & (enlarged <= PADDING)
        below = (enlarged <= high - 2) & (enlarged >= high - 1 - PADDING)
        for right in tl.static_range(FACTOR):
            columns = column * FACTOR + right
            total = _add_row(
                total, grads, enlarged + PADDING, columns, wide, valid, g_h, g_w,
                PADDING, ACC,
            )  # fmt: skip
            if above:
                total = _add_row(
                    total, grads, PADDING - enlarged, columns, wide, valid, g_h, g_w,
                    PADDING, ACC,
                )  # fmt: skip
            if below:
                total = _add_row(
                    total, grads, 2 * (high - 1) - enlarged + PADDING, columns, wide,
                    valid, g_h, g_w, PADDING, ACC,
                )  # fmt: skip
    first = (n * height + row) * width * channels
    tl.store(dx + first + column * channels + c, total, mask=valid)


def extend(x: Tensor, extended: Tensor, padding: int, upsample: int) -> None:
    """Fill `extended`, in channels_last, from `x`, of any strides."""
    channels, height, width = x.shape[1:]
    block_p, block_c = block(channels)
    extend_kernel[grid(extended, block_p, block_c)](
        x, extended, channels, height, width, *x.stride(),
        PADDING=padding, FACTOR=upsample, BLOCK_P=block_p, BLOCK_C=block_c, num_warps=8,
    )  # fmt: skip


def gradient(grad: Tensor, dx: Tensor, padding: int, upsample: int) -> None:
    """Fill `dx`, in channels_last, from the derivative by what `extend` made, of any strides."""
    channels, height, width = dx.shape[1:]
    block_p, block_c = block(channels)
    accumulator = tl.float64 if grad.dtype == torch.float64 else tl.float32
    gradient_kernel[grid(dx, block_p, block_c)](
        grad, dx, channels, height, width, *grad.stride(),
        PADDING=padding, FACTOR=upsample, ACC=accumulator,
        BLOCK_P=block_p, BLOCK_C=block_c, num_warps=8,
    )  # fmt: skip


def block(channels: int) -> tuple[int, int]:
    """Pixels and channels of a tile."""
    block_c = min(128, triton.next_power_of_2(channels))
    return TILE // block_c, block_c


def grid(result: Tensor, block_p: int, block_c: int) -> tuple[int, int, int]:
    """Programs that make a result."""
    n, channels, height, width = result.shape
    return height, triton.cdiv(width, block_p), n * triton.cdiv(channels, block_c)
