"""Between levels, as files hold them, and floats, as networks take them; numpy only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS = 32
"""That are read at a time: in double precision they still fit into a processor's caches."""


def as_floats(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """uint8 or uint16 levels, or floats in 0..1 -> a fresh float32 array in 0..1."""
    values = np.array(pixels, np.float32, order="C")
    if np.issubdtype(pixels.dtype, np.integer):
        values /= np.float32(np.iinfo(pixels.dtype).max)
    return values


def as_levels(values: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Clamp to 0..1, and round to levels where `dtype` has such; `values` may be changed."""
    np.clip(values, 0, 1, out=values)
    if np.issubdtype(dtype, np.integer):
        values *= np.float32(np.iinfo(dtype).max)
        np.rint(values, out=values)
    return values.astype(dtype, copy=False)


def deviation(pixels: npt.NDArray[Any]) -> float:
    """The standard deviation of all of a picture's numbers, in 0..1; read some rows at a time."""
    total, squares = 0.0, 0.0
    for start in range(0, len(pixels), ROWS):
        values = as_floats(pixels[start : start + ROWS]).astype(np.float64)
        total += values.sum()
        squares += np.square(values).sum()
    mean = total / pixels.size
    return math.sqrt(max(0.0, squares / pixels.size - mean * mean))
