"""Convolutions as GPUs, and as training on CPUs without AVX-512, want them.

On a GPU a layer that takes or makes colours, three channels, leaves most of a matrix unit empty:
four columns, taken as channels of one, fill it.

On such CPUs torch's derivative by the kernel, oneDNN's `jit:avx2`, took half of a training step,
and loses a digit, as it adds up all pixels in one go. Here it is made of matrix products. A
convolution behind an enlargement is one transposed convolution, without an enlarged picture to
write, pad and take back. And one that makes colours makes several pixels at a time. The bands of
large pictures take its kernels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylize.devices import has_avx2_alone

PART_BYTES = 2 << 20
"""Of the derivatives that lie side by side, for as many rows as are multiplied at a time. More
leave the caches, fewer make too small a product: 64 channels to 32 at 256 px take 63 ms by parts of
0.8 MB, 55 by 1.6, 60 by 3.2."""

BLOCK = 4, 2
"""Rows and columns of pixels of 3 channels that are made at a time: 24 numbers fill three
registers, where 3 leave most of one empty (32 rows of 3000 columns, 9 x 9, two cores: 56 ms by one
pixel, 35 by 2 in a row, 30 by 4, 22 by 8; 21 by 2 x 4, 17 by 4 x 2, 24 by 4 x 4)."""

COLOURS = 3
"""Channels of the layer that `BLOCK` is for."""

LEAST_CHANNELS = 16
"""Going in. A photo's 3 make the product too narrow: 61 ms instead of 34."""


def pays(x: Tensor, stride: int = 1) -> bool:
    """Whether convolving `x` is faster so: measured on CPUs with AVX2 alone."""
    return (
        not torch.compiler.is_compiling()  # first: a traced size must not be asked what it is
        and has_avx2_alone(x.device, x.dtype)
        and x.shape[1] >= LEAST_CHANNELS
        and x.shape[3] % stride == 0
        and not torch.is_autocast_enabled("cpu")
    )


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
        if not pays(input, self.stride[0]):
            return super().forward(input)
        made: Tensor = _Convolution.apply(input, self.weight, self.bias, self.stride[0])
        return made


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        sides = [n - weight.shape[-1] + 1 for n in x.shape[-2:]]
        whole = all(side % pixels == 0 for side, pixels in zip(sides, BLOCK, strict=True))
        if weight.shape[0] == COLOURS and stride == 1 and whole:
            return _by_blocks(x, weight, bias)
        return F.conv2d(x, weight, bias, stride)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_dx, need_dweight, need_dbias, _ = ctx.needs_input_grad
        dx = _convolution_input(grad, x, weight, ctx.stride) if need_dx else None
        dweight = kernel_gradient(grad, x, weight.shape[-1], ctx.stride) if need_dweight else None
        return dx, dweight, grad.sum((0, 2, 3)) if need_dbias else None, None


def _convolution_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """By the input, as torch has it."""
    sides = [stride] * 2, [0, 0], [1, 1]  # stride, padding, dilation
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *sides, False, [0, 0], 1, [True, False, False]
    )[0]
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


def _by_blocks(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W) -> (N, 3, H - k + 1, W - k + 1), which are whole blocks."""
    kernel = block_kernel(weight, BLOCK).contiguous(memory_format=torch.channels_last)
    blocks = F.conv2d(x, kernel, None, BLOCK).permute(0, 2, 3, 1)  # (N, H / m, W / n, m n 3)
    count, rows, columns = blocks.shape[:3]
    apart = blocks.reshape(count, rows, columns, *BLOCK, COLOURS).transpose(2, 3)
    made = apart.reshape(count, rows * BLOCK[0], columns * BLOCK[1], COLOURS).permute(0, 3, 1, 2)
    return made if bias is None else made.add_(bias[:, None, None])


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
    kernel = enlarging_kernel(weight).contiguous(memory_format=torch.channels_last)
    made: Tensor = _Enlarging.apply(F.pad(x, [1] * 4, mode="replicate"), kernel)
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
        return dx, kernel_gradient(x, padded, 4, 2) if need_dkernel else None


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
    taps = x.new_zeros(side, moves * made, stride * channels)
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
                taps[i].addmm_(left, met.reshape(-1, stride * channels))
    apart = taps.view(side, moves, made, stride, channels).permute(2, 0, 1, 3, 4)
    inner = apart.reshape(made, side, moves * stride, channels)[:, :, :side]  # (C', i, j, C)
    return inner.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
