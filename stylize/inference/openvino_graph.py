"""The network, and each of its stages alone, as OpenVINO graphs, built from the plan.

Two convolutions are written in another way than the plan says them, with the same products summed:

- Nearest enlargement by 2 and a 3 x 3 convolution are one transposed convolution of 4 x 4 and
  stride 2: 16 multiplications where there were 36.
- The last layer makes two neighbouring pixels as one of 6 channels: of the 8 numbers that an AVX2
  register holds, 6 are then in use where there were 3 (1.8 times as fast, 7 % of the network). For
  half precisions, from 32 channels on, four pixels as one of 12, of the 16 that the registers of
  such CPUs hold (0.94 of the whole network's time with two).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as op

from stylize.inference.layout import ROUNDING
from stylize.networks.ground import FLAT, GROUND_PERIOD, ground_tile
from stylize.networks.plan import EPS, INPUT_SHIFT, Plan, Stage

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""The network's parameters by the plan's names."""

Floats: TypeAlias = npt.NDArray[np.float32]

TOGETHER = 2
"""Neighbouring pixels that the last layer makes as one, where a graph is not asked for 4."""

LEAST_FOR_FOUR = 32
"""Channels from which half precisions make four pixels `together`: of 16 and of 24 OpenVINO 2026.4
with AMX makes something else, 18 dB from float32."""

LARGEST_GAIN = 8.0
"""Of a convolution that instance norm follows. Photos then have distances from the mean of up to
30, and one white dot of 3 x 3 pixels on black 83 at 256 x 256, where 255 is too much; with 2 a
wall with noise of one level loses its squares at the lower end (15 dB from float32, with 8 41)."""

_TO_NCHW, _TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def network_graph(plan: Plan, arrays: Arrays, together: int = TOGETHER) -> ov.Model:
    """The whole network, every size open; its last layer makes so many pixels `together`.

    Input `photo`: (N, H, W, 3), float32, RGB in 0..1 with its ground added, sides of 8 px at the
    least. Output `restyled`: (N, H', W', 3), clamped to 0..1; H' and W' are H and W to the next
    multiple of 4, and what is beyond H and W is to be cut off.
    """
    photo = op.parameter([-1, -1, -1, 3], np.float32, name="photo")
    restyled = _restyled(plan, arrays, photo, together)
    return ov.Model([restyled], [photo], f"stylize-{plan.norm}")


def exported_graph(plan: Plan, arrays: Arrays) -> ov.Model:
    """The whole network as other programs want it.

    Input `photo` and output `restyled`: (N, 3, H, W), float32, RGB in 0..1, sides of 8 px and more.
    """
    photo = op.parameter([-1, 3, -1, -1], np.float32, name="photo")
    photo.output(0).set_names({"photo"})
    seen = op.transpose(photo, op.constant(_TO_NHWC))
    restyled = _restyled(plan, arrays, _grounded(seen, plan.ground) if plan.ground else seen)
    sides = op.slice(op.shape_of(photo), *(op.constant([n]) for n in (2, 4, 1)))
    none, one, axes = (op.constant(np.array(x)) for x in ([0, 0], [1, 1], [1, 2]))
    cropped = op.transpose(op.slice(restyled, none, sides, one, axes), op.constant(_TO_NCHW))
    cropped.output(0).set_names({"restyled"})
    return ov.Model([cropped], [photo], f"stylize-{plan.norm}")


def convolution_graph(
    stage: Stage, arrays: Arrays, turned: bool, height: int, width: int
) -> ov.Model:
    """One stage's convolution of a band, its left and right edges reflected.

    Input: (1, height, width, C), float32, rows of reflection included. Output: (1, H', W', C'). All
    sizes are fixed: with open ones OpenVINO copies bands into another layout and back (20 %).
    """
    band = op.parameter([1, height, width, stage.in_channels], np.float32)
    x = op.transpose(_padded(band, stage, axes=(2,)), op.constant(_TO_NCHW))
    weight, bias = kernel(stage, arrays, turned, TOGETHER), stage_bias(stage, arrays, TOGETHER)
    y = _convolved(x, stage, weight, bias, TOGETHER, open_rows=True)
    return ov.Model([op.transpose(y, op.constant(_TO_NHWC))], [band], stage.name)


