"""Sides of a picture's activations, what is stored between passes, what is flat: arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stylize.networks.plan import EPS, INPUT_SHIFT, Plan

COARSEST = 4
"""Factor by which the coarsest activations are smaller than the picture: the store's layout is made
for it."""


ROUNDING = 2.0**-18
"""A plane whose deviation is below this part of the stage's values is flat. A convolution's own
rounding is no smaller: sums of up to 1,152 products are some 34 * 2^-24 off. Normalised, it would
become a pattern on white paper, 300 times as strong behind each norm."""


def restyled_colour(
    plan: Plan, arrays: Mapping[str, npt.NDArray[Any]], colour: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """What a picture of one colour becomes where it has no ground: one colour, (3,), in 0..1.

    In half precision the four kernels of an enlargement round to different sums, and instance norm,
    which has nothing else to look at, makes a lattice of their distances.

    Args:
        plan: the network.
        arrays: its parameters by the plan's names.
        colour: (3,), in 0..1.
    """

    def array(name: str) -> npt.NDArray[np.float64]:
        return arrays[name].astype(np.float64)

    before = x = colour.astype(np.float64) + INPUT_SHIFT
    for stage in plan.stages:
        y = array(f"{stage.name}.conv.weight").sum((2, 3)) @ x
        if stage.bias:
            y += array(f"{stage.name}.conv.bias")
        if stage.norm == "batch":
            y -= array(f"{stage.name}.norm.running_mean")
            y /= np.sqrt(array(f"{stage.name}.norm.running_var") + EPS)
        if stage.norm != "none":
            scaled = y * array(f"{stage.name}.norm.weight") if stage.norm == "batch" else 0.0
            y = scaled + array(f"{stage.name}.norm.bias")
        if stage.relu:
            y = y.clip(min=0.0)
        if stage.residual:
            y += before
        before, x = x, y
    return x.clip(0.0, 1.0)


def needs_one_pass(plan: Plan) -> bool:
    """Whether a network needs no statistics of the picture."""
    return all(stage.norm != "instance" for stage in plan.stages)


def activation_sides(plan: Plan, height: int, width: int) -> list[tuple[int, int]]:
    """(H, W) before each stage, and behind the last."""
    sides = [(height, width)]
    for stage in plan.stages:
        height, width = sides[-1]
        sides.append((stage.output_side(height), stage.output_side(width)))
    return sides


def activation_scales(plan: Plan) -> list[int]:
    """Factors by which activations are smaller than the picture, before each stage and at the end.

    Example:
        >>> from stylize.networks.plan import make_plan
        >>> activation_scales(make_plan())
        [1, 1, 2, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 1, 1]
    """
    scales = [1]
    for stage in plan.stages:
        scales.append(scales[-1] * stage.stride // stage.upsample)
    assert max(scales) == COARSEST
    return scales


def passes(plan: Plan, finest: int) -> list[tuple[int, int]]:
    """First and last stage of each run over all bands.

    From the last stage on whose output is stored, all is made again. A network that needs no
    statistics is done in one.

    Args:
        plan: the network.
        finest: scale of the finest activations that are stored, 1 or 2.

    Example:
        >>> from stylize.networks.plan import make_plan
        >>> passes(make_plan(), 2)[:4], passes(make_plan(), 1)[:4], passes(make_plan("batch"), 2)
        ([(0, 0), (0, 1), (2, 2), (3, 3)], [(0, 0), (1, 1), (2, 2), (3, 3)], [(0, 15)])
    """
    if needs_one_pass(plan):
        return [(0, len(plan.stages) - 1)]
    found, first = [], 0
    for index, scale in enumerate(activation_scales(plan)[1:]):
        found.append((first, index))
        if scale >= finest:
            first = index + 1
    return found


def store_shape(plan: Plan, height: int, width: int, finest: int) -> tuple[int, int]:
    """Rows, and numbers in a row, of the store for a picture; `finest` as for `passes`."""
    if needs_one_pass(plan):
        return 0, 0
    sides, scales = activation_sides(plan, height, width), activation_scales(plan)
    stored = [index for index in range(len(plan.stages)) if scales[index + 1] >= finest]
    values = max(sides[index + 1][1] * plan.stages[index].out_channels for index in stored)
    coarsest_height = min(height for height, _ in sides)
    return COARSEST // finest * coarsest_height, values
