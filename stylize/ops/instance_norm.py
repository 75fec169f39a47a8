"""Instance normalisation as a function: the readable reference and the one way in.

    mu[n,c] = mean(x[n,c])            var[n,c] = mean((x[n,c] - mu[n,c])^2)
    y = relu?((x - mu) / sqrt(var + eps) * gamma + beta) + residual

Source: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
Stylization", 2016; gamma and beta an instance: Dumoulin, Shlens and Kudlur, "A Learned
Representation for Artistic Style", 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def instance_norm_reference(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """The formula above, word for word; `instance_norm` must agree with it."""
    wide = x.to(_accumulator(x.dtype))
    # Shifted by its first element, a constant plane is exactly zero, and a plane whose mean is
    # large against its deviation loses no digits.
    centred = wide - wide[..., :1, :1]
    centred = centred - centred.mean(dim=(-2, -1), keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(dim=(-2, -1), keepdim=True) + eps)
    if weight is not None:
        y = y * _per_channel(weight, x).to(y.dtype)
    if bias is not None:
        y = y + _per_channel(bias, x).to(y.dtype)
    if relu:
        y = y.relu()
    if residual is not None:
        y = y + residual
    return y.to(x.dtype)


def instance_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    relu: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """Normalise each plane of each picture to zero mean and unit variance, then scale and shift.

    Statistics are float32 for float32, bfloat16 and float16 input, float64 for float64. A constant
    plane, and so any plane of a single pixel, gives exactly beta.

    Args:
        x: (N, C, H, W), float; H * W >= 1.
        weight: gamma, (C,) or one row an instance (N, C); None stands for 1.
        bias: beta, of the same shapes; None stands for 0.
        eps: added to the variance, above 0.
        relu: whether max(0, .) follows the affine part.
        residual: (N, C, H, W), added last.

    Returns:
        (N, C, H, W), dtype and memory format of x.

    Raises:
        ValueError: where the shapes do not fit together.
    """
    _check(x, weight, bias, residual)
    y: Tensor = _InstanceNorm.apply(x, weight, bias, eps, relu)
    return y if residual is None else y + residual


class _InstanceNorm(torch.autograd.Function):
    """The reference with its derivative written out.

    On a CPU autograd through the reference, and torch's own layers, take half of a training step
    of the transformer network; this takes a tenth, and keeps only x and two numbers a plane.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        relu: bool,
    ) -> Tensor:
        shifted = _shifted(x)
        mean = shifted.mean(dim=(-2, -1), keepdim=True)  # of x minus its first element
        centred = shifted.sub_(mean)
        rstd = torch.rsqrt(centred.square().mean(dim=(-2, -1), keepdim=True) + eps)
        ctx.relu = relu
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        y = _affine(centred, rstd, weight, bias)
        return (y.relu_() if relu else y).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, bias = ctx.saved_tensors
        centred = _shifted(x).sub_(mean)
        grad = grad.to(centred.dtype)
        if ctx.relu:
            grad = grad * (_affine(centred, rstd, weight, bias) > 0)
        normalised = centred.mul_(rstd)
        # Sums over each plane; all three gradients are made of these two.
        sum_grad = grad.sum(dim=(-2, -1), keepdim=True)
        sum_grad_normalised = (grad * normalised).sum(dim=(-2, -1), keepdim=True)
        scale = rstd if weight is None else rstd * _per_channel(weight, x).to(rstd.dtype)
        pixels = x.shape[-2] * x.shape[-1]
        grad_x = grad - sum_grad / pixels
        grad_x = grad_x.addcmul_(normalised, sum_grad_normalised / -pixels).mul_(scale)
        return (
            grad_x.to(x.dtype),
            None if weight is None else _reduce_to(sum_grad_normalised, weight),
            None if bias is None else _reduce_to(sum_grad, bias),
            None,
            None,
        )


def _shifted(x: Tensor) -> Tensor:
    """Subtract each plane's first element, in the type that accumulates; a fresh tensor."""
    wide = x.to(_accumulator(x.dtype))
    return wide - wide[..., :1, :1]


def _affine(centred: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift in one pass; backward gets the forward's value to the last bit."""
    scale = rstd if weight is None else rstd * _per_channel(weight, centred).to(rstd.dtype)
    if bias is None:
        return centred * scale
    return torch.addcmul(_per_channel(bias, centred).to(scale.dtype), centred, scale)


def _reduce_to(sums: Tensor, parameter: Tensor) -> Tensor:
    """(N, C, 1, 1) sums -> the parameter's shape, (C,) or (N, C)."""
    flat = sums.flatten(1)
    return (flat.sum(0) if parameter.dim() == 1 else flat).to(parameter.dtype)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C) -> (1 or N, C, 1, 1)."""
    return value.reshape(-1, x.shape[1], 1, 1)


def _check(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None) -> None:
    if x.dim() != 4:
        raise ValueError(f"instance_norm takes (N, C, H, W), not {tuple(x.shape)}")
    if x.shape[2] * x.shape[3] == 0:
        raise ValueError(f"instance_norm needs at least one pixel, not {tuple(x.shape)}")
    allowed = ((x.shape[1],), (x.shape[0], x.shape[1]))
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(value.shape) not in allowed:
            raise ValueError(
                f"{name} is {tuple(value.shape)}; for x {tuple(x.shape)} it must be "
                f"{allowed[0]} or {allowed[1]}"
            )
    if residual is not None and residual.shape != x.shape:
        raise ValueError(f"residual is {tuple(residual.shape)}; x is {tuple(x.shape)}")
