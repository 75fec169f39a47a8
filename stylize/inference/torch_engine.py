"""The network through torch: on a GPU, or on a CPU without OpenVINO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from stylize.devices import (
    DTYPES,
    autocast,
    convolving,
    is_out_of_memory,
    needing_memory,
    place,
    resolve_device,
    resolve_precision,
)
from stylize.free_memory import free_memory
from stylize.imaging.tensors import each_picture, from_floats, to_floats
from stylize.inference.memory import cut_picture, fits_whole
from stylize.inference.streaming import Progress, Streamer
from stylize.inference.torch_backend import TorchBackend
from stylize.inference.torch_bf16_backend import TorchBf16Backend
from stylize.networks.transformer import TransformerNet
from stylize.repeated_size import RepeatedSize

if TYPE_CHECKING:
    from stylize.model_file import Model

REPEATS = 10
"""Pictures of one size in a row before a pass is recorded, which takes several passes and stops the
GPU: worth it for a film or a service, not for the few photos of a folder."""

MOST_PIXELS = 1 << 21
"""Pixels of a batch that are recorded at the most, 1920 x 1080. Above, the GPU should compute
for longer than the host launches, and a graph would only hold on to a whole pass's memory. Not
timed yet, as little as `REPEATS`."""


class TorchEngine:
    """An `Engine`.

    Args:
        model: the style.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".

    Raises:
        UsageError: no such device here, or it does not compute in this precision.
    """

    name = "torch"

    def __init__(self, model: Model, device: str = "auto", precision: str = "auto") -> None:
        self._device = resolve_device(device)
        self.device = str(self._device)
        self.precision = resolve_precision(precision, self._device)
        self._first_whole = self._device.type != "cpu"
        """Whether a picture is tried in one pass; a CPU is faster in bands at every size."""
        self._plan = model.card.plan
        network = TransformerNet(model.card.norm, model.card.width, model.card.ground)
        network.load_tensors(model.tensors())
        network.requires_grad_(False)
        for module in network.modules():
            # Autocast would round them anew in every pass; on a CPU sums of them are rounded.
            if isinstance(module, nn.Conv2d) and self._device.type != "cpu":
                module.to(DTYPES[self.precision])
        self.network = place(network.eval(), self._device)
        in_bf16 = self.device == "cpu" and self.precision == "bf16"
        make_backend = TorchBf16Backend if in_bf16 else TorchBackend
        self._backend = make_backend(
            self._plan, model.tensors(), self._device, DTYPES[self.precision]
        )
        self._norms = model.norms()
        self._repeated = RepeatedSize(self._compute, REPEATS, MOST_PIXELS)

    def restyle(
        self,
        pixels: npt.NDArray[Any],
        memory: int | None,
        on_progress: Progress,
        stretch: float = 1.0,
    ) -> npt.NDArray[Any]:
        """One pass at the picture's own size: whole on a GPU that has room for it, or in bands."""
        height, width = pixels.shape[:2]
        free = self._free()
        fits = fits_whole(self.name, self.precision, self._plan, (height, width), memory, free)
        if self._first_whole and fits:
            restyled = self._restyle_whole(pixels, stretch)
            if restyled is not None:
                return restyled
        self._repeated.release()
        pixel_bytes, number_bytes = 6 * pixels.itemsize, self._backend.number_bytes
        cut = cut_picture(self._plan, height, width, pixel_bytes, memory, free, number_bytes)
        with torch.inference_mode(), convolving(self._device, self.precision):
            streamer = Streamer(self._plan, self._norms, self._backend, cut, on_progress)
            return streamer.restyle(pixels, stretch)

    def restyle_batch(self, batch: Tensor, memory: int | None) -> Tensor:
        """(N, 3, H, W), float in 0..1 -> the same: in one pass, or within a budget one by one."""
        if memory is not None:
            return each_picture(batch, lambda one: self.restyle(one, memory, lambda done: None))
        count, _, height, width = batch.shape
        with needing_memory(
            f"{count} x {width} x {height} pixels on {self.device}",
            "give smaller batches or pictures, or load the style for the CPU",
        ):
            return self._pass(batch)

    def _restyle_whole(self, pixels: npt.NDArray[Any], stretch: float) -> npt.NDArray[Any] | None:
        """In one pass; None where memory, which others take too, did not suffice after all."""
        try:
            batch = to_floats(pixels, self._device).permute(2, 0, 1)[None]
            restyled = self._pass(batch, stretch)[0].permute(1, 2, 0)
            return from_floats(restyled, pixels.dtype)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _pass(self, batch: Tensor, stretch: float = 1.0) -> Tensor:
        photo = batch.to(self._device, torch.float32, memory_format=torch.channels_last)
        with torch.inference_mode(), convolving(self._device, self.precision):
            restyled = self._run(photo, stretch)
        # Out of inference mode, so that a caller may train through or change what it got.
        return restyled.to(batch.device, batch.dtype).clone()

    def _run(self, photo: Tensor, stretch: float) -> Tensor:
        # A stretched ground is made on the host, and its sizes change from pass to pass.
        if self._device.type != "cuda" or stretch != 1:
            return self._compute(photo, stretch)
        usual = torch.cuda.default_stream(self._device)
        # On a stream of the caller's own, who may be capturing it, nothing is known of the order.
        on_usual = torch.cuda.current_stream(self._device) == usual
        return self._repeated(photo) if on_usual else self._compute(photo)

    def _compute(self, photo: Tensor, stretch: float = 1.0) -> Tensor:
        with autocast(self._device, self.precision):
            restyled: Tensor = self.network(photo, stretch=stretch)
        return restyled.float().clamp(0, 1)

    def _free(self) -> int:
        """Bytes of free memory, the host's and the device's, whichever are fewer."""
        host = free_memory()
        if self._device.type != "cuda":
            return host
        device = torch.cuda.mem_get_info(self._device)[0]
        # What torch keeps from earlier pictures is there for this one.
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return min(host, device + kept)