def kernel(stage: Stage, arrays: Arrays, turned: bool, together: int) -> Floats:
    """The kernel as the graphs take it: see the module's text."""
    weight = arrays[f"{stage.name}.conv.weight"].astype(np.float32)
    if turned:
        weight = weight.swapaxes(2, 3)
    if stage.upsample == 2:
        return enlarging_kernel(weight)
    return joined_kernel(weight, together) if stage.makes_colours else np.ascontiguousarray(weight)


def enlarging_kernel(weight: Floats) -> Floats:
    """(C', C, 3, 3) -> (C, C', 4, 4): enlarging and convolving, as one transposed convolution."""
    found = np.zeros((weight.shape[1], weight.shape[0], 4, 4), np.float32)
    flipped = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    for down in range(2):
        for right in range(2):
            found[:, :, down : down + 3, right : right + 3] += flipped
    return found


def joined_kernel(weight: Floats, together: int) -> Floats:
    """(C', C, k, k) -> (n C', C, k, k + n - 1): n pixels that lie side by side."""
    right = range(together)
    return np.concatenate([np.pad(weight, [(0, 0)] * 3 + [(n, together - 1 - n)]) for n in right])


def stage_bias(stage: Stage, arrays: Arrays, together: int) -> Floats | None:
    """The convolution's bias, for each channel that it makes."""
    if not stage.bias:
        return None
    bias = arrays[f"{stage.name}.conv.bias"].astype(np.float32)
    return np.tile(bias, together) if stage.makes_colours else bias


def within_half(stage: Stage, arrays: Arrays) -> float:
    """A power of two by which a stage's convolution has squares that half precision holds.

    Instance norm takes the factor out again, and in float32 no bit of the picture changes. Without
    it squares of 256 and more are infinite in float16, whose largest number is 65,504: shipped
    styles were 17 dB from float32.
    """
    weight = arrays[f"{stage.name}.conv.weight"].astype(np.float64)
    largest = np.abs(weight).sum(axis=(1, 2, 3)).max()
    return float(2.0 ** np.floor(np.log2(LARGEST_GAIN / largest))) if largest > 0 else 1.0


def _restyled(plan: Plan, arrays: Arrays, photo: Any, together: int = TOGETHER) -> Any:
    """(N, H, W, 3) in 0..1 -> (N, H', W', 3), clamped."""
    x = op.transpose(op.add(photo, _vector([INPUT_SHIFT] * 3, 3)), op.constant(_TO_NCHW))
    before = x
    for stage in plan.stages:
        padded = _padded(x, stage, axes=(2, 3))
        weight, bias = kernel(stage, arrays, False, together), stage_bias(stage, arrays, together)
        part = within_half(stage, arrays) if stage.norm == "instance" else 1.0
        y = _convolved(padded, stage, weight * np.float32(part), bias, together)
        y = _normalised(y, stage, arrays, part)
        if stage.relu:
            y = op.relu(y)
        if stage.residual:
            y = op.add(y, before)
        before, x = x, y
    return _apart(op.transpose(op.clamp(x, 0.0, 1.0), op.constant(_TO_NHWC)), together)


def _grounded(photo: Any, strength: float) -> Any:
    """(N, H, W, 3) -> the same, with the field added that the network paints on."""
    shape, all_axes = op.shape_of(photo), op.constant([1, 2, 3])
    distance = op.subtract(photo, op.reduce_mean(photo, all_axes, True))
    contrast = op.sqrt(op.reduce_mean(op.multiply(distance, distance), all_axes, True))
    none, least = op.constant(np.float32(0)), op.constant(np.float32(FLAT))
    contrast = op.select(op.greater(contrast, least), contrast, none)
    field, period = op.constant(strength * ground_tile()), op.constant(np.int64(GROUND_PERIOD))
    for axis in range(2):
        count = op.gather(shape, op.constant(np.int64(axis + 1)), op.constant(0))
        numbers = op.range(op.constant(np.int64(0)), count, op.constant(np.int64(1)), "i64")
        field = op.gather(field, op.floor_mod(numbers, period), op.constant(axis))
    field = op.unsqueeze(field, op.constant([0, 3]))
    return op.add(photo, op.multiply(contrast, field))


