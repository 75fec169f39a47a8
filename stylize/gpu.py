"""The GPU that torch could compute on, found without importing torch, which takes seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TORCHS_CUDA = re.compile(r"^cuda\b.*= *(?:None|'(\d+)\.)", re.MULTILINE)
"""Where torch/version.py says for which CUDA it was built."""

LEAST_OF_13 = (7, 5)
"""Compute capability from which on CUDA 13 makes programs: Turing's. Others' builds of torch name
theirs only when asked (`stylize.devices.resolve_device`)."""

_CAPABILITY = 75, 76
"""The driver's numbers for both parts of the compute capability."""


@dataclass(frozen=True)
class Gpu:
    """What there is."""

    name: str = ""
    """ "NVIDIA GPU" or "Apple GPU"; empty where there is none."""
    unusable: str = ""
    """Why torch cannot compute on it; empty where it can."""


def find_gpu() -> str:
    """The name of a GPU that torch can compute on; empty where there is none."""
    gpu = look_for_gpu()
    return "" if gpu.unusable else gpu.name


@cache
def look_for_gpu() -> Gpu:
    """Ask the driver, and look at the torch that is installed."""
    if sys.platform == "darwin":
        return Gpu("Apple GPU" if platform.machine() == "arm64" else "")
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Gpu()
    if driver.cuInit(0) != 0 or not _ask(driver.cuDeviceGetCount):
        return Gpu()
    first = _ask(driver.cuDeviceGet, 0)
    major, minor = (_ask(driver.cuDeviceGetAttribute, number, first) for number in _CAPABILITY)
    return Gpu("NVIDIA GPU", _why_unusable(_ask(driver.cuDriverGetVersion), (major, minor)))


def _ask(function: Callable[..., int], *arguments: int) -> int:
    """A number from the driver, which gives it through a pointer; 0 where it fails."""
    number = ctypes.c_int()
    return number.value if function(ctypes.byref(number), *arguments) == 0 else 0


def _why_unusable(driver: int, capability: tuple[int, int]) -> str:
    """Why torch cannot use a GPU; empty where it can, or where that is not sure.

    Args:
        driver: the version of CUDA that it is for, 12080 for 12.8; it also takes programs for later
            versions with the same first number.
        capability: the GPU's compute capability.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return "torch is not installed"
    try:
        found = _TORCHS_CUDA.search(Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except OSError:
        found = None
    if found is None:  # written otherwise one day: torch itself will find out
        return ""
    if found[1] is None:
        return "this torch is built without CUDA; https://pytorch.org/get-started has one with it"
    if 0 < driver // 1000 < int(found[1]):
        known = f"{driver // 1000}.{driver % 1000 // 10}"
        return f"its driver knows CUDA {known}, and this torch wants {found[1]}: update the driver"
    if int(found[1]) >= 13 and (0, 0) < capability < LEAST_OF_13:
        return (
            f"its compute capability is {capability[0]}.{capability[1]}, and this torch wants 7.5"
        )
    return ""
