"""The GPU that torch could compute on, found without importing torch, which takes seconds."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TORCHS_CUDA = re.compile(r"^cuda\b.*= *(?:None|'(\d+)\.)", re.MULTILINE)
"""Where torch/version.py says for which CUDA it was built."""


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
    """Ask the driver, in milliseconds, and look at the torch that is installed."""
    if sys.platform == "darwin":
        return Gpu("Apple GPU" if platform.machine() == "arm64" else "")
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Gpu()
    count, version = ctypes.c_int(), ctypes.c_int()
    there = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    if not (there and count.value):
        return Gpu()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Gpu("NVIDIA GPU", _why_unusable(version.value))


def _why_unusable(driver: int) -> str:
    """Why torch cannot use a driver for this version of CUDA, 12080 for 12.8; empty where it can.

    A driver also takes programs for later versions with the same first number.
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
    if int(found[1]) > driver // 1000:
        known = f"{driver // 1000}.{driver % 1000 // 10}"
        return f"its driver knows CUDA {known}, and this torch wants {found[1]}: update the driver"
    return ""
