"""Between levels, as files hold them, and floats, as networks take them; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


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
