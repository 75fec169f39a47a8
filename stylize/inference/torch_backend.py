"""The network's stages on bands, computed by torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.devices import is_out_of_memory
from stylize.inference.backend import Affine, BandMemoryError, Moments, Tile, Vector
from stylize.inference.memory import Cut, allocate_store
from stylize.networks.plan import INPUT_SHIFT, Plan, Stage


class TorchBackend:
    """A `stylize.inference.backend.Backend`; bands are float32 tensors (rows, columns, channels).

    Seen as (1, C, H, W) such a band is channels_last, and so convolutions copy nothing.

    Args:
        plan: the network.
        tensors: its parameters by the plan's names.
        device: where it computes.
    """

    def __init__(self, plan: Plan, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.device = device
        self._weights: dict[tuple[str, bool], Tensor] = {}
        self._biases: dict[str, Tensor] = {}
        for stage in plan.stages:
            weight = tensors[f"{stage.name}.conv.weight"].to(device, torch.float32)
            for turned in (False, True):
                kernel = weight.mT if turned else weight
                self._weights[stage.name, turned] = kernel.contiguous(
                    memory_format=torch.channels_last
                )
            if stage.bias:
                self._biases[stage.name] = tensors[f"{stage.name}.conv.bias"].to(device)

    def allocate(self, shape: tuple[int, int], cut: Cut) -> Tensor:
        """On the device where it fits; else in the host's memory, or in a file."""
        if self.device.type != "cpu" and not cut.on_disk:
            dtype = torch.float32 if cut.full_precision else torch.float16
            try:
                return torch.empty(shape, dtype=dtype, device=self.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
        return torch.from_numpy(allocate_store(shape, cut))

    def upload(self, pixels: npt.NDArray[Any]) -> Tensor:
        """Levels or floats in 0..1 -> the network's input."""
        band = torch.from_numpy(as_floats(pixels)).to(self.device)
        return band.add_(INPUT_SHIFT)

    def download(self, band: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The network's output -> levels or floats in 0..1."""
        return from_floats(band, dtype)

    def join(self, above: Tensor, below: Tensor) -> Tensor:
        """One band of two."""
        return torch.cat([above, below])

    def convolve(self, stage: Stage, tile: Tile, turned: bool) -> Tensor:
        """Enlarge, reflect, convolve."""
        assert isinstance(tile.rows, Tensor)
        weight, bias = self._weights[stage.name, turned], self._biases.get(stage.name)
        try:
            x = _padded(tile.rows, stage, tile).permute(2, 0, 1)[None]  # (h, w, C) -> (1, C, h, w)
            return F.conv2d(x, weight, bias, stage.stride)[0].permute(1, 2, 0)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise BandMemoryError from error
            raise

    def first_values(self, band: Tensor) -> Vector:
        """The channels of the band's first pixel."""
        values: Vector = band[0, 0].double().cpu().numpy()
        return values

    def center(self, band: Tensor, center: Vector) -> Tensor:
        """The band less `center`, in its place."""
        return band.sub_(self._vector(center))

    def moments(self, band: Tensor) -> Moments:
        """Mean and M2 of each channel by two passes."""
        values = band.reshape(-1, band.shape[-1])
        mean = values.mean(0)
        m2 = (values - mean).square_().sum(0)
        return Moments(values.shape[0], *(part.double().cpu().numpy() for part in (mean, m2)))

    def finish(
        self, stage: Stage, band: Tensor, affine: Affine | None, extra: Tensor | None
    ) -> Tensor:
        """Normalise, ReLU, add."""
        y = band.to(self.device, torch.float32)
        if affine is not None:
            y = torch.addcmul(self._vector(affine.shift), y, self._vector(affine.scale))
        if stage.relu:
            y = y.relu_() if affine is not None else y.relu()
        return y if extra is None else y.add_(extra.to(self.device))

    def save(self, store: Tensor, band: Tensor) -> None:
        """Into the store, in its precision."""
        store.copy_(band)

    def _vector(self, values: Vector) -> Tensor:
        return torch.from_numpy(values).to(self.device, torch.float32)


def _padded(rows: Tensor, stage: Stage, tile: Tile) -> Tensor:
    """Enlarged by nearest neighbour and reflected: (rows, columns, channels) as convolved.

    Written once, in place: torch's own enlargement and reflection copy a channels_last band to
    another layout and back, which took a quarter of a restyling on a CPU.
    """
    factor, side = stage.upsample, stage.padding
    width = rows.shape[1] * factor
    height = tile.top + tile.count + tile.bottom
    padded = rows.new_empty(height, side + width + side, rows.shape[2])
    inner = padded[tile.top : tile.top + tile.count, side : side + width]
    for down in range(factor):
        # The enlarged row 0 is `skip` of the source's: the first row of the tile may be a second.
        source = rows[(tile.skip + down) // factor :]
        target = inner[down::factor]
        for right in range(factor):
            target[:, right::factor] = source[: target.shape[0]]
    for n in range(1, side + 1):
        inner_columns = padded[tile.top : tile.top + tile.count]
        inner_columns[:, side - n] = inner_columns[:, side + n]
        inner_columns[:, side + width - 1 + n] = inner_columns[:, side + width - 1 - n]
    for n in range(1, tile.top + 1):
        padded[tile.top - n] = padded[tile.top + n]
    last = tile.top + tile.count - 1
    for n in range(1, tile.bottom + 1):
        padded[last + n] = padded[last - n]
    return padded


def as_floats(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """uint8 or uint16 levels, or floats in 0..1 -> a fresh float32 array in 0..1."""
    values = np.array(pixels, np.float32, order="C")
    if np.issubdtype(pixels.dtype, np.integer):
        values /= np.float32(np.iinfo(pixels.dtype).max)
    return values


def from_floats(values: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Clamp to 0..1, and round to levels where `dtype` has such."""
    values = values.clamp(0, 1)
    if np.issubdtype(dtype, np.integer):
        values = values.mul_(np.iinfo(dtype).max).round_()
    found: npt.NDArray[Any] = values.cpu().numpy().astype(dtype)
    return found
