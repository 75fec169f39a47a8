"""Instance normalisation as a function: the readable reference, the dispatch, the registration.

    mu[n,c] = mean(x[n,c])            var[n,c] = mean((x[n,c] - mu[n,c])^2)
    y = relu?((x - mu) / sqrt(var + eps) * gamma + beta) + residual

Two routes give the same result: CUDA kernels (`cuda_instance_norm`), and torch's own operations,
which every device has (bfloat16 on a CPU: `bf16_instance_norm`). Both are behind one pair of
operators, so that torch.compile sees one node.

Source: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization: The Missing Ingredient for Fast
Stylization", 2016; gamma and beta an instance: Dumoulin, Shlens and Kudlur, "A Learned
Representation for Artistic Style", 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylize.devices import is_exporting
from stylize.ops import bf16_instance_norm
from stylize.ops.route import route


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
    plane, and so any plane of a single pixel, gives exactly beta. Differentiable once.

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
    if is_exporting():
        return _as_aten(x, weight, bias, eps, relu, residual)
    # A registered operator costs some 40 us a call on the host, a Function 10; only a compiler
    # needs the operator. A Function with `setup_context` costs more: torch binds its signature.
    if torch.compiler.is_compiling():
        y: Tensor = torch.ops.stylize.instance_norm(x, weight, bias, eps, relu, residual)[0]
    elif _wants_gradient(x, weight, bias, residual):
        y = _InstanceNorm.apply(x, weight, bias, eps, relu, residual)[0]
    elif _by_kernels(x):
        y = _forward(x, weight, bias, eps, relu, residual)[0]
    else:
        y = _forward_only(x, weight, bias, eps, relu, residual)
    return y


LARGEST_PLANE = 2**31 - 2**15
"""Pixels of a plane, and a tile more, that the kernels count in 32 bits; offsets have 64."""


def _by_kernels(x: Tensor) -> bool:
    return route(x.device.type) == "triton" and x.shape[2] * x.shape[3] <= LARGEST_PLANE


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _forward_only(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> Tensor:
    """`_forward` by torch's group norm, twice as fast, where that is exact: in NCHW.

    It sees the shifted planes: unshifted it misses a constant plane by 0.05. In channels_last it
    adds up a plane's squares in plain float32: off by 6e-4 at 1000 x 1000 pixels, by 0.026 at
    4000 x 3000. Where a gradient is wanted `_forward` stays too, whose expression the derivative
    recomputes to the last bit.
    """
    if not x.is_contiguous():
        return _forward(x, weight, bias, eps, relu, residual)[0]
    shifted = _shifted(x)
    shared = all(value is None or value.dim() == 1 for value in (weight, bias))
    gamma, beta = (
        None if value is None or not shared else value.to(shifted.dtype) for value in (weight, bias)
    )
    y = torch.group_norm(shifted, x.shape[1], gamma, beta, eps)
    if not shared:
        y = _affine(y, y.new_ones(()), weight, bias)
    if relu:
        y = y.relu_()
    if residual is not None:
        y = y.add_(residual)
    return y.to(x.dtype)


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y; the mean of x minus each plane's first element, and 1 / sqrt(var + eps), both (N, C)."""
    if _by_kernels(x):
        from stylize.ops import cuda_instance_norm

        return cuda_instance_norm.forward(x, weight, bias, eps, relu, residual)
    if done := bf16_instance_norm.forward(x, weight, bias, eps, relu, residual):
        return done
    shifted = _shifted(x)
    mean = shifted.mean(dim=(-2, -1), keepdim=True)
    centred = shifted.sub_(mean)
    rstd = torch.rsqrt(centred.square().mean(dim=(-2, -1), keepdim=True) + eps)
    y = _affine(centred, rstd, weight, bias, out=centred)
    if relu:
        y = y.relu_()
    if residual is not None:
        y = y.add_(residual)
    return y.to(x.dtype), mean[..., 0, 0], rstd[..., 0, 0]


