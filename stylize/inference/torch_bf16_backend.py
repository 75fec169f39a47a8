"""The network's stages on bands of bfloat16, computed by torch on a CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stylize.inference.backend import Affine, Moments, Vector
from stylize.inference.memory import SINGLE, Cut, allocate_store
from stylize.inference.torch_backend import TorchBackend
from stylize.networks.plan import Stage
from stylize.ops.bf16_instance_norm import moments, scale_and_shift


class TorchBf16Backend(TorchBackend):
    """A `TorchBackend` whose bands and stores hold what its convolutions make, bfloat16.

    Where these are fast, changing types between them took longer than they. Nothing is taken away
    from what is stored: 8 bits are as near to a large number as to a small one.
    """

    number_bytes = SINGLE // 2

    def allocate(self, shape: tuple[int, int], cut: Cut) -> Tensor:
        """In the host's memory, or in a file; two bytes a number."""
        halves = allocate_store(shape, replace(cut, full_precision=False))  # numpy has no bfloat16
        return torch.from_numpy(halves).view(torch.bfloat16)

    def first_values(self, band: Tensor) -> Vector:
        """Zeros."""
        return np.zeros(band.shape[2])

    def measure(self, band: Tensor, center: Vector, store: Tensor | None) -> Moments:
        """Mean and M2 of each channel; the band is kept in the store as it is."""
        if store is not None:
            store.copy_(band)
        mean, var = (found.double().numpy() for found in moments(_picture(band)))
        count = band.shape[0] * band.shape[1]
        return Moments(count, mean, var * count)

    def finish(
        self,
        stage: Stage,
        band: Tensor,
        center: Vector | None,
        affine: Affine | None,
        extra: Tensor | None,
    ) -> Tensor:
        """Normalise, ReLU, add."""
        # Rows of a store may lie apart, and batch norm would copy them once more.
        y = band.clone(memory_format=torch.contiguous_format)
        if affine is not None:
            scale, shift = self._vector(affine.scale), self._vector(affine.shift)
            scale_and_shift(_picture(y), scale, shift, _picture(y))
        if stage.relu:
            y.relu_()
        return y if extra is None else y.add_(extra)


def _picture(band: Tensor) -> Tensor:
    """(H, W, C) -> (1, C, H, W), the same memory."""
    return band.permute(2, 0, 1)[None]
