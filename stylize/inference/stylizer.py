"""The one way in to a trained style: a picture of any kind goes in, the same kind comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from stylize.devices import is_out_of_memory, place, resolve_device
from stylize.errors import StylizeError, UsageError
from stylize.imaging.colour import to_srgb
from stylize.imaging.files import flatten
from stylize.imaging.tensors import as_floats, from_floats
from stylize.inference.memory import SHARE, cut_picture, free_memory
from stylize.inference.streaming import Progress, Streamer
from stylize.inference.strokes import auto_scale, restyle_coarse_to_fine
from stylize.inference.torch_backend import TorchBackend
from stylize.model_file import file_sha256, read_model
from stylize.networks.transformer import TransformerNet
from stylize.zoo import DEFAULT_STYLE, find_style

AnyArray = npt.NDArray[Any]


WHOLE_BYTES = 800
"""Bytes a pixel that a pass over the whole picture takes for a network of width 1 in float32 (718
measured)."""


class Stylizer:
    """A loaded style. Immutable once made, so several threads may call it at once.

    Args:
        style: a name from `stylize styles`, or the path of a model file.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        memory: bytes that restyling one picture may take; None: by what is free.

    Raises:
        UsageError: no such style or device.
        StylizeError: the model file is damaged or not one of ours.

    Attributes:
        card: what is known about the style.
        sha256: of the model file.
    """

    def __init__(
        self, style: str | Path = DEFAULT_STYLE, device: str = "auto", memory: int | None = None
    ) -> None:
        path = find_style(style)
        self.device = resolve_device(device)
        self.memory = memory
        self.card, tensors, self.targets = read_model(path)
        self.sha256 = file_sha256(path)
        network = TransformerNet(self.card.norm, self.card.width)
        network.load_tensors(tensors)
        network.requires_grad_(False)
        self.network = place(network.eval(), self.device)
        self._backend = TorchBackend(self.card.plan, tensors, self.device)
        self._norms = {
            name: tensor.double().numpy() for name, tensor in tensors.items() if ".norm." in name
        }

    def restyle(
        self,
        pixels: AnyArray,
        style_scale: float | None = 1.0,
        on_progress: Progress = lambda done: None,
    ) -> AnyArray:
        """Restyle a picture of any size, in as much memory as there is.

        Args:
            pixels: (H, W, 3), uint8 or uint16 levels or float in 0..1, sRGB.
            style_scale: size of the strokes against the network's own; None: by the picture's size.
            on_progress: called with the part that is done, now and then.

        Returns:
            The same shape and type.

        Raises:
            StylizeError: the memory does not suffice.
        """
        if style_scale is None:
            style_scale = auto_scale(*pixels.shape[:2])
        return restyle_coarse_to_fine(self._restyle_pixels, pixels, style_scale, on_progress)

    @overload
    def __call__(self, picture: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, picture: AnyArray) -> AnyArray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...

    def __call__(self, picture: Image.Image | AnyArray | Tensor) -> Image.Image | AnyArray | Tensor:
        """Restyle a picture of any size.

        Args:
            picture: a PIL image (any mode; transparency is kept), a numpy array (H, W, 3), uint8,
                uint16 or float in 0..1, or a tensor (N, 3, H, W), float in 0..1.

        Returns:
            The same kind and size; a PIL image is RGB, or RGBA where the picture had transparency.

        Raises:
            UsageError: any other kind or shape.
            StylizeError: the memory does not suffice.
        """
        if isinstance(picture, Image.Image):
            return self._restyle_pil(picture)
        if isinstance(picture, np.ndarray):
            return self._restyle_array(picture)
        if isinstance(picture, Tensor):
            return self._restyle_tensor(picture)
        raise UsageError(
            f"a picture is a PIL image, a numpy array or a tensor, not {type(picture).__name__}"
        )

    def _restyle_pil(self, picture: Image.Image) -> Image.Image:
        picture = to_srgb(picture)
        restyled = Image.fromarray(self._restyle_array(flatten(picture)))
        if picture.mode == "RGBA":
            restyled.putalpha(picture.getchannel("A"))
        return restyled

    def _restyle_array(self, picture: AnyArray) -> AnyArray:
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(f"an array must be (H, W, 3), not {picture.shape}")
        if 0 in picture.shape:
            raise UsageError(f"a picture needs at least one pixel, not {picture.shape}")
        if picture.dtype in (np.uint8, np.uint16):
            return self.restyle(picture)
        if not np.issubdtype(picture.dtype, np.floating):
            raise UsageError(
                f"an array must be uint8, uint16 or float in 0..1, not {picture.dtype}"
            )
        return self.restyle(picture.astype(np.float32)).astype(picture.dtype)

    def _restyle_pixels(self, pixels: AnyArray, on_progress: Progress) -> AnyArray:
        """One pass at the picture's own size: in bands, or whole on a GPU that has room for it.

        On a CPU bands are faster at every size: they stay in its caches.
        """
        height, width = pixels.shape[:2]
        free = self._free()
        whole = WHOLE_BYTES * max(1.0, self.card.width) * height * width
        if self.device.type != "cpu" and whole < (self.memory or free * SHARE):
            batch = torch.from_numpy(as_floats(pixels)).permute(2, 0, 1)[None]
            restyled = self._restyle_tensor(batch)[0].permute(1, 2, 0)
            return from_floats(restyled, pixels.dtype)
        plan = self.card.plan
        cut = cut_picture(plan, height, width, 6 * pixels.itemsize, self.memory, free)
        with torch.inference_mode():
            streamer = Streamer(plan, self._norms, self._backend, cut, on_progress)
            return streamer.restyle(pixels)

    def _free(self) -> int:
        """Bytes of free memory, the host's and the device's, whichever are fewer."""
        host = free_memory()
        if self.device.type != "cuda":
            return host
        return min(host, torch.cuda.mem_get_info(self.device)[0])

    def _restyle_tensor(self, batch: Tensor) -> Tensor:
        if batch.dim() != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            raise UsageError(
                f"a tensor must be float (N, 3, H, W) in 0..1, not {batch.dtype} "
                f"{tuple(batch.shape)}"
            )
        if 0 in batch.shape:
            raise UsageError(f"a picture needs at least one pixel, not {tuple(batch.shape)}")
        photo = batch.to(self.device, torch.float32, memory_format=torch.channels_last)
        try:
            with torch.inference_mode():
                restyled: Tensor = self.network(photo).clamp(0, 1)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            height, width = batch.shape[-2:]
            raise StylizeError(
                f"not enough memory on {self.device} for {width} x {height} pixels; "
                f"make the photo smaller, or use --device cpu"
            ) from error
        # Out of inference mode, so that a caller may train through or change what it got.
        return restyled.to(batch.device, batch.dtype).clone()
