"""A window of a picture whose place is a tensor, so that what is recorded can move it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def window(picture: Tensor, place: Tensor, margin: int) -> Tensor:
    """What is seen of a picture through a window that is smaller by `margin` each way.

    Args:
        picture: (N, C, H, W), both sides larger than `margin`.
        place: (2,), whole numbers from 0 to `margin`, on its device: the first row and column.

    Returns:
        (N, C, H - margin, W - margin), channels_last, a copy.
    """
    seen: Tensor = _Window.apply(picture, place, margin)
    return seen


class _Window(torch.autograd.Function):
    """torch's derivative of indexing adds by atomics on CUDA; this one is a window as well."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, place: Tensor, margin: int) -> Tensor:
        """See `window`."""
        ctx.save_for_backward(place)
        ctx.margin = margin
        height, width = picture.shape[-2:]
        return _cut(picture, place, height - margin, width - margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """(N, C, H - margin, W - margin) -> (N, C, H, W), 0 where nothing was seen."""
        (place,) = ctx.saved_tensors
        margin: int = ctx.margin
        height, width = grad.shape[-2:]
        around = F.pad(grad, [margin] * 4)
        return _cut(around, margin - place, height + margin, width + margin), None, None


def _cut(picture: Tensor, place: Tensor, height: int, width: int) -> Tensor:
    rows, columns = (
        torch.arange(side, device=picture.device) + start
        for side, start in zip((height, width), place.unbind(), strict=True)
    )
    # As (N, H, W, C), where pixels lie together: the result is channels_last.
    lying = picture.permute(0, 2, 3, 1)
    return lying.index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)
