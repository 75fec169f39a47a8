"""The network's stages on bands, computed by OpenVINO; bands are numpy arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from stylize.imaging.levels import as_floats, as_levels
from stylize.inference.backend import Affine, BandMemoryError, Moments, Tile, Vector
from stylize.inference.layout import passes
from stylize.inference.memory import Cut, allocate_store
from stylize.inference.openvino_graph import Arrays, convolution_graph
from stylize.networks.plan import INPUT_SHIFT, Plan, Stage

AnyBand = npt.NDArray[Any]

ROOMY = 1.5
"""A convolution compiled for so many times the rows of a tile is taken for it, rows left empty:
compiling takes as long as some 10 rows, and only the first and the last band of a pass are other
than the rest."""

HEIGHTS = 4
"""Compiled convolutions that a stage needs at a time, for the first, last and other bands (3 were
met). Each holds some 30 MB for bands of 32 rows and 3000 columns, 1.3 GB if none were dropped."""


class OpenVINOBackend:
    """A `stylize.inference.backend.Backend` for one picture; float32 bands (rows, columns, C).

    Convolutions are compiled when the first tile of their size comes; all else takes any size.

    Args:
        plan: the network.
        arrays: its parameters by the plan's names.
        compile_graph: compiles for the device, in the precision wanted or, if told to be exact, in
            float32, as sums over a band leave the range of float16.
    """

    def __init__(
        self,
        plan: Plan,
        arrays: Arrays,
        compile_graph: Callable[[ov.Model, bool], ov.CompiledModel],
    ) -> None:
        self._arrays = arrays
        self._compile = compile_graph
        longest = max(last - first + 1 for first, last in passes(plan, finest=2))
        self._kept = HEIGHTS * longest
        self._convolutions: OrderedDict[tuple[str, bool, int, int], ov.InferRequest] = OrderedDict()
        self._elementwise: dict[Any, ov.InferRequest] = {}

    def allocate(self, shape: tuple[int, int], cut: Cut) -> AnyBand:
        """In memory, or in a file."""
        return allocate_store(shape, cut)

    def upload(self, pixels: AnyBand, ground: AnyBand | None) -> AnyBand:
        """Levels or floats in 0..1 -> the network's input."""
        band = as_floats(pixels)
        band += np.float32(INPUT_SHIFT)
        if ground is not None:
            band += ground[..., None]
        return band

    def download(self, band: AnyBand, dtype: np.dtype[Any]) -> AnyBand:
        """The network's output -> levels or floats in 0..1."""
        return as_levels(band.copy(), dtype)

    def join(self, bands: list[AnyBand]) -> AnyBand:
        """One band of those that lie one below the other."""
        return np.concatenate(bands)

    def convolve(self, stage: Stage, tile: Tile, turned: bool) -> AnyBand:
        """Enlarge, reflect, convolve."""
        rows = tile.top + tile.rows + tile.bottom
        try:
            height, request = self._convolution(stage, turned, rows, tile.width)
            band = _filled(tile, stage, height)  # to live as long as OpenVINO looks at its memory
            request.set_input_tensor(0, ov.Tensor(band, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            if "alloc" in str(error):
                raise BandMemoryError from error
            raise
        made = request.get_output_tensor(0).data[0]
        if stage.makes_colours:
            made = made.reshape(made.shape[0], -1, stage.out_channels)
        if stage.upsample == 2:
            # Enlarged rows of what was given from its second on; above a tile at the top is one.
            first = 1 if tile.top else tile.skip
            count = tile.top + tile.count + tile.bottom - 2
        else:
            first, count = 0, (rows - stage.kernel) // stage.stride + 1
        found: AnyBand = made[first : first + count]  # until the stage's next tile
        return found

    def first_values(self, band: AnyBand) -> Vector:
        """The channels of the band's first pixel."""
        values: Vector = band[0, 0].astype(np.float64)
        return values

    def measure(self, band: AnyBand, center: Vector, store: AnyBand | None) -> Moments:
        """Mean and M2 of each channel by two passes; the band is kept in the store."""
        kind = np.dtype(np.float32 if store is None else store.dtype)
        kept, mean, m2 = self._run(
            ("measure", kind), lambda inputs: _measuring_graph(inputs, kind), [band, center], kind
        )
        if store is not None:
            np.copyto(store, kept)
        count = band.shape[0] * band.shape[1]
        return Moments(count, mean.reshape(-1).astype(np.float64), m2.astype(np.float64))

    def finish(
        self,
        stage: Stage,
        band: AnyBand,
        center: Vector | None,
        affine: Affine | None,
        extra: AnyBand | None,
    ) -> AnyBand:
        """Take away, normalise, ReLU, add."""
        inputs = [band]
        if center is not None:
            inputs.append(center)
        if affine is not None:
            inputs += [affine.scale, affine.shift]
        if extra is not None:
            inputs.append(extra)
        kinds = (center is not None, affine is not None, stage.relu, extra is not None)
        return self._run(kinds, lambda inputs: _finishing_graph(inputs, *kinds), inputs)[0]

    def save(self, store: AnyBand, band: AnyBand) -> None:
        """Into the store, in its precision."""
        if band.dtype != store.dtype:
            kind = store.dtype
            band = self._run(("convert", kind), lambda x: _converting_graph(x, kind), [band], kind)[
                0
            ]
        np.copyto(store, band)

    def _convolution(
        self, stage: Stage, turned: bool, rows: int, width: int
    ) -> tuple[int, ov.InferRequest]:
        """A compiled convolution of at least so many rows, and of how many."""
        name = stage.name, turned, width
        there = [
            key for key in self._convolutions if key[:3] == name and rows <= key[3] <= rows * ROOMY
        ]
        key = min(there, default=(*name, rows))
        if key not in self._convolutions:
            graph = convolution_graph(stage, self._arrays, turned, rows, width)
            self._convolutions[key] = self._compile(graph, False).create_infer_request()
        self._convolutions.move_to_end(key)
        while len(self._convolutions) > self._kept:
            self._convolutions.popitem(last=False)
        return key[3], self._convolutions[key]

    def _run(
        self,
        name: Any,
        build: Callable[[list[AnyBand]], ov.Model],
        inputs: list[AnyBand],
        kind: npt.DTypeLike = np.float32,
    ) -> list[AnyBand]:
        """Run an elementwise graph, made anew for each set of types and channels.

        Its first output has the first input's shape, and the type `kind`.
        """
        inputs = [
            np.ascontiguousarray(x, np.float32 if x.dtype == np.float64 else None) for x in inputs
        ]
        key = name, *((x.dtype, x.shape[-1]) for x in inputs)
        if key not in self._elementwise:
            self._elementwise[key] = self._compile(build(inputs), True).create_infer_request()
        request = self._elementwise[key]
        for number, x in enumerate(inputs):
            request.set_input_tensor(number, ov.Tensor(x, shared_memory=True))
        made = np.empty(inputs[0].shape, kind)
        request.set_output_tensor(0, ov.Tensor(made, shared_memory=True))
        request.infer()
        return [made, *(tensor.data.copy() for tensor in request.output_tensors[1:])]


def _filled(tile: Tile, stage: Stage, height: int) -> AnyBand:
    """The tile's rows with reflected (or, before an enlargement, repeated) ones: (1, height, ...).

    A tile of one piece that needs none is given as it lies.
    """
    count = tile.rows
    if count == height and len(tile.pieces) == 1:
        return np.ascontiguousarray(tile.pieces[0])[None]
    padded = np.empty((1, height, *tile.pieces[0].shape[1:]), np.float32)
    np.concatenate(tile.pieces, out=padded[0, tile.top : tile.top + count])
    last = tile.top + count - 1
    nearest = 0 if stage.upsample == 2 else 1
    for n in range(tile.top):
        padded[0, tile.top - 1 - n] = padded[0, tile.top + n + nearest]
    for n in range(tile.bottom):
        padded[0, last + 1 + n] = padded[0, last - n - nearest]
    padded[0, last + 1 + tile.bottom :] = 0
    return padded


def _any_size(array: AnyBand) -> Any:
    """An input of an array's type and channels: a band of any height and width, or a vector."""
    return op.parameter([-1] * (array.ndim - 1) + [array.shape[-1]], array.dtype)


def _measuring_graph(inputs: list[AnyBand], kind: npt.DTypeLike) -> ov.Model:
    band, center = map(_any_size, inputs)
    x = op.subtract(band, center)
    mean = op.reduce_mean(x, op.constant([0, 1]), True)
    m2 = op.reduce_sum(op.squared_difference(x, mean), op.constant([0, 1]), False)
    return ov.Model([op.convert(x, kind), mean, m2], [band, center], "measure")


def _finishing_graph(
    inputs: list[AnyBand], center: bool, affine: bool, relu: bool, extra: bool
) -> ov.Model:
    parameters = list(map(_any_size, inputs))
    y, *others = (op.convert(x, np.float32) for x in parameters)
    if center:
        y = op.subtract(y, others.pop(0))
    if affine:
        y = op.add(op.multiply(y, others.pop(0)), others.pop(0))
    if relu:
        y = op.relu(y)
    if extra:
        y = op.add(y, others.pop(0))
    return ov.Model([y], parameters, "finish")


def _converting_graph(inputs: list[AnyBand], kind: npt.DTypeLike) -> ov.Model:
    (band,) = map(_any_size, inputs)
    return ov.Model([op.convert(band, kind)], [band], "convert")