def _backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """dx; dgamma and dbeta an instance, (N, C).

    Written out: three passes less than autograd through the reference.
    """
    if _by_kernels(x):
        from stylize.ops import cuda_instance_norm

        return cuda_instance_norm.backward(grad, x, mean, rstd, weight, bias, relu)
    if done := bf16_instance_norm.backward(grad, x, mean, rstd, weight, bias, relu):
        return done
    rstd = rstd[..., None, None]
    centred = _shifted(x).sub_(mean[..., None, None])
    grad = grad.to(centred.dtype)
    if relu:
        grad = torch.ops.aten.threshold_backward(grad, _affine(centred, rstd, weight, bias), 0)
    # Sums over each plane; all three gradients are made of these two.
    total = grad.sum(dim=(-2, -1), keepdim=True)
    dot = (grad * centred).sum(dim=(-2, -1), keepdim=True).mul_(rstd)
    scale = rstd if weight is None else rstd * _per_channel(weight, x).to(rstd.dtype)
    # scale * (grad - total / pixels - normalised * dot / pixels), in two passes
    share = scale / -(x.shape[-2] * x.shape[-1])
    dx = torch.addcmul(total * share, centred, dot * rstd * share, out=centred)
    dx.addcmul_(grad, scale)
    return dx.to(x.dtype), dot[..., 0, 0], total[..., 0, 0]


def _shifted(x: Tensor) -> Tensor:
    """Subtract each plane's first element, in the type that accumulates; a fresh tensor."""
    wide = x.to(_accumulator(x.dtype))
    first = wide[..., :1, :1]
    return wide - first if wide is x else wide.sub_(first.clone())


def _affine(
    centred: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """Scale and shift in one pass; backward gets the forward's value to the last bit."""
    scale = rstd if weight is None else rstd * _per_channel(weight, centred).to(rstd.dtype)
    if bias is None:
        return torch.mul(centred, scale, out=out)
    return torch.addcmul(_per_channel(bias, centred).to(scale.dtype), centred, scale, out=out)


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


def _as_aten(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> Tensor:
    """The same in operators that every exporter knows: one aten.instance_norm."""
    shared = [value is None or value.dim() == 1 for value in (weight, bias)]
    if all(shared):
        y = torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, False)
    else:
        y = torch.instance_norm(x, None, None, None, None, True, 0.0, eps, False)
        if weight is not None:
            y = y * _per_channel(weight, x).to(y.dtype)
        if bias is not None:
            y = y + _per_channel(bias, x).to(y.dtype)
    if relu:
        y = y.relu()
    return y if residual is None else y + residual


def _register() -> None:
    """Make `stylize::instance_norm` and its derivative known to torch."""
    library: Any = torch.library.Library("stylize", "DEF")  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)  # an operator lives as long as its library object
    library.define(
        "instance_norm(Tensor x, Tensor? weight, Tensor? bias, float eps, bool relu, "
        "Tensor? residual) -> (Tensor, Tensor, Tensor)"
    )
    library.define(
        "instance_norm_backward(Tensor grad, Tensor x, Tensor mean, Tensor rstd, Tensor? weight, "
        "Tensor? bias, bool relu) -> (Tensor, Tensor, Tensor)"
    )
    library.impl("instance_norm", _forward, "CompositeExplicitAutograd")
    library.impl("instance_norm_backward", _backward, "CompositeExplicitAutograd")
    torch.library.register_fake("stylize::instance_norm", _fake_forward, lib=library)
    torch.library.register_fake("stylize::instance_norm_backward", _fake_backward, lib=library)
    torch.library.register_autograd(
        "stylize::instance_norm", _differentiate, setup_context=_save, lib=library
    )


_LIBRARIES: list[torch.library.Library] = []


def _fake_forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    statistics = x.new_empty(x.shape[:2], dtype=_accumulator(x.dtype))
    return torch.empty_like(x), statistics, torch.empty_like(statistics)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(mean), torch.empty_like(mean)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, bias, _, ctx.relu, residual = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.has_residual = residual is not None
    ctx.save_for_backward(x, mean, rstd, weight, bias)


def _differentiate(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, mean, rstd, weight, bias = ctx.saved_tensors
    compiling = torch.compiler.is_compiling()
    call = torch.ops.stylize.instance_norm_backward if compiling else _backward
    dx, dweight, dbias = call(grad, x, mean, rstd, weight, bias, ctx.relu)
    return (
        dx,
        None if weight is None else _reduce_to(dweight, weight),
        None if bias is None else _reduce_to(dbias, bias),
        None,
        None,
        grad if ctx.has_residual else None,
    )


def _reduce_to(sums: Tensor, parameter: Tensor) -> Tensor:
    """(N, C) sums -> the parameter's shape, (C,) or (N, C), and type."""
    return (sums.sum(0) if parameter.dim() == 1 else sums).to(parameter.dtype)


class _InstanceNorm(torch.autograd.Function):
    """The operator as eager mode calls it."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """As `_forward`."""
        output = _forward(*inputs)
        _save(ctx, inputs, output)
        return output

    backward = staticmethod(once_differentiable(_differentiate))  # type: ignore[assignment]


_register()
