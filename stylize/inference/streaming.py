"""Exact restyling of pictures of any size, in bands of rows: the same result in little memory.

Instance norm needs the statistics of whole planes, so tiles restyled one by one would show seams.
Here every stage of the network runs over all bands before the next one begins: its convolution's
output is measured while it is made, and normalised when it is next read.

What a stage leaves for the next lies in one store, in half precision for large pictures. It has
four rows for each row at quarter resolution, and holds the plane of full resolution; or, in every
second row, that of half resolution; or, in every fourth, two of quarter resolution. Rows of all of
them are equally long, and planes change into each other row by row, each row written where rows
already consumed have lain. Where memory is short the store has half of the rows, and full
resolution is made again from the picture or from the half-resolution plane: 17 % more arithmetic.
With batch norm, or without a norm, nothing waits for statistics, and one pass with some held-back
rows is all.

No framework here: a `Backend` computes. Bands run along the picture's shorter side; a picture that
is wider than high is streamed lying on its side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stylize.imaging.levels import deviation
from stylize.inference.backend import Affine, Backend, Band, Moments, Vector
from stylize.inference.layout import (
    COARSEST,
    ROUNDING,
    activation_scales,
    activation_sides,
    needs_one_pass,
    passes,
    store_shape,
)
from stylize.inference.sliding import SlidingConvolution
from stylize.networks.ground import ground_at, ground_strength
from stylize.networks.plan import EPS, Plan, Stage, missing_pixels

if TYPE_CHECKING:
    from stylize.inference.memory import Cut

AnyPixels = npt.NDArray[Any]
"""(H, W, 3), uint8 or uint16 levels, or floats in 0..1."""

Flags = npt.NDArray[np.bool_]

Progress = Callable[[float], None]
"""Called with the part of the work that is done, 0 to 1."""


class Streamer:
    """Restyles one picture band by band.

    Args:
        plan: the network.
        parameters: the norms' parameters by the plan's names, (C,) each.
        backend: what computes.
        cut: how high the bands are, and where the store lies; each gives the same picture.
        on_progress: called after each band.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Mapping[str, npt.NDArray[Any]],
        backend: Backend,
        cut: Cut,
        on_progress: Progress = lambda done: None,
    ) -> None:
        self.plan = plan
        self.parameters = parameters
        self.backend = backend
        self.cut = cut
        self.on_progress = on_progress

    def restyle(self, pixels: AnyPixels, stretch: float = 1.0) -> AnyPixels:
        """(H, W, 3) -> the same shape and type: what a pass over the whole picture gives.

        Args:
            pixels: the picture.
            stretch: of the ground that it is painted on; see `ground_at`.

        Raises:
            StylizeError: not even a single row fits into the memory.
        """
        turned = pixels.shape[1] > pixels.shape[0]
        source = pixels.swapaxes(0, 1) if turned else pixels
        result = np.empty(source.shape, pixels.dtype)
        _Run(self, source, result, turned, stretch).run()
        return result.swapaxes(0, 1) if turned else result


