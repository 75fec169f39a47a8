"""Between pictures as numpy and batches as tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stylize.imaging.files import Pixels
from stylize.imaging.levels import as_floats

Floats: TypeAlias = npt.NDArray[np.float32]


def each_picture(batch: Tensor, restyle: Callable[[Floats], Floats]) -> Tensor:
    """Restyle a batch picture by picture: (N, 3, H, W) -> the same, on its device, of its type.

    Args:
        restyle: (H, W, 3) float32 -> the same.
    """
    pictures = batch.detach().permute(0, 2, 3, 1).float().cpu().numpy()
    found = torch.from_numpy(np.stack([restyle(picture) for picture in pictures]))
    return found.permute(0, 3, 1, 2).contiguous().to(batch.device, batch.dtype)


def to_floats(pixels: npt.NDArray[Any], device: torch.device) -> Tensor:
    """As `as_floats`, a fresh tensor on the device; 8-bit levels travel, a quarter of the bytes.

    Of 16 bits and of floats not every device has the types.
    """
    if pixels.dtype != np.uint8:
        return torch.from_numpy(as_floats(pixels)).to(device)
    pinned = device.type == "cuda"  # which the GPU fetches itself, without another copy
    levels = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=pinned)
    levels.numpy()[...] = pixels
    return levels.to(device, non_blocking=pinned).float().div_(255)


def from_floats(values: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """As `as_levels`, computed where the tensor lies, and by all cores."""
    values = values.clamp(0, 1)
    if np.issubdtype(dtype, np.integer):
        values = values.mul_(np.iinfo(dtype).max).round_()
    if dtype == np.uint8:
        values = values.byte()
    if values.is_cuda:  # into memory that the GPU writes itself, without another copy
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        values = host.copy_(values)
    found: npt.NDArray[Any] = values.cpu().numpy()
    return found.astype(dtype, copy=False)


def to_tensor(pictures: list[Pixels]) -> Tensor:
    """Pictures of one size, (H, W, 3) uint8 -> (N, 3, H, W), float32 in 0..1, channels_last."""
    stacked = torch.from_numpy(as_floats(np.stack(pictures)))
    return stacked.permute(0, 3, 1, 2)  # which is channels_last already


def to_pixels(batch: Tensor) -> list[Pixels]:
    """(N, 3, H, W) float, 0..1 after clamping -> pictures (H, W, 3) uint8, rounded."""
    return list(from_floats(batch.float().permute(0, 2, 3, 1), np.dtype(np.uint8)))