def _padded(x: Any, stage: Stage, axes: tuple[int, ...]) -> Any:
    """Reflected; before an enlargement repeated, which behind it is reflection by one pixel."""
    side = 1 if stage.upsample == 2 else stage.padding
    pads = op.constant([side if axis in axes else 0 for axis in range(4)])
    return op.pad(x, pads, pads, "edge" if stage.upsample == 2 else "reflect")


def _convolved(
    x: Any,
    stage: Stage,
    weight: Floats,
    bias: Floats | None,
    together: int,
    open_rows: bool = False,
) -> Any:
    """Convolved without padding; behind an enlargement `open_rows` leaves the outermost two."""
    one, none = [1, 1], [0, 0]
    if stage.upsample == 2:
        pads = [2 if open_rows else 3, 3]
        y = op.convolution_backprop_data(
            x, op.constant(weight), [2, 2], pads_begin=pads, pads_end=pads, dilations=one
        )
    else:
        strides = [1, together] if stage.makes_colours else [stage.stride] * 2
        y = op.convolution(x, op.constant(weight), strides, none, none, one)
    return y if bias is None else op.add(y, _vector(bias, 1))


def _normalised(y: Any, stage: Stage, arrays: Arrays, part: float) -> Any:
    """Normalised, where `y` is such a part of what the convolution makes."""
    if stage.norm == "none":
        return y
    gamma, beta = (
        arrays[f"{stage.name}.norm.{part}"].astype(np.float64) for part in ("weight", "bias")
    )
    if stage.norm == "instance":
        # OpenVINO's own MVN adds up a plane in single numbers, one by one: 59 dB at 1920 x 1080
        # where this gives 91, and 6/255 off at 6 megapixels.
        mean = op.reduce_mean(y, op.constant([2, 3]), True)
        # Used once only, the distance is taken where it is used, and no plane is kept for it.
        distance = op.subtract(y, mean)
        var = op.reduce_mean(op.squared_difference(y, mean), op.constant([2, 3]), True)
        eps, power, none = (op.constant(np.float32(x)) for x in (EPS * part**2, -0.5, 0))
        scale = op.power(op.add(var, eps), power)
        largest = op.reduce_max(op.abs(mean), op.constant([1]), True)
        rounding = op.multiply(largest, op.constant(np.float32(ROUNDING)))
        flat = op.less_equal(var, op.multiply(rounding, rounding))
        y = op.multiply(distance, op.select(flat, none, scale))
    else:
        mean, var = (
            arrays[f"{stage.name}.norm.running_{x}"].astype(float) for x in ("mean", "var")
        )
        gamma = gamma / np.sqrt(var + EPS)
        beta = beta - mean * gamma
    return op.add(op.multiply(y, _vector(gamma, 1)), _vector(beta, 1))


def _apart(joined: Any, together: int) -> Any:
    """(N, H, W / n, 3 n) -> (N, H, W, 3): as it lies in memory."""
    shape = op.shape_of(joined)
    wide = op.multiply(shape, op.constant(np.array([1, 1, together, 1])))
    lower = op.constant(np.array([0, 0, 0, 3]))
    keep = op.constant(np.array([True, True, True, False]))
    return op.reshape(joined, op.select(keep, wide, lower), False)


def _vector(values: Any, axis: int) -> Any:
    """A constant for each channel of a four-dimensional node."""
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return op.constant(np.asarray(values, np.float32).reshape(shape))
