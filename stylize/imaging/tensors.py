"""Between pictures as numpy and batches as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stylize.imaging.files import Pixels


def to_tensor(pictures: list[Pixels]) -> Tensor:
    """Pictures of one size, (H, W, 3) uint8 -> (N, 3, H, W), float32 in 0..1, channels_last."""
    stacked = torch.from_numpy(np.stack(pictures))
    return stacked.permute(0, 3, 1, 2).float() / 255  # the permuted view is channels_last already


def to_pixels(batch: Tensor) -> list[Pixels]:
    """(N, 3, H, W) float, 0..1 after clamping -> pictures (H, W, 3) uint8, rounded."""
    levels = batch.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())
