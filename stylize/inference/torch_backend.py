"""The network's stages on bands, computed by torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.devices import is_out_of_memory, register_floats
from stylize.imaging.tensors import from_floats, to_floats
from stylize.inference.backend import Affine, BandMemoryError, Moments, Tile, Vector
from stylize.inference.memory import SINGLE, Cut, allocate_store
from stylize.inference.winograd import LEAST_CHANNELS, WinogradConvolution
from stylize.networks.plan import INPUT_SHIFT, Plan, Stage
from stylize.ops.convolution import block_kernel, enlarging_kernel, pixels_together


class TorchBackend:
    """A `stylize.inference.backend.Backend`; bands are tensors (rows, columns, channels).

    Seen as (1, C, H, W) such a band is channels_last, and so convolutions copy nothing.

    Args:
        plan: the network.
        tensors: its parameters by the plan's names.
        device: where it computes.
        dtype: of what the convolutions multiply and make; everything else is float32.
    """

    number_bytes = SINGLE
    """Of a number in a band."""

    def __init__(
        self,
        plan: Plan,
        tensors: Mapping[str, Tensor],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = device
        floats = register_floats(device, dtype)
        self._transposed = floats > 0
        """Whether enlarging and convolving is one transposed convolution."""
        # In bf16 it would save 4 % and lose 2 dB.
        halved = floats > 0 and dtype == torch.float32
        self._together = pixels_together(floats)
        self._weights: dict[tuple[str, bool], Tensor] = {}
        self._fast: dict[tuple[str, bool], WinogradConvolution] = {}
        self._biases: dict[str, Tensor] = {}
        for stage in plan.stages:
            weight = tensors[f"{stage.name}.conv.weight"].to(device, torch.float32)
            for turned in (False, True):
                kernel = weight.mT if turned else weight
                if stage.upsample == 2:
                    kernel = (enlarging_kernel if self._transposed else _phase_kernels)(kernel)
                elif stage.makes_colours:
                    kernel = block_kernel(kernel, self._together)
                packed = kernel.to(dtype).contiguous(memory_format=torch.channels_last)
                self._weights[stage.name, turned] = packed
                plain = (stage.kernel, stage.stride, stage.upsample) == (3, 1, 1)
                if plain and halved and stage.in_channels >= LEAST_CHANNELS:
                    self._fast[stage.name, turned] = WinogradConvolution(packed)
            if stage.bias:
                bias = tensors[f"{stage.name}.conv.bias"].to(device)
                self._biases[stage.name] = bias.repeat(
                    self._weights[stage.name, False].shape[0] // len(bias)
                )

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

    def upload(self, pixels: npt.NDArray[Any], ground: npt.NDArray[np.float32] | None) -> Tensor:
        """Levels or floats in 0..1 -> the network's input."""
        band = to_floats(pixels, self.device).add_(INPUT_SHIFT)
        return band if ground is None else band.add_(to_floats(ground, self.device)[..., None])

    def download(self, band: Tensor, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The network's output -> levels or floats in 0..1."""
        return from_floats(band, dtype)

    def join(self, bands: list[Tensor]) -> Tensor:
        """One band of those that lie one below the other."""
        return torch.cat(bands)

    def convolve(self, stage: Stage, tile: Tile, turned: bool) -> Tensor:
        """Enlarge, reflect, convolve."""
        weight, bias = self._weights[stage.name, turned], self._biases.get(stage.name)
        try:
            together = self._together if stage.makes_colours else (1, 1)
            padded = _padded(tile, stage, weight.dtype, together)
            if fast := self._fast.get((stage.name, turned)):
                return fast(padded)
            x = padded.permute(2, 0, 1)[None]
            if stage.upsample == 2 and self._transposed:
                # Without the outermost columns and rows, which see what is not there.
                made = F.conv_transpose2d(x, weight, None, 2, (2, 3))
                return _rows_of_tile(made[0].permute(1, 2, 0), tile)
            stride = together if stage.makes_colours else stage.stride
            band = F.conv2d(x, weight, None, stride)[0].permute(1, 2, 0)
            if bias is not None:
                band = band + bias  # float32, whatever the convolution made
            if stage.makes_colours:
                return _apart(band, tile, stage, together)
            return _interleaved(band, tile, stage.out_channels) if stage.upsample == 2 else band
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise BandMemoryError from error
            raise

    def first_values(self, band: Tensor) -> Vector:
        """The channels of the band's first pixel."""
        values: Vector = band[0, 0].cpu().double().numpy()  # MPS has no doubles
        return values

    def measure(self, band: Tensor, center: Vector, store: Tensor | None) -> Moments:
        """Mean and M2 of each channel by two passes; the band is kept in the store."""
        band = _less(band, self._vector(center))
        if store is not None:
            store.copy_(band)
        values = band.reshape(-1, band.shape[-1])
        mean = values.mean(0)
        m2 = values.sub_(mean).square_().sum(0)
        return Moments(values.shape[0], *(part.cpu().double().numpy() for part in (mean, m2)))

    def finish(
        self,
        stage: Stage,
        band: Tensor,
        center: Vector | None,
        affine: Affine | None,
        extra: Tensor | None,
    ) -> Tensor:
        """Take away, normalise, ReLU, add."""
        y = band.to(self.device, torch.float32)
        if center is not None:
            y = _less(y, self._vector(center))
        if affine is not None:
            out = None if y is band else y  # a store must stay as it is
            y = torch.addcmul(self._vector(affine.shift), y, self._vector(affine.scale), out=out)
        if stage.relu:
            y = y.relu_() if affine is not None else y.relu()
        return y if extra is None else y.add_(extra.to(self.device))

    def save(self, store: Tensor, band: Tensor) -> None:
        """Into the store, in its precision."""
        store.copy_(band)

    def _vector(self, values: Vector) -> Tensor:
        return torch.from_numpy(values).to(self.device, torch.float32)


def _less(band: Tensor, center: Tensor) -> Tensor:
    """The band less a vector, in float32; one that is float32 is changed in place."""
    return band.float().sub_(center)


def _padded(tile: Tile, stage: Stage, dtype: torch.dtype, together: tuple[int, int]) -> Tensor:
    """The tile's rows with reflected edges, (top + rows + bottom, side + columns + side, C).

    Before an enlargement they are repeated. Where pixels are made `together`, zeros behind the last
    row and column complete a block. Written once, in the precision of the convolution:
    torch's own reflection copies a channels_last band to another layout and back, which with the
    enlargement took a quarter of a restyling on a CPU.
    """
    side, nearest = (1, 0) if stage.upsample == 2 else (stage.padding, 1)
    height, width = tile.top + tile.rows + tile.bottom, tile.width
    like: Tensor = tile.pieces[0]
    below, beside = -(height - 2 * side) % together[0], -width % together[1]
    padded = like.new_empty(
        height + below, side + width + side + beside, like.shape[2], dtype=dtype
    )
    padded[height:] = 0
    padded[:, side + width + side :] = 0
    row = tile.top
    for piece in tile.pieces:
        padded[row : row + piece.shape[0], side : side + width] = piece
        row += piece.shape[0]
    inner = padded[tile.top : row]
    for n in range(side):
        inner[:, side - 1 - n] = inner[:, side + n + nearest]
        inner[:, side + width + n] = inner[:, side + width - 1 - n - nearest]
    for n in range(tile.top):
        padded[tile.top - 1 - n] = padded[tile.top + n + nearest]
    for n in range(tile.bottom):
        padded[row + n] = padded[row - 1 - n - nearest]
    return padded


# A 3 x 3 convolution behind a twofold enlargement by nearest neighbour sees each source pixel up to
# four times. What it makes at even and odd rows and columns are four convolutions of 2 x 2 over the
# source, whose kernels are sums of the original's: 16 multiplications where there were 36.
#
#     even row 2s: rows 2s-1, 2s, 2s+1 are source rows s-1, s, s      -> k0, k1 + k2
#     odd row 2s+1: rows 2s, 2s+1, 2s+2 are source rows s, s, s+1     -> k0 + k1, k2
#
# Reflection of the enlarged picture by one row is repetition of the source's edge.


def _phase_kernels(kernel: Tensor) -> Tensor:
    """(C', C, 3, 3) -> (4 C', C, 2, 2): even-even, even-odd, odd-even, odd-odd."""
    even = kernel.new_tensor([[1, 0, 0], [0, 1, 1]])
    odd = kernel.new_tensor([[1, 1, 0], [0, 0, 1]])
    return torch.cat([down @ kernel @ right.T for down in (even, odd) for right in (even, odd)])


def _rows_of_tile(enlarged: Tensor, tile: Tile) -> Tensor:
    """All complete rows of a transposed convolution -> those that the tile's convolution makes."""
    first = 2 * tile.top + _center(tile) - 1  # it begins with the lower row of the first pair
    return enlarged[first : first + _enlarged_height(tile)]


def _apart(blocks: Tensor, tile: Tile, stage: Stage, together: tuple[int, int]) -> Tensor:
    """(H / m, W / n, m n C) -> (H, W, C), without what only completed a block."""
    rows, columns, channels = *blocks.shape[:2], stage.out_channels
    apart = blocks.reshape(rows, columns, *together, channels).transpose(1, 2)
    height = tile.top + tile.count + tile.bottom - 2 * stage.padding
    return apart.reshape(rows * together[0], -1, channels)[:height, : tile.width]


def _enlarged_height(tile: Tile) -> int:
    """Rows that a tile's enlarging convolution makes."""
    return tile.top + tile.count + tile.bottom - 2


def _center(tile: Tile) -> int:
    """Where its first row is centred, in enlarged rows from the tile's first."""
    return 0 if tile.top else tile.skip + 1


def _interleaved(phases: Tensor, tile: Tile, channels: int) -> Tensor:
    """Four phases at source resolution -> the enlarged rows that the tile's convolution makes."""
    width = phases.shape[1] - 1
    center = _center(tile)
    result = phases.new_empty(_enlarged_height(tile), 2 * width, channels)
    for down in range(2):
        row = (down - center) % 2
        first = (center + row) // 2 + tile.top - (1 - down)
        target = result[row::2]
        for right in range(2):
            part = phases[first : first + target.shape[0], right : right + width]
            phase = 2 * down + right
            target[:, right::2] = part[..., phase * channels : (phase + 1) * channels]
    return result
