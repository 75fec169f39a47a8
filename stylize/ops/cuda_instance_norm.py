"""Instance norm on CUDA: how planes are cut into tiles and chunks, and the kernels' launches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from stylize.ops import triton_extend
from stylize.ops.route import on
from stylize.ops.triton_instance_norm import (
    gradient_kernel,
    gradient_sums_kernel,
    merge_kernel,
    normalise_kernel,
    statistics_kernel,
)


@dataclass(frozen=True)
class Launch:
    """How the planes are cut into tiles and chunks."""

    block_p: int
    """Pixels of a tile."""
    block_c: int
    """Channels of a tile."""
    chunks: int
    """Blocks that share a plane; 1 where the plane stays on chip."""
    chunk_pixels: int
    on_chip: bool
    warps: int

    @property
    def merged(self) -> int:
        """Chunks whose results are read at a time."""
        rounded: int = triton.next_power_of_2(self.chunks)
        return min(rounded, max(1, MERGED // self.block_c))

    def blocks(self, instances: int, channels: int) -> int:
        """Blocks that one kernel takes."""
        return self.chunks * instances * math.ceil(channels / self.block_c)

    def constants(self, accumulator: torch.dtype) -> dict[str, Any]:
        """The compile-time arguments that all kernels share.

        Contraction is off: what is fused is written as fma, alike in forward and backward.
        """
        return {
            "ACC": tl.float64 if accumulator == torch.float64 else tl.float32,
            "BLOCK_P": self.block_p,
            "BLOCK_C": self.block_c,
            "num_warps": self.warps,
            "enable_fp_fusion": False,
        }


TILE = 8192
"""Elements of a streamed tile, forward: 32 a thread at 8 warps, four 128-bit loads of bfloat16 on
their way at a time. 32 channels of 1920 x 1080 in channels_last, bfloat16, on an H100: 166 us, and
210 with half of it."""

GRADIENT_TILE = 4096
"""The same, backward, where a second tensor is read: 232 us, and 260 with twice of it."""

MERGED = 2048
"""Partial results that a block reads at a time, 8 a thread. All at once are up to 64 a thread and
array, which spill: 130 us, not 90, for 64 channels of 960 x 540, and 2200 in the worst case."""

MERGED_CHANNELS = 16
"""Channels of a block that does nothing but merge: few, so that it reads many chunks at a time."""

WIDEST = 64
"""Channels of a tile in channels_last: a 128-byte line of bfloat16."""

ON_CHIP_TILE = 16384
"""Largest plane, or group of planes, that one block keeps: 32 float32 registers a thread at 16
warps for x, as many again for the gradient."""

MAX_CHUNKS = 1024
"""Blocks that share a plane at the most: each reads the partial results of all the others."""

BLOCKS_A_PROCESSOR, BLOCKS_INTERLEAVED = 8, 2
"""Blocks wanted for each multiprocessor. In NCHW several a place, so that the last wave is a small
part of all. In channels_last as many as run at a time, as each reads the partial results of a whole
group of channels: with 8, the 90 us above are 180."""


def plan_launch(
    shape: torch.Size, strides: tuple[int, int, int], processors: int, tile: int
) -> Launch:
    """Choose tiles and chunks.

    Args:
        shape: (N, C, H, W) of x.
        strides: of x in elements: instance, channel, pixel.
        processors: multiprocessors of the device.
        tile: `TILE` or `GRADIENT_TILE`.
    """
    n, channels, pixels = shape[0], shape[1], shape[2] * shape[3]
    interleaved = strides[1] == 1 and strides[2] > 1
    rounded = triton.next_power_of_2(pixels)
    # 16 channels of bfloat16 are one 32-byte sector.
    narrow = min(16, triton.next_power_of_2(channels)) if interleaved else 1
    if rounded * narrow <= ON_CHIP_TILE:
        warps = min(16, max(1, rounded * narrow // 512))
        return Launch(rounded, narrow, 1, pixels, on_chip=True, warps=warps)
    block_c = min(WIDEST, triton.next_power_of_2(channels)) if interleaved else 1
    block_p = tile // block_c
    groups = n * math.ceil(channels / block_c)
    if interleaved:
        wanted = max(1, processors * BLOCKS_INTERLEAVED // groups)  # one block more runs all alone
    else:
        wanted = math.ceil(processors * BLOCKS_A_PROCESSOR / groups)
    tiles = math.ceil(pixels / block_p)
    tiles_a_chunk = math.ceil(tiles / min(wanted, tiles, MAX_CHUNKS))
    chunk_pixels = tiles_a_chunk * block_p
    chunks = math.ceil(pixels / chunk_pixels)
    return Launch(block_p, block_c, chunks, chunk_pixels, on_chip=False, warps=8)


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise.

    Args:
        x: (N, C, H, W), any float type; strides are kept where they are dense.
        weight, bias: (C,), (N, C) or None.
        eps, relu, residual: as in `stylize.ops.instance_norm`.

    Returns:
        y like x; mean of x minus each plane's first element, and 1 / sqrt(var + eps), (N, C).
    """
    x, weight, bias = _evenly_strided(x), _rows(weight), _rows(bias)
    n, channels = x.shape[:2]
    accumulator = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = torch.empty_like(x)
    if residual is not None:
        residual = _evenly_strided(residual)
    mean, rstd = torch.empty((2, n, channels), dtype=accumulator, device=x.device)
    if not x.numel():
        return y, mean, rstd
    launch = plan_launch(x.shape, _strides(x), _processors(x.device), TILE)
    with on(x.device):
        parts = _statistics(x, launch, accumulator)
        normalise_kernel[(launch.blocks(n, channels),)](
            x, y, residual, weight, bias, *parts, mean, rstd,
            channels, x.shape[2] * x.shape[3],
            *_strides(x), *_strides(y), *_strides(y if residual is None else residual),
            _instance_stride(weight), _instance_stride(bias), launch.chunks, launch.chunk_pixels,
            EPS=eps, RELU=relu, ON_CHIP=launch.on_chip,
            MERGED=launch.merged, **launch.constants(accumulator),
        )  # fmt: skip
    return y, mean, rstd