class _Run:
    """One picture on its way through the network; `source` is at least as high as wide."""

    def __init__(
        self,
        streamer: Streamer,
        source: AnyPixels,
        result: AnyPixels,
        turned: bool,
        stretch: float,
    ) -> None:
        self.stages = streamer.plan.stages
        self.parameters = streamer.parameters
        self.backend = streamer.backend
        self.rows = streamer.cut.rows
        self.on_progress = streamer.on_progress
        self.turned, self.stretch = turned, stretch
        self.result = result
        missing = [(0, missing_pixels(side)) for side in source.shape[:2]]
        if any(after for _, after in missing):
            source = np.pad(source, [*missing, (0, 0)], mode="edge")
        self.source = source
        ground = streamer.plan.ground
        self.ground = np.float32(ground and ground_strength(ground, deviation(source)))
        self.sides = activation_sides(streamer.plan, *source.shape[:2])
        self.scales = activation_scales(streamer.plan)
        self.affines: dict[int, Affine | None] = {}
        self.centers: dict[int, Vector] = {}
        one_pass = needs_one_pass(streamer.plan)
        self.finest = streamer.cut.finest
        self.passes = passes(streamer.plan, self.finest)
        self.store: Band | None = None
        if one_pass:
            self.affines = {
                index: self._running_affine(stage) for index, stage in enumerate(self.stages)
            }
        else:
            height, width = source.shape[:2]
            shape = store_shape(streamer.plan, height, width, self.finest)
            self.store = self.backend.allocate(shape, streamer.cut)

    def run(self) -> None:
        """All passes, in order."""
        costs = [sum(map(self._operations, range(a, b + 1))) for a, b in self.passes]
        done = 0
        for (first, last), cost in zip(self.passes, costs, strict=True):
            for part in self._pass(first, last):
                self.on_progress((done + part * cost) / sum(costs))
            done += cost

    def _pass(self, first: int, last: int) -> Iterator[float]:
        """Run stages `first` to `last` over all bands, yielding the part that is done."""
        stage = self.stages[last]
        chain = [self._convolution(index) for index in range(first, last + 1)]
        stored = self._plane(last) if self.store is not None and self._is_stored(last) else None
        moments: Moments | None = None
        made, taken = 0, 0
        for band in self._bands(first):
            taken += band.shape[0]
            raw = self._push(chain, first, band)
            if raw is not None:
                if stage.norm == "instance":
                    rows = None if stored is None else stored[made : made + raw.shape[0]]
                    moments = self._measure(last, raw, rows, moments)
                if last == len(self.stages) - 1:
                    self._write(made, raw)
                made += raw.shape[0]
            yield taken / self.sides[first][0]
        if moments is not None:
            var = moments.m2 / moments.count
            rounding = ROUNDING * np.abs(self.centers[last] + moments.mean).max()
            flat = var <= rounding**2
            self.affines[last] = self._affine(stage, moments.mean, var, flat)

    def _measure(
        self, index: int, raw: Band, store: Band | None, moments: Moments | None
    ) -> Moments:
        """The moments with those of one more band, which is kept in the store."""
        if index not in self.centers:
            # The first value of each plane: a constant plane is then exactly zero, and half
            # precision keeps the digits of one whose mean is large against its deviation.
            self.centers[index] = self.backend.first_values(raw)
        found = self.backend.measure(raw, self.centers[index], store)
        return found if moments is None else moments.merged(found)

    def _push(self, chain: list[SlidingConvolution], first: int, band: Band) -> Band | None:
        """A finished band through the stages of a pass; None while they still wait for rows."""
        raw = chain[0].push(band)
        for before, link in enumerate(chain[1:]):
            if raw is None:
                break
            index, stage = first + before, chain[before].stage
            extra = chain[before - 1].recall(raw.shape[0]) if stage.residual else None
            center, affine = self.centers.get(index), self.affines[index]
            raw = link.push(self.backend.finish(stage, raw, center, affine, extra))
        return raw

    def _convolution(self, index: int) -> SlidingConvolution:
        return SlidingConvolution(
            self.stages[index],
            self.sides[index][0],
            self.sides[index + 1][0],
            # Over several passes the store remembers.
            remembers=self.store is None and self._is_block_entry(index),
            compute=lambda tile: self.backend.convolve(self.stages[index], tile, self.turned),
            join=self.backend.join,
            on_want=self._lower_bands,
        )

    def _lower_bands(self) -> None:
        """Memory did not suffice: half as high from now on."""
        self.rows = max(1, self.rows // 2)

    def _bands(self, first: int) -> Iterator[Band]:
        """The finished input of a stage, from the picture or from the store."""
        height = self.sides[first][0]
        start = 0
        while start < height:
            end = min(height, start + self._step(first))
            if first == 0:
                band = self.backend.upload(self.source[start:end], self._ground(start, end))
            else:
                before = self.stages[first - 1]
                extra = self._sum_plane(first)[start:end] if before.residual else None
                plane = self._plane(first - 1)[start:end]  # which lies there less its center
                band = self.backend.finish(before, plane, None, self.affines[first - 1], extra)
            if self.store is not None and self._is_block_entry(first):
                self.backend.save(self._sum_plane(first)[start:end], band)
            yield band
            start = end

    def _ground(self, start: int, end: int) -> npt.NDArray[np.float32] | None:
        """What is added to some rows of the picture."""
        if not self.ground:
            return None
        rows, columns = np.arange(start, end), np.arange(self.source.shape[1])
        return self.ground * ground_at(rows, columns, self.turned, self.stretch)

    def _step(self, first: int) -> int:
        """Rows of a band before stage `first`: as much memory at every resolution."""
        return max(1, self.rows // self.stages[first].upsample ** 2)

    def _is_stored(self, index: int) -> bool:
        return self.scales[index + 1] >= self.finest and index + 1 < len(self.stages)

    def _is_block_entry(self, index: int) -> bool:
        """Whether a stage's input is added to the output of the stage behind it."""
        return index + 1 < len(self.stages) and self.stages[index + 1].residual

    def _plane(self, index: int) -> Band:
        """Where a stage's output lies in the store, (H, W, C)."""
        # What the encoder leaves takes the place of the running sum, which begins with it.
        is_beside = self.scales[index + 1] == COARSEST and self.stages[index].stride == 1
        return self._cut(index, 2 // self.finest if is_beside else 0)

    def _sum_plane(self, index: int) -> Band:
        """Where the running sum of the residual blocks lies, the input of stage `index`."""
        return self._cut(index - 1, 0)

    def _cut(self, index: int, first_row: int) -> Band:
        height, width = self.sides[index + 1]
        channels = self.stages[index].out_channels
        assert self.store is not None
        step = self.scales[index + 1] // self.finest
        rows = self.store[first_row::step][:height, : width * channels]
        return rows.reshape(height, width, channels)

    def _affine(self, stage: Stage, mean: Vector, var: Vector, flat: Flags | None = None) -> Affine:
        """What normalises; planes that are `flat` become exactly beta."""
        scale = self.parameters[f"{stage.name}.norm.weight"] / np.sqrt(var + EPS)
        if flat is not None:
            scale = np.where(flat, 0, scale)
        return Affine(scale, self.parameters[f"{stage.name}.norm.bias"] - mean * scale)

    def _running_affine(self, stage: Stage) -> Affine | None:
        if stage.norm == "none":
            return None
        mean, var = (self.parameters[f"{stage.name}.norm.running_{x}"] for x in ("mean", "var"))
        return self._affine(stage, mean, var)

    def _write(self, start: int, band: Band) -> None:
        """Rows of the result; what was added to reach whole strides is cut off."""
        height, width = self.result.shape[:2]
        end = min(height, start + band.shape[0])
        if start < end:
            self.result[start:end] = self.backend.download(
                band[: end - start, :width], self.result.dtype
            )

    def _operations(self, index: int) -> int:
        stage, (height, width) = self.stages[index], self.sides[index + 1]
        return height * width * stage.kernel**2 * stage.in_channels * stage.out_channels
