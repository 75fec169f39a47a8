"""Convolutions as GPUs, and as x86 CPUs, want them.

On a GPU a layer that takes or makes colours, three channels, leaves most of a matrix unit empty:
four columns, taken as channels of one, fill it.

On a CPU a convolution behind an enlargement is one transposed convolution, without an enlarged
picture to write, pad and take back. And one that makes colours makes several pixels at a time. The
bands of large pictures take its kernels. Without AVX-512 torch's derivative by the kernel, oneDNN's
`jit:avx2`, took half of a training step, and loses a digit, as it adds up all pixels in one go.
There it is made of matrix products.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylize.devices import as_it_is, register_floats

PART_BYTES = 2 << 20
"""Of the derivatives that lie side by side, for as many rows as are multiplied at a time. More
leave the caches, fewer make too small a product: 64 channels to 32 at 256 px take 63 ms by parts of
0.8 MB, 55 by 1.6, 60 by 3.2."""

COLOURS = 3
"""Channels of the layer that makes several pixels at a time."""

LEAST_CHANNELS = 16
"""Going in. A photo's 3 make the product too narrow: 61 ms instead of 34."""


def pixels_together(floats: int) -> tuple[int, int]:
    """Rows and columns of pixels of 3 channels that are made at a time.

    24 numbers fill three registers of 8, and 12 three quarters of one of 16, where 3 leave most
    empty. 32 rows of 3000 columns, 9 x 9, on two cores, in milliseconds: with registers of 8 56 by
    one pixel, 35 by 2 in a row, 30 by 4, 22 by 8, 21 by 2 x 4, 17 by 4 x 2, 24 by 4 x 4; with 16
    37.6, 21.5, 13.2, 17.0, 15.1, 14.8, 14.1, and 12.8 by 2 x 2 (in bf16 half of each).

    Args:
        floats: of a register, as `register_floats` has it.
    """
    return (4, 2) if floats == 8 else (2, 2)


def convolving_type(x: Tensor) -> torch.dtype:
    """What a convolution of `x` computes in on a CPU: autocast's type, or its own."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def floats_for(x: Tensor) -> int:
    """`register_floats` for a convolution of `x`: 0 where torch's own way is to be taken."""
    # First, as a traced size must not be asked what it is.
    if torch.compiler.is_compiling() or x.shape[1] < LEAST_CHANNELS:
        return 0
    return register_floats(x.device, convolving_type(x))


COLUMNS = 4
"""Columns that `convolve_columns` takes together: 3 channels become 16 and 32 become 128, which
matrix units take as they are."""