def forward_extended(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
    extended: Tensor,
    padding: int,
    upsample: int,
) -> None:
    """Fill `extended` from what `forward` makes of x, without a plane between them.

    Args:
        x, weight, bias, eps, relu, residual: as in `forward`.
        extended, padding, upsample: as in `stylize.ops.triton_extend.extend`.
    """
    if not x.numel():
        return
    x, weight, bias = _evenly_strided(x), _rows(weight), _rows(bias)
    n, channels, height, width = x.shape
    launch = plan_launch(x.shape, _strides(x), _processors(x.device), TILE)
    if launch.on_chip:  # so small that what counts is how many kernels there are
        y = forward(x, weight, bias, eps, relu, residual)[0]
        with on(x.device):
            triton_extend.extend(y, extended, padding, upsample)
        return
    accumulator = torch.float64 if x.dtype == torch.float64 else torch.float32
    mean, rstd = torch.empty((2, n, channels), dtype=accumulator, device=x.device)
    constants = launch.constants(accumulator)
    block_p, block_c = triton_extend.block(channels)
    with on(x.device):
        merge_kernel[(triton.cdiv(channels, MERGED_CHANNELS), n)](
            *_statistics(x, launch, accumulator), mean, rstd,
            channels, height * width, launch.chunks, launch.chunk_pixels,
            EPS=eps, ACC=constants["ACC"], BLOCK_C=MERGED_CHANNELS,
            MERGED=MERGED // MERGED_CHANNELS, num_warps=launch.warps, enable_fp_fusion=False,
        )  # fmt: skip
        triton_extend.extend_normalised_kernel[triton_extend.grid(extended, block_p, block_c)](
            x, extended, residual, weight, bias, mean, rstd, channels, height, width,
            *x.stride(), *(x if residual is None else residual).stride(),
            _instance_stride(weight), _instance_stride(bias),
            RELU=relu, PADDING=padding, FACTOR=upsample,
            **constants | {"BLOCK_P": block_p, "BLOCK_C": block_c},
        )  # fmt: skip


