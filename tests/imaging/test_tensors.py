"""Levels through tensors, against numpy's way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stylize.imaging.levels import as_floats, as_levels
from stylize.imaging.tensors import from_floats, to_floats

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_tensors_and_arrays_hold_the_same(dtype: type) -> None:
    values = np.random.default_rng(0).uniform(-0.2, 1.2, (30, 20, 3)).astype(np.float32)
    kind = np.dtype(dtype)
    levels = from_floats(torch.from_numpy(values.copy()), kind)
    assert levels.dtype == kind
    assert np.array_equal(levels, as_levels(values.copy(), kind))
    floats = to_floats(levels, CPU)
    assert np.array_equal(floats.numpy(), as_floats(levels))


def test_any_view_is_taken_and_left_as_it_is() -> None:
    levels = np.arange(120, dtype=np.uint8).reshape(4, 10, 3)
    levels.flags.writeable = False
    turned = levels[::-1, ::2]
    floats = to_floats(turned, CPU).mul_(2)
    assert np.array_equal(floats.numpy(), 2 * as_floats(turned))
    single = as_floats(levels)
    to_floats(single, CPU).zero_()
    assert np.array_equal(single, as_floats(levels))
