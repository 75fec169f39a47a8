"""3 x 3 convolutions with half of the multiplications, for x86 CPUs in float32.

Four rows of a convolution's output need twelve products of a kernel's row with an input row, three
for each. The same four rows are sums of six products: of six combinations of the kernel's rows with
six combinations of the input's rows. That is F(4, 3) of Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, after Winograd, in one direction only: in both there
would be a quarter of the multiplications, but combinations of 36 rows and columns, which take
longer through torch than they save. Along rows every combination is of whole rows, contiguous, and
what remains of the convolution is one of 1 x 3, which oneDNN computes nearly as fast as one of
3 x 3 (119 billion operations a second and 140).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_CHANNELS = 64
"""Below, the combinations take longer than the multiplications that they save: at 750 columns a
convolution of 128 channels takes 0.72 of its time so through AVX2, and 0.64 through AVX-512, of 64
channels 0.82 and 0.82, of 32 channels 1.16 and 1.08."""

PART_BYTES = 4 << 20
"""Of one combination, for as many fours of rows as are convolved at a time: larger ones leave the
caches (32 rows of 2000 columns and 128 channels: 80 ms by parts of 4 MiB, 95 by 8 MiB)."""

# What each of a kernel's three rows adds to the combinations, which belong to the interpolation's
# points 0, 1, -1, 2, -2 and infinity.
_KERNEL = (
    (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 0),
    (0, -1 / 6, 1 / 6, 1 / 12, -1 / 12, 0),
    (0, -1 / 6, -1 / 6, 1 / 6, 1 / 6, 1),
)


class WinogradConvolution:
    """A 3 x 3 convolution of stride 1 without a bias.

    Args:
        weight: (C', C, 3, 3).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = _packed(weight)
        exact = torch.tensor(_KERNEL, dtype=torch.float64, device=weight.device)
        combined = torch.einsum("rp,oirc->poic", exact, weight.double())
        self.kernels = [_packed(kernel[:, :, None].to(weight.dtype)) for kernel in combined]

    def __call__(self, padded: Tensor) -> Tensor:
        """(H + 2, W + 2, C), contiguous, an activation with its edges -> (H, W, C')."""
        rows, columns, channels = padded.shape[0] - 2, padded.shape[1] - 2, len(self.weight)
        made = padded.new_empty(rows, columns, channels)
        by_fours = rows // 4 * 4
        step = 4 * max(1, PART_BYTES // padded[0].nbytes)
        for start in range(0, by_fours, step):
            part = made[start : min(start + step, by_fours)]
            _convolve_fours(padded[start : start + len(part) + 2], self.kernels, part)
        if by_fours < rows:
            made[by_fours:] = _convolved(padded[by_fours:], self.weight)
        return made


def _convolve_fours(padded: Tensor, kernels: Sequence[Tensor], made: Tensor) -> None:
    """(4 n + 2, W + 2, C) -> (4 n, W, C'), with as few sums as there are; d, y: as in the paper."""
    d = [padded[row : row + len(made) - 3 : 4] for row in range(6)]
    y = [made[row::4] for row in range(4)]
    # Points 1 and -1.
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    v = even + odd
    plus = _convolved(v, kernels[1])
    minus = _convolved(torch.sub(even, odd, out=v), kernels[2])
    ones_even, ones_odd = plus + minus, plus.sub_(minus)
    # Points 2 and -2.
    torch.sub(d[4], d[2], out=even)
    torch.sub(d[3], d[1], out=odd)
    plus = _convolved(torch.add(even, odd, alpha=2, out=v), kernels[3])
    minus = _convolved(torch.sub(even, odd, alpha=2, out=v), kernels[4])
    twos_even, twos_odd = plus + minus, plus.sub_(minus)
    # Points 0 and infinity.
    torch.sub(d[0], d[2], out=v)
    zero = _convolved(torch.add(even, v, alpha=4, out=v), kernels[0])
    torch.sub(d[5], d[3], out=v)
    infinity = _convolved(v.sub_(odd, alpha=4), kernels[5])

    torch.add(zero.add_(ones_even), twos_even, out=y[0])
    torch.add(ones_odd, twos_odd, alpha=2, out=y[1])
    torch.add(ones_even, twos_even, alpha=4, out=y[2])
    torch.add(infinity.add_(ones_odd), twos_odd, alpha=8, out=y[3])


def _packed(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _convolved(rows: Tensor, kernel: Tensor) -> Tensor:
    """(H, W, C) -> what a convolution without padding makes."""
    return F.conv2d(rows.permute(2, 0, 1)[None], kernel)[0].permute(1, 2, 0)
