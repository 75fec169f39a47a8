"""What runs a network over a picture, and which of them a machine and a task are best served by."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy.typing as npt

from stylize.cpu import usable_cpus
from stylize.errors import StylizeError, UsageError
from stylize.gpu import find_gpu
from stylize.inference.memory import fits_whole
from stylize.inference.streaming import Progress
from stylize.networks.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from stylize.model_file import Model

BackendName = Literal["auto", "torch", "openvino"]
BACKENDS: tuple[BackendName, ...] = get_args(BackendName)

TORCH_START = 3.0
"""Seconds that importing torch and waking a GPU take before the first pixel."""

CPU_RATE = 0.25
"""Megapixels a second that one core of a common CPU restyles through OpenVINO in float32."""

BANDS_PIXELS = 4_500_000
"""Pixels of a picture from which float32 on a CPU is done sooner in torch's bands, importing torch
included, than whole through OpenVINO, which leaves the caches (two cores with AVX2 alone, seconds:
3.4 megapixels 14.1 and 12.9, 4.9 megapixels 15.3 and 18.6; with AVX-512 9.2 and 7.9, 10.9 and
11.1, in half of the memory). A network of half the width fills as many caches with twice of them
(4.9 megapixels 4.4 and 3.4, on an AVX-512 with much cache)."""


class Engine(Protocol):
    """A loaded network on one device. Several threads may call it at once."""

    name: str
    """Of the backend."""
    device: str
    precision: str
    """Of the convolutions: fp32, bf16 or fp16."""

    def restyle(
        self,
        pixels: npt.NDArray[Any],
        memory: int | None,
        on_progress: Progress,
        stretch: float = 1.0,
    ) -> npt.NDArray[Any]:
        """One pass at the picture's own size.

        Args:
            pixels: (H, W, 3), uint8 or uint16 levels or floats in 0..1.
            memory: bytes it may take; None: by what is free.
            on_progress: called with the part that is done, now and then.
            stretch: of the ground that it is painted on; see `stylize.networks.ground.ground_at`.

        Returns:
            The same shape and type.

        Raises:
            StylizeError: the memory does not suffice.
        """

    def restyle_batch(self, batch: Tensor, memory: int | None) -> Tensor:
        """(N, 3, H, W), float in 0..1 -> the same, on the same device and of the same type.

        Args:
            memory: bytes that restyling one picture may take; None: by what is free.
        """


@dataclass(frozen=True)
class Choice:
    """Which backend, and why."""

    backend: Literal["torch", "openvino"]
    reason: str


def choose_backend(
    backend: str = "auto",
    device: str = "auto",
    megapixels: float | None = None,
    bands: Callable[[], bool] = lambda: False,
    precision: str = "auto",
) -> Choice:
    """Decide which backend restyles, without importing either.

    Args:
        backend: "auto", "torch" or "openvino".
        device: as `Stylizer` takes it.
        megapixels: how much is to be restyled; None: enough for start-up not to matter.
        bands: whether a picture is `better_in_bands`; asked only where that decides.
        precision: as asked for. Who asks for one that not every CPU has means the GPU, where there
            is one; torch computes in fp16 on no CPU.

    Raises:
        UsageError: no such backend, or it does not fit the device.
        StylizeError: OpenVINO is wanted and not installed.
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r}: give {', '.join(BACKENDS)}")
    there = has_openvino()
    if backend == "openvino":
        if device not in ("auto", "cpu"):
            raise UsageError(f"openvino computes on the CPU; for {device} give --backend torch")
        if not there:
            raise StylizeError("OpenVINO is not installed; pip install openvino")
        return Choice("openvino", "as asked")
    if backend == "torch":
        return Choice("torch", "as asked")
    if device not in ("auto", "cpu"):
        return Choice("torch", f"for {device}")
    if not there:
        return Choice("torch", "OpenVINO is not installed")
    gpu = device == "auto" and find_gpu()
    if not gpu and precision != "fp16" and bands():
        return Choice("torch", "faster in bands")
    if not gpu:
        return Choice("openvino", "faster than torch on a CPU")
    on_any = precision in ("auto", "fp32")
    if on_any and megapixels is not None and "torch" not in sys.modules:
        seconds = megapixels / (CPU_RATE * usable_cpus())
        if seconds < TORCH_START:
            return Choice("openvino", f"done before torch has woken the {gpu}")
    return Choice("torch", f"there is an {gpu}")


def better_in_bands(
    precision: str, plan: Plan, sides: tuple[int, int], budget: int | None, free: int
) -> bool:
    """Whether a CPU restyles a picture sooner in torch's bands than through OpenVINO.

    It does where OpenVINO would need bands too (at 12 megapixels torch's take 0.23 of a plain
    script's time and OpenVINO's 0.40, in float32 0.31 and 0.40), and from `BANDS_PIXELS` on, of
    which a narrow network wants more.
    """
    if precision == "fp32" and sides[0] * sides[1] * plan.width >= BANDS_PIXELS:
        return True
    return not fits_whole("openvino", precision, plan, sides, budget, free)


def make_engine(model: Model, backend: str, device: str, precision: str) -> Engine:
    """Load a network into the backend that `choose_backend` takes.

    Raises:
        UsageError: no such backend, device or precision here.
        StylizeError: OpenVINO is wanted and not installed.
    """
    if choose_backend(backend, device).backend == "openvino":
        from stylize.inference.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(model, precision)
    from stylize.inference.torch_engine import TorchEngine

    return TorchEngine(model, device, precision)


@cache
def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None
