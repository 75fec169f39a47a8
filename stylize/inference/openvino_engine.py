"""The network on a CPU through OpenVINO; imports no torch unless it is given tensors."""

from __future__ import annotations

import io
from contextlib import suppress
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino as ov

import stylize
from stylize.cpu import bf16_pays, thread_limit
from stylize.errors import StylizeError, UsageError
from stylize.free_memory import free_memory
from stylize.imaging.levels import as_floats, as_levels, deviation
from stylize.inference import compile_cache
from stylize.inference.memory import cut_picture, fits_whole
from stylize.inference.openvino_backend import OpenVINOBackend
from stylize.inference.openvino_graph import LEAST_FOR_FOUR, TOGETHER, network_graph
from stylize.inference.streaming import Progress, Streamer
from stylize.networks.ground import ground_at, ground_strength
from stylize.networks.plan import missing_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from stylize.model_file import Model

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Our names and OpenVINO's."""

_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}

PATIENCE = 100
"""Milliseconds after which a pass that is not done lets Python look for signals."""


class OpenVINOEngine:
    """An `Engine`.

    Args:
        model: the style.
        precision: "auto" takes bf16 where the CPU is faster in it.

    Raises:
        UsageError: the CPU does not compute in this precision.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Model, precision: str = "auto") -> None:
        self.model = model
        self._core = ov.Core()
        self.precision = resolve_precision(precision, self._core)
        self._norms = model.norms()
        self._network = self._load_network()

    def restyle(
        self,
        pixels: npt.NDArray[Any],
        memory: int | None,
        on_progress: Progress,
        stretch: float = 1.0,
    ) -> npt.NDArray[Any]:
        """One pass at the picture's own size: whole where there is memory for it, else in bands.

        In bands it takes 1.1 (float32) to 3.5 times as long (bf16, AMX), and under half the memory.
        """
        height, width = pixels.shape[:2]
        plan = self.model.card.plan
        free = free_memory()
        if fits_whole(self.name, self.precision, plan, (height, width), memory, free):
            restyled = as_levels(self._restyle_whole(as_floats(pixels), stretch), pixels.dtype)
            on_progress(1.0)
            return restyled
        cut = cut_picture(plan, height, width, 6 * pixels.itemsize, memory, free)
        backend = OpenVINOBackend(plan, self.model.arrays, self._compile)
        return Streamer(plan, self._norms, backend, cut, on_progress).restyle(pixels, stretch)

    def restyle_batch(self, batch: Tensor, memory: int | None) -> Tensor:
        """(N, 3, H, W), float in 0..1 -> the same, picture by picture."""
        from stylize.imaging.tensors import each_picture

        return each_picture(batch, lambda one: self.restyle(one, memory, lambda done: None))

    def _restyle_whole(
        self, picture: npt.NDArray[np.float32], stretch: float
    ) -> npt.NDArray[np.float32]:
        height, width = picture.shape[:2]
        missing = [(0, missing_pixels(side)) for side in (height, width)]
        if any(after for _, after in missing):
            picture = np.pad(picture, [*missing, (0, 0)], mode="edge")
        self._add_ground(picture, stretch)
        request = self._network.create_infer_request()  # one for each thread
        try:
            _infer(request, picture[None])
        except RuntimeError as error:
            if "alloc" not in str(error):
                raise
            raise StylizeError(
                f"not enough memory for {width} x {height} px; make the photo smaller with --size"
            ) from error
        restyled: npt.NDArray[np.float32] = request.get_output_tensor(0).data[0, :height, :width]
        return restyled.copy()

    def _add_ground(self, picture: npt.NDArray[np.float32], stretch: float) -> None:
        """In place, as the graph would take 20 to 36 bytes a pixel more for it."""
        ground = self.model.card.ground
        strength = np.float32(ground and ground_strength(ground, deviation(picture)))
        if strength:
            rows, columns = (np.arange(side) for side in picture.shape[:2])
            field = ground_at(rows, columns, stretch=stretch)
            field *= strength
            picture += field[..., None]

    def _compile(self, graph: ov.Model, exact: bool = False) -> ov.CompiledModel:
        return self._core.compile_model(graph, "CPU", self._settings(exact))

    def _settings(self, exact: bool = False) -> dict[str, str]:
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS["fp32" if exact else self.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if limit := thread_limit():
            # Not pinned, or every process would take the same few cores.
            settings |= {"INFERENCE_NUM_THREADS": str(limit), "ENABLE_CPU_PINNING": "NO"}
        return settings

    def _load_network(self) -> ov.CompiledModel:
        """From the cache, or compiled and kept there."""
        key = compile_cache.cache_key(
            self.model.sha256,
            stylize.__version__,
            # A working copy changes without its version.
            (resources.files(stylize) / "inference" / "openvino_graph.py").read_text("utf-8"),
            version("openvino"),
            self.precision,
            str(self._core.get_property("CPU", "FULL_DEVICE_NAME")),
        )
        content = compile_cache.load(key)
        if content is not None:
            try:
                return self._core.import_model(content, "CPU", self._settings())
            except RuntimeError:  # an entry that this OpenVINO does not take is made anew
                pass
        plan = self.model.card.plan
        narrow = plan.stages[-1].in_channels < LEAST_FOR_FOUR
        together = TOGETHER if self.precision == "fp32" or narrow else 4
        compiled = self._compile(network_graph(plan, self.model.arrays, together))
        stream = io.BytesIO()
        compiled.export_model(stream)
        compile_cache.store(key, stream.getvalue())
        return compiled


def _infer(request: ov.InferRequest, batch: npt.NDArray[np.float32]) -> None:
    """Compute, and let Python have a turn now and then: Ctrl-C ends what takes seconds."""
    try:
        # Ctrl-C comes as early as from within this call, when the batch is being read already.
        request.start_async([batch], share_inputs=True)
        while not request.wait_for(PATIENCE):
            pass
    except BaseException:
        request.cancel()
        with suppress(RuntimeError):  # that it was cancelled; until then it reads the batch
            request.wait()
        raise


def resolve_precision(precision: str, core: ov.Core | None = None) -> str:
    """The number type of the convolutions; "auto" takes bf16 where the CPU is faster in it.

    Raises:
        UsageError: the CPU has none such.
    """
    offered = cpu_precisions(core)
    if precision == "auto":
        return "bf16" if "bf16" in offered and bf16_pays() else "fp32"
    if precision not in offered:
        raise UsageError(
            f"this CPU does not compute in {precision}; it has {', '.join(offered)}: give "
            f"--precision auto"
        )
    return precision


def cpu_precisions(core: ov.Core | None = None) -> list[str]:
    """What the CPU has in hardware."""
    found = (core or ov.Core()).get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["fp32", *(name for name, word in _CAPABILITIES.items() if word in found)]
