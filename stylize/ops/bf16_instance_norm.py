"""Instance norm of bfloat16 on a CPU, in channels_last, by torch's batch norm.

Of a single picture the two are the same, and torch's batch norm reads and writes bfloat16 while it
computes in float32. Word for word the formula first makes float32 of everything: three to five
times the traffic.

Batch norm adds a plane up in plain float32, so it is asked for pieces, whose moments are merged by
Chan's formula; and it does not shift a plane by its first element, so where digits would be lost
for that, and wherever else it does not serve, `forward` and `backward` leave the work to the
formula.
"""

from __future__ import annotations

import torch
from torch import Tensor

EXACT_PIXELS = 2**16
"""So many equal numbers of 8 bits have exactly their sum in a float32 of 24: a constant plane has
exactly its mean. Of 2^19 the sum may be off by its hundredth, each addition rounded to one side."""

MOST_MEAN = 2.0**10
"""Deviations from zero to the mean, up to which the normalised values, each a difference of two so
large numbers in float32, are right to 2^-12: an eighth of the last bit of bfloat16 at 1."""

LEAST_NUMBERS = 2**18
"""Of a picture. In smaller ones the calls, several for each, take longer than the work: in parts of
the formula's time 0.8 forward for 128 channels of 64 x 64, and 1.5 for 128 of 32 x 32."""


def _serves(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and x.shape[1] > 1
        and x.shape[1] * x.shape[2] * x.shape[3] >= LEAST_NUMBERS
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """As `stylize.ops.instance_norm.instance_norm`; also the mean of x minus each plane's first
    element, and 1 / sqrt(var + eps), both (N, C). None: let the formula do it.
    """
    if not _serves(x):
        return None
    found = [moments(picture[None]) for picture in x]
    mean = torch.stack([mean for mean, _ in found]) - x[..., 0, 0]
    rstd = torch.rsqrt(torch.stack([var for _, var in found]) + eps)
    if not _keeps_digits(x, mean, rstd):
        return None
    y = _normalise(x, mean, rstd, weight, bias)
    if relu:
        y.relu_()
    return y if residual is None else y.add_(residual), mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """dx; dgamma and dbeta an instance, (N, C). None: let the formula do it."""
    if not (_serves(x) and _keeps_digits(x, mean, rstd)):
        return None
    grad = grad.to(x.dtype, memory_format=torch.channels_last)
    if relu:
        grad = torch.ops.aten.threshold_backward(grad, _normalise(x, mean, rstd, weight, bias), 0)
    dx = torch.empty_like(x)
    absolute = _absolute(x, mean)
    gamma = None if weight is None else _rows(weight, x)
    sums = []
    for n in range(len(x)):
        scale = None if gamma is None else gamma[n]
        dx[n : n + 1], *both = torch.ops.aten.native_batch_norm_backward(
            grad[n : n + 1], x[n : n + 1], scale, None, None, absolute[n], rstd[n], True, 0.0,
            [True] * 3,
        )  # fmt: skip
        sums.append(both)
    dgamma, dbeta = (torch.stack(each) for each in zip(*sums, strict=True))
    return dx, dgamma, dbeta


def moments(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel.

    Args:
        picture: (1, C, H, W), bfloat16, in channels_last.

    Returns:
        Both (C,), float32. A constant channel has exactly its value and 0.

    Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979.
    """
    pixels = picture.permute(0, 2, 3, 1).reshape(-1, picture.shape[1])
    first, *others = torch.split(pixels, EXACT_PIXELS)
    (mean, var), count = _moments(first), len(first)
    for part in others:
        found, spread = _moments(part)
        count += len(part)
        share = len(part) / count
        delta = found - mean
        mean = mean + delta * share
        var = var + (spread - var) * share + delta * delta * (share * (1 - share))
    return mean, var


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Of up to `EXACT_PIXELS` pixels, (P, C)."""
    # What it returns has x's own few digits; the running statistics, of which with a momentum of 1
    # nothing older is kept, have float32's.
    mean, var = torch.zeros(2, pixels.shape[1])
    torch.batch_norm_update_stats(pixels.T[None, :, :, None], mean, var, 1.0)
    if len(pixels) == 1:  # it divides by P - 1
        return mean, torch.zeros_like(mean)
    return mean, var * ((len(pixels) - 1) / len(pixels))


def _keeps_digits(x: Tensor, mean: Tensor, rstd: Tensor) -> bool:
    """Whether all planes may be normalised without a shift; a constant one, whose mean is its first
    element, may not.

    Forward asks with its own statistics. Where the formula's, which are others in the last digits,
    would be answered otherwise, backward cuts a ReLU by an expression that differs by rounding.
    """
    return bool(((mean != 0) & (_absolute(x, mean).abs() * rstd <= MOST_MEAN)).all())


def _absolute(x: Tensor, mean: Tensor) -> Tensor:
    """The mean of x, from that of x minus each plane's first element."""
    return mean + x[..., 0, 0]


def _normalise(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """The affine part; backward gets forward's value to the last bit."""
    scale = rstd if weight is None else rstd * _rows(weight, x)
    shift = -_absolute(x, mean) * scale
    if bias is not None:
        shift = shift + _rows(bias, x)
    y = torch.empty_like(x)
    for n in range(len(x)):
        scale_and_shift(x[n : n + 1], scale[n], shift[n], y[n : n + 1])
    return y


def scale_and_shift(picture: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write scale * picture + shift, computed in float32 and rounded once, into `out`.

    Args:
        picture, out: (1, C, H, W), bfloat16, in channels_last; may be the same.
        scale, shift: (C,), float32.
    """
    nothing, one = torch.zeros_like(scale), torch.ones_like(scale)
    unused = scale.new_empty(0)
    torch.ops.aten.native_batch_norm.out(
        picture, scale, shift, nothing, one, False, 0.0, 0.0,
        out=out, save_mean=unused, save_invstd=unused,
    )  # fmt: skip


def _rows(value: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C) -> (N, C), float32."""
    return value.float().expand(x.shape[:2])
