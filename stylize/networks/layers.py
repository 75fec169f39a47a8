"""The blocks that the transformer network is built of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from stylize.devices import is_exporting
from stylize.networks.ground import FLAT, GROUND_PERIOD, ground_places, ground_tile
from stylize.networks.plan import Stage, missing_pixels
from stylize.ops.convolution import Convolution, convolve_enlarged, floats_for
from stylize.ops.extend import extend, extend_normalised
from stylize.ops.instance_norm import instance_norm


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch's InstanceNorm2d on this project's operator, with a fused ReLU and residual.

    The same result in training and evaluation, as there are no running statistics. Checkpoints of
    torch's layer load, and the other way round; running statistics in old ones are ignored.

    Args:
        num_features: C of the (N, C, H, W) input.
        eps: added to the variance.
        affine: whether gamma and beta are learned.
        relu: whether max(0, .) follows.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = False, relu: bool = False
    ) -> None:
        super().__init__(num_features, eps=eps, affine=affine)
        self.relu = relu

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), or the same without N; `residual` is added last."""
        if input.dim() == 3:  # as torch's layer takes it
            return self.forward(input[None], None if residual is None else residual[None])[0]
        return instance_norm(input, self.weight, self.bias, self.eps, self.relu, residual)

    def extended(
        self, input: Tensor, residual: Tensor | None, padding: int, upsample: int
    ) -> Tensor:
        """What `stylize.ops.extend.extend` makes of the same; no gradient."""
        return extend_normalised(
            input, self.weight, self.bias, self.eps, self.relu, residual, padding, upsample
        )

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}, relu={self.relu}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's BatchNorm2d with the call of `InstanceNorm2d`: a ReLU and a residual behind it.

    Where several processes train together, it takes the statistics of all their batches, which must
    be equally large; torch's SyncBatchNorm does so on GPUs only.
    """

    def __init__(self, num_features: int, relu: bool = False) -> None:
        super().__init__(num_features)
        self.relu = relu

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); `residual`, of the same shape, is added last."""
        together = self.training and distributed.is_available() and distributed.is_initialized()
        y = self._synchronised(input) if together else super().forward(input)
        return _finish(y, self.relu, residual)

    def _synchronised(self, input: Tensor) -> Tensor:
        x = input if input.dtype == torch.float64 else input.float()
        size = distributed.get_world_size()
        count = size * x.numel() // x.shape[1]
        mean = _sum_of_all(x.mean((0, 2, 3))) / size
        distance = x - mean[:, None, None]
        var = _sum_of_all(distance.square().mean((0, 2, 3))) / size
        with torch.no_grad():
            assert self.momentum is not None
            for running, found in (
                (self.running_mean, mean),
                (self.running_var, var * (count / max(1, count - 1))),  # unbiased, as torch's
            ):
                assert running is not None
                running.lerp_(found.to(running.dtype), self.momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)
        y = torch.addcmul(self.bias[:, None, None], distance, scale[:, None, None])
        return y.to(input.dtype)


class _SumOfAll(torch.autograd.Function):
    """Sum over all processes, whose derivative is the sum of all their derivatives."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        distributed.all_reduce(total)
        return total


def _sum_of_all(part: Tensor) -> Tensor:
    total: Tensor = _SumOfAll.apply(part)
    return total


class NoNorm(nn.Module):
    """What stands in a norm's place where there is none."""

    def __init__(self, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); `residual`, of the same shape, is added last."""
        return _finish(input, self.relu, residual)


class ConvStage(nn.Module):
    """One stage of the plan: enlarge, reflect, convolve, normalise, ReLU, add."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.upsample = stage.upsample
        self.padding = stage.padding
        self.enlarging = (stage.upsample, stage.kernel, stage.bias) == (2, 3, False)
        self.conv = Convolution(
            stage.in_channels, stage.out_channels, stage.kernel, stage.stride, bias=stage.bias
        )
        self.norm: nn.Module
        if stage.norm == "instance":
            self.norm = InstanceNorm2d(stage.out_channels, affine=True, relu=stage.relu)
        elif stage.norm == "batch":
            self.norm = BatchNorm2d(stage.out_channels, relu=stage.relu)
        else:
            self.norm = NoNorm(relu=stage.relu)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """(N, Cin, H, W) -> (N, Cout, H', W'), H' = ceil(H * upsample / stride)."""
        if self.enlarging and floats_for(x):
            if isinstance(self.norm, InstanceNorm2d):
                # It takes away what a constant adds, and makes much of how the pixels of a cell,
                # which are sums of other numbers each, round it: a flat picture must stay flat.
                x = x - x[..., :1, :1].detach()
            y = convolve_enlarged(x, self.conv.weight)
        else:
            y = self.conv(extend(x, self.padding, self.upsample))
        normalised: Tensor = self.norm(y, residual)
        return normalised


def extend_edges(picture: Tensor) -> Tensor:
    """(N, C, H, W) -> the same, sides that are too short for the network extended by their last."""
    down, right = (missing_pixels(side) for side in picture.shape[-2:])
    if not (down or right):
        return picture
    return F.pad(picture, [0, right, 0, down], mode="replicate")


def crop(picture: Tensor, height: int, width: int) -> Tensor:
    """(N, C, H, W) -> the first rows and columns; there must be so many."""
    if not is_exporting():
        return picture[..., :height, :width]
    # A slice would have the exporter prove that n <= 4 * ceil(ceil(n / 2) / 2), which it cannot.
    rows, columns = (torch.arange(side, device=picture.device) for side in (height, width))
    return picture.index_select(2, rows).index_select(3, columns)


def _finish(y: Tensor, relu: bool, residual: Tensor | None) -> Tensor:
    if relu:
        y = torch.relu(y)
    return y if residual is None else y + residual


class Ground(nn.Module):
    """Adds the field that the network paints on.

    Args:
        strength: its standard deviation in parts of each picture's own.
    """

    tile: Tensor

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength
        # Not in model files: the strength says all.
        self.register_buffer("tile", torch.from_numpy(strength * ground_tile()), False)

    def forward(
        self, picture: Tensor, place: tuple[int, int] | Tensor = (0, 0), stretch: float = 1.0
    ) -> Tensor:
        """(N, C, H, W) -> the same, its first pixel at row and column `place` of the field; or at
        its first, and the field stretched, see `ground_at`.
        """
        contrast = picture.var((1, 2, 3), correction=0, keepdim=True).sqrt()
        contrast = contrast * (contrast > FLAT)
        if stretch != 1:
            return picture + contrast * self._stretched(picture.shape[-2:], stretch)
        rows, columns = (
            (torch.arange(size, device=self.tile.device) + start) % GROUND_PERIOD
            for size, start in zip(picture.shape[-2:], place, strict=True)
        )
        return picture + contrast * self.tile[rows][:, columns]

    def _stretched(self, sides: torch.Size, stretch: float) -> Tensor:
        """(H, W): `ground_at` of a whole picture, on the device."""
        field = self.tile
        for axis, side in enumerate(sides):
            found = ground_places(np.arange(side), stretch)
            before, part = (torch.from_numpy(one).to(field.device) for one in found)
            near, far = (
                field.index_select(axis, (before + step) % GROUND_PERIOD) for step in (0, 1)
            )
            field = near.lerp(far, part if axis else part[:, None])
        return field

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"strength={self.strength}"