def _statistics(x: Tensor, launch: Launch, accumulator: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and M2 of each chunk, (N, chunks, C); where planes stay on chip nothing fills them."""
    n, channels, height, width = x.shape
    mean_parts, m2_parts = torch.empty(
        (2, n, launch.chunks, channels), dtype=accumulator, device=x.device
    )
    if not launch.on_chip:
        statistics_kernel[(launch.blocks(n, channels),)](
            x, mean_parts, m2_parts, channels, height * width, *_strides(x),
            launch.chunks, launch.chunk_pixels, **launch.constants(accumulator),
        )  # fmt: skip
    return mean_parts, m2_parts


def backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate; the arguments are `forward`'s and its results.

    Args:
        grad: (N, C, H, W), of y, in any layout.

    Returns:
        dx like x; the sums over each plane of the gradient times the normalised value, and of the
        gradient, (N, C): dgamma and dbeta, an instance.
    """
    x, grad, weight, bias = _evenly_strided(x), _evenly_strided(grad), _rows(weight), _rows(bias)
    n, channels = x.shape[:2]
    dx = torch.empty_like(x)
    total, dot = torch.empty((2, n, channels), dtype=mean.dtype, device=x.device)
    if not x.numel():
        return dx, dot, total
    launch = plan_launch(x.shape, _strides(x), _processors(x.device), GRADIENT_TILE)
    sum_parts, dot_parts = torch.empty(
        (2, n, launch.chunks, channels), dtype=mean.dtype, device=x.device
    )
    grid = (launch.blocks(n, channels),)
    size = (channels, x.shape[2] * x.shape[3], *_strides(x), *_strides(grad))
    cut = (_instance_stride(weight), _instance_stride(bias), launch.chunks, launch.chunk_pixels)
    with on(x.device):
        if not launch.on_chip:
            gradient_sums_kernel[grid](
                x, grad, weight, bias, mean, rstd, sum_parts, dot_parts, *size, *cut,
                RELU=relu, **launch.constants(mean.dtype),
            )  # fmt: skip
        gradient_kernel[grid](
            x, grad, dx, weight, bias, mean, rstd, sum_parts, dot_parts, total, dot,
            *size, *_strides(dx), *cut,
            RELU=relu, ON_CHIP=launch.on_chip,
            MERGED=launch.merged, **launch.constants(mean.dtype),
        )  # fmt: skip
    return dx, dot, total


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Elements from one instance, channel and pixel to the next."""
    height, width = x.shape[2:]
    # A side of 1 has a stride that says nothing.
    pixel = x.stride(3) if width > 1 else x.stride(2) if height > 1 else 1
    return x.stride(0), x.stride(1), pixel


def _evenly_strided(x: Tensor) -> Tensor:
    """x, or a copy where its pixels do not follow each other at one distance that fits a tile."""
    height, width = x.shape[2:]
    even = height == 1 or width == 1 or x.stride(2) == width * x.stride(3)
    if even and abs(_strides(x)[2]) * ON_CHIP_TILE < 2**31:
        return x
    return x.contiguous()


def _rows(parameter: Tensor | None) -> Tensor | None:
    """Gamma or beta, or a copy where channels do not lie side by side."""
    if parameter is None or parameter.stride(-1) == 1:
        return parameter
    return parameter.contiguous()


def _instance_stride(parameter: Tensor | None) -> int:
    """Elements from one instance's row of gamma or beta to the next; 0 where all share one."""
    return 0 if parameter is None or parameter.dim() == 1 else parameter.stride(0)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 4  # the interpreter's: few, so that tests meet planes of several chunks
    return torch.cuda.get_device_properties(device).multi_processor_count
