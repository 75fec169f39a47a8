"""Who computes the operators: Triton's kernels, or torch's own operations."""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any

import torch

from stylize.errors import UsageError, one_line

ROUTE_VARIABLE = "STYLIZE_INSTANCE_NORM"
"""Environment variable: "triton" or "reference" forces that route; it is read once."""


@cache
def route(device: str) -> str:
    """Which route a kind of device takes: "triton" or "reference".

    Found out once, by launching a kernel on the current GPU where there is one.
    """
    forced = os.environ.get(ROUTE_VARIABLE)
    if forced:
        if forced not in ("triton", "reference"):
            raise UsageError(f"{ROUTE_VARIABLE} is {forced!r}; it must be triton or reference")
        return forced
    if device != "cuda":
        return "reference"
    try:
        from stylize.ops.triton_probe import launch

        launch(device)
    except Exception as error:  # no Triton, no C compiler for its launcher, too old a GPU, ...
        warnings.warn(
            f"instance norm and reflection run without CUDA kernels, several times slower: "
            f"{one_line(error)}",
            RuntimeWarning,
            stacklevel=2,
        )
        return "reference"
    return "triton"


def on(device: torch.device) -> Any:
    """The context in which Triton launches there."""
    return torch.cuda.device(device if device.type == "cuda" else -1)