def columns_pay(x: Tensor, weight: Tensor) -> bool:
    """Whether convolving `x` by `convolve_columns` is possible, and faster: on a GPU, where colours
    go in or come out.
    """
    return (
        not torch.compiler.is_compiling()
        and x.is_cuda
        and COLOURS in weight.shape[:2]
        and (weight.shape[3] - 1) % COLUMNS == 0
        and x.shape[3] % COLUMNS == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def convolve_columns(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve without padding, `COLUMNS` columns at a time.

    In channels_last a row of W pixels of C channels is, where it lies, one of W / 4 pixels of 4 C
    channels. The kernel that makes four columns of four is the old one four times, each moved by
    one more column.

    Args:
        x: (N, C, H, W), in channels_last.
        weight: (C', C, k, l); `COLUMNS` must divide W and l - 1.
        bias: (C',).

    Returns:
        (N, C', H - k + 1, W - l + 1), in channels_last.
    """
    if x.shape[1] == COLOURS:  # by 12 channels cuDNN convolves without matrix units, 5 times slower
        x, weight = (F.pad(part, (0, 0, 0, 0, 0, 1)) for part in (x, weight))
        x = x.contiguous(memory_format=torch.channels_last)
    (n, channels, height, width), (made, _, rows, columns) = x.shape, weight.shape
    moved = torch.stack(
        [F.pad(weight, (right, COLUMNS - 1 - right)) for right in range(COLUMNS)]
    )  # (4, C', C, k, l + 3)
    apart = moved.reshape(*moved.shape[:4], -1, COLUMNS)  # (4, C', C, k, (l + 3) / 4, 4)
    kernel = apart.permute(0, 1, 5, 2, 3, 4).reshape(
        COLUMNS * made, COLUMNS * channels, rows, (columns - 1) // COLUMNS + 1
    )
    pixels = x.permute(0, 2, 3, 1).reshape(n, height, width // COLUMNS, COLUMNS * channels)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    together = F.conv2d(
        pixels.permute(0, 3, 1, 2), kernel, None if bias is None else bias.repeat(COLUMNS)
    ).permute(0, 2, 3, 1)
    return together.reshape(n, height - rows + 1, -1, made).permute(0, 3, 1, 2)


class Convolution(nn.Conv2d):
    """torch's Conv2d without padding, whose derivative takes the faster way.

    Its numbers are whatever lay in memory until a network fills them. torch's own draws for biases
    would give a network without a norm other weights than its twins.
    """

    def reset_parameters(self) -> None:
        """Nothing; `skip_init` of torch does so too, and takes a second."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', (H - k) // stride + 1, (W - k) // stride + 1)."""
        if columns_pay(input, self.weight):
            return convolve_columns(input, self.weight, self.bias)
        floats, stride = floats_for(input), self.stride[0]
        # With AVX-512 torch's derivatives take 0.6 to 0.9 of the time of those here.
        if floats == 8 and input.shape[3] % stride == 0:
            made: Tensor = _Convolution.apply(input, self.weight, self.bias, stride)
            return made
        if floats == 16 and stride == 1 and in_blocks(input, self.weight, pixels_together(16)):
            return convolve_blocks(input, self.weight, self.bias, pixels_together(16))
        return super().forward(input)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        block = pixels_together(8)
        if stride == 1 and in_blocks(x, weight, block):
            return convolve_blocks(x, weight, bias, block)
        return F.conv2d(x, weight, bias, stride)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_dx, need_dweight, need_dbias, _ = ctx.needs_input_grad
        dx = _torchs_gradient(grad, x, weight, ctx.stride, 0) if need_dx else None
        dweight = kernel_gradient(grad, x, weight.shape[-1], ctx.stride) if need_dweight else None
        return dx, dweight, grad.sum((0, 2, 3)) if need_dbias else None, None


def _torchs_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, by: int) -> Tensor:
    """Of a convolution without padding, by its input (0) or its kernel (1), as torch has it."""
    sides = [stride] * 2, [0, 0], [1, 1]  # stride, padding, dilation
    wanted = [by == 0, by == 1, False]
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *sides, False, [0, 0], 1, wanted
    )[by]
    return found


def block_kernel(kernel: Tensor, block: tuple[int, int]) -> Tensor:
    """(C', C, k, k) -> (m n C', C, k + m - 1, k + n - 1): a block of m x n pixels, row by row."""
    rows, columns = block
    return torch.cat(
        [
            F.pad(kernel, (right, columns - 1 - right, down, rows - 1 - down))
            for down in range(rows)
            for right in range(columns)
        ]
    )


def in_blocks(x: Tensor, weight: Tensor, block: tuple[int, int]) -> bool:
    """Whether what a convolution of stride 1 makes of `x` are colours, in whole blocks."""
    sides = [n - weight.shape[-1] + 1 for n in x.shape[-2:]]
    whole = all(side % pixels == 0 for side, pixels in zip(sides, block, strict=True))
    return weight.shape[0] == COLOURS and whole


def convolve_blocks(
    x: Tensor, weight: Tensor, bias: Tensor | None, block: tuple[int, int]
) -> Tensor:
    """Convolve without padding, a block of m x n pixels at a time.

    Args:
        x: (N, C, H, W).
        weight: (C', C, k, k); H - k + 1 must be a multiple of m, W - k + 1 of n.
        bias: (C',).
        block: m and n.

    Returns:
        (N, C', H - k + 1, W - k + 1), in channels_last.
    """
    kernel = block_kernel(weight, block).contiguous(memory_format=torch.channels_last)
    biases = None if bias is None else bias.repeat(math.prod(block))
    blocks = F.conv2d(x, kernel, biases, block).permute(0, 2, 3, 1)  # (N, H / m, W / n, m n C')
    count, rows, columns = blocks.shape[:3]
    apart = blocks.reshape(count, rows, columns, *block, -1).transpose(2, 3)
    pixels = apart.reshape(count, rows * block[0], columns * block[1], -1)
    return pixels.permute(0, 3, 1, 2)


def convolve_enlarged(x: Tensor, weight: Tensor) -> Tensor:
    """Enlarge twofold by nearest neighbour, reflect by one pixel, convolve by 3 x 3.

    Each source pixel is seen up to four times, by numbers that can be summed beforehand: it is one
    transposed convolution of stride 2 by a kernel of 4 x 4, 16 multiplications where there were 36.
    Reflection of the enlarged picture by one row is repetition of the source's edge.

    Args:
        x: (N, C, H, W).
        weight: (C', C, 3, 3).

    Returns:
        (N, C', 2 H, 2 W).
    """
    dtype = convolving_type(x)
    kernel = enlarging_kernel(weight).to(dtype).contiguous(memory_format=torch.channels_last)
    with as_it_is(x):
        repeated = F.pad(x.to(dtype), [1] * 4, mode="replicate")
    made: Tensor = _Enlarging.apply(repeated, kernel)
    return made


def enlarging_kernel(weight: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (C, C', 4, 4), of the transposed convolution in `convolve_enlarged`."""
    flipped = weight.transpose(0, 1).flip(2, 3)
    below = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
    return F.pad(below, (0, 1)) + F.pad(below, (1, 0))


_CROP = 3
"""Of what a transposed convolution makes: one for the kernel, two for the repeated edge."""


class _Enlarging(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return F.conv_transpose2d(x, kernel, stride=2, padding=_CROP)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel = ctx.saved_tensors
        padded = F.pad(grad, [_CROP] * 4)
        need_dx, need_dkernel = ctx.needs_input_grad
        dx = F.conv2d(padded, kernel, stride=2) if need_dx else None
        if not need_dkernel:
            return dx, None
        # This convolution takes `padded` to x: the two have changed places. With AVX-512 torch's
        # way takes 0.55 to 0.75 of the time of the one here, and with AMX a sixth to a quarter.
        if register_floats(x.device, x.dtype) == 16:
            return dx, _torchs_gradient(x, padded, kernel, 2, 1)
        return dx, kernel_gradient(x, padded, 4, 2)


def kernel_gradient(grad: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    """The derivative by a square kernel of a convolution without padding.

    Tap (i, j) of the kernel meets the input's row `stride * y + i` where the output's row is y, and
    its column `stride * (u + j // stride) + j % stride` where the output's is u. With `stride`
    columns of the input taken together, as channels of one, and copies of the derivative side by
    side, as channels too, each moved by one more column, a row of taps is one matrix product over
    all pixels.

    Args:
        grad: (N, C', H', W'), by the output.
        x: (N, C, H, W), the input; W must be a multiple of `stride`.
        side: of the kernel, in pixels.
        stride: of the convolution.

    Returns:
        (C', C, side, side), in channels_last.
    """
    (count, made, rows, columns), channels = grad.shape, x.shape[1]
    pixels, grad = x.permute(0, 2, 3, 1).contiguous(), grad.permute(0, 2, 3, 1)
    moves, wide = math.ceil(side / stride), x.shape[3] // stride
    # Half precisions would lose what parts add to each other.
    precise = torch.promote_types(x.dtype, torch.float32)
    taps = x.new_zeros(side, moves * made, stride * channels, dtype=precise)
    parts = math.ceil(rows * wide * moves * made * x.itemsize / PART_BYTES)
    step = math.ceil(rows / parts)
    moved = x.new_zeros(step, wide, moves, made)  # where no derivative comes to lie it stays so
    for n in range(count):
        for start in range(0, rows, step):
            part = grad[n, start : start + step]
            for move in range(moves):
                moved[: len(part), move : move + columns, move] = part
            left = moved[: len(part)].view(-1, moves * made).T
            for i in range(side):
                first = stride * start + i
                met = pixels[n, first : first + stride * len(part) : stride]
                right = met.reshape(-1, stride * channels)
                if precise == x.dtype:
                    taps[i].addmm_(left, right)
                else:
                    taps[i] += left @ right
    apart = taps.view(side, moves, made, stride, channels).permute(2, 0, 1, 3, 4)
    inner = apart.reshape(made, side, moves * stride, channels)[:, :, :side]  # (C', i, j, C)
    return inner.permute(0, 3, 1, 2).to(x.dtype).contiguous(memory_format=torch.channels_last)
