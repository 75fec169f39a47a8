"""The one way in to a trained style: a picture of any kind goes in, the same kind comes out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylize.errors import UsageError
from stylize.imaging.colour import to_srgb
from stylize.imaging.files import flatten
from stylize.imaging.levels import as_floats, as_levels, deviation
from stylize.inference.engine import make_engine
from stylize.inference.layout import restyled_colour
from stylize.inference.streaming import Progress
from stylize.inference.strokes import MAX_SCALE, MIN_SCALE, auto_scale, restyle_coarse_to_fine
from stylize.model_file import read_model
from stylize.networks.ground import ground_strength
from stylize.zoo import DEFAULT_STYLE, find_style

if TYPE_CHECKING:
    from torch import Tensor

AnyArray = npt.NDArray[Any]

LEVELS = (np.uint8, np.uint16)

BEYOND = 0.75
"""How far floats may leave 0..1 before it is taken for a mistake: resizing noise of black and white
leaves it by 0.6. Instance norm would make a picture of -1..1 or 0..255 too, in 0..1."""


class Stylizer:
    """A loaded style. Immutable once made, so several threads may call it at once; pickled, it is
    loaded anew.

    Args:
        style: a name from `stylize styles`, or the path of a model file.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        memory: bytes that restyling one picture may take; None: by what is free.
        backend: "torch", "openvino" (CPU), or "auto": torch on a GPU, else OpenVINO where it is.
        precision: "fp32", "tf32", "bf16", "fp16", or "auto": bf16 where it is faster.

    Raises:
        UsageError: no such style, device, backend or precision here.
        StylizeError: the model file is damaged or not one of ours.

    Attributes:
        card: what is known about the style.
        sha256: of the model file.
        targets: Gram matrices of the painting, by layer.
        engine: what computes: its `name`, `device` and `precision`.
    """

    def __init__(
        self,
        style: str | Path = DEFAULT_STYLE,
        device: str = "auto",
        memory: int | None = None,
        backend: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.memory = memory
        path = find_style(style)
        self._arguments = path.absolute(), device, memory, backend, precision
        model = read_model(path)
        self._arrays = model.arrays
        self.card, self.targets, self.sha256 = model.card, model.targets, model.sha256
        self.engine = make_engine(model, backend, device, precision)

    def __reduce__(self) -> tuple[type[Stylizer], tuple[Any, ...]]:
        """Another process loads the style anew: sessions and graphs do not travel."""
        return Stylizer, self._arguments

    def restyle(
        self,
        pixels: AnyArray,
        style_scale: float | None = 1.0,
        on_progress: Progress = lambda done: None,
    ) -> AnyArray:
        """Restyle a picture of any size, in as much memory as there is.

        Args:
            pixels: (H, W, 3), uint8 or uint16 levels or float in 0..1, sRGB.
            style_scale: size of the strokes against the network's own, 0.25 to 64; None: by the
                picture's size.
            on_progress: called with the part that is done, now and then.

        Returns:
            The same shape and type.

        Raises:
            UsageError: any other shape, type or range.
            StylizeError: the memory does not suffice.
        """
        _check_array(pixels)
        if style_scale is None:
            style_scale = auto_scale(*pixels.shape[:2])
        elif not MIN_SCALE <= style_scale <= MAX_SCALE:
            raise UsageError(f"style_scale is {style_scale}; it must be {MIN_SCALE} to {MAX_SCALE}")
        own = pixels.dtype.newbyteorder("=")  # a TIFF's may be the other one
        given = pixels.astype(own if own in LEVELS else np.float32, copy=False)
        restyled = restyle_coarse_to_fine(self._restyle_pixels, given, style_scale, on_progress)
        return restyled.astype(pixels.dtype, copy=False)

    @overload
    def __call__(self, picture: Image.Image) -> Image.Image: ...
    @overload
    def __call__(self, picture: AnyArray) -> AnyArray: ...
    @overload
    def __call__(self, picture: Tensor) -> Tensor: ...

    def __call__(self, picture: Image.Image | AnyArray | Tensor) -> Image.Image | AnyArray | Tensor:
        """Restyle a picture of any size.

        Args:
            picture: a PIL image (any mode of up to 16 bits; transparency is kept), a numpy array
                (H, W, 3), uint8, uint16 or float in 0..1, or a tensor (N, 3, H, W), float in 0..1.

        Returns:
            The same kind and size; a PIL image is RGB, or RGBA where the picture had transparency.

        Raises:
            UsageError: any other kind, shape or range.
            StylizeError: the memory does not suffice, or a PIL image has channels of 32 bits.
        """
        if isinstance(picture, Image.Image):
            return self._restyle_pil(picture)
        if isinstance(picture, np.ndarray):
            return self.restyle(picture)
        # Whoever has a tensor has imported torch; nobody else need.
        if (torch := sys.modules.get("torch")) and isinstance(picture, torch.Tensor):
            return self._restyle_tensor(picture)
        raise UsageError(
            f"a picture is a PIL image, a numpy array or a tensor, not {type(picture).__name__}"
        )

    def _restyle_pil(self, picture: Image.Image) -> Image.Image:
        picture = to_srgb(picture)
        restyled = Image.fromarray(self.restyle(flatten(picture)))
        if picture.mode == "RGBA":
            restyled.putalpha(picture.getchannel("A"))
        return restyled

    def _restyle_pixels(self, pixels: AnyArray, on_progress: Progress, stretch: float) -> AnyArray:
        plan, first = self.card.plan, pixels[:1, :1]
        if not ground_strength(plan.ground, deviation(first)) and _is_one_colour(pixels):
            colour = restyled_colour(plan, self._arrays, as_floats(first[0, 0]))
            on_progress(1.0)
            return np.full_like(pixels, as_levels(colour.astype(np.float32), pixels.dtype))
        return self.engine.restyle(pixels, self.memory, on_progress, stretch)

    def _restyle_tensor(self, batch: Tensor) -> Tensor:
        if batch.dim() != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            raise UsageError(
                f"a tensor must be float (N, 3, H, W) in 0..1, not {batch.dtype} "
                f"{tuple(batch.shape)}"
            )
        if 0 in batch.shape:
            raise UsageError(f"a picture needs at least one pixel, not {tuple(batch.shape)}")
        if batch.device.type == "cpu":  # a GPU would have to be waited for
            _check_range(batch.min().item(), batch.max().item())
        return self.engine.restyle_batch(batch, self.memory)


def _is_one_colour(pixels: AnyArray) -> bool:
    """Of most photos the first row tells."""
    return all((part == pixels[0, 0]).all() for part in (pixels[0], pixels))


def _check_array(pixels: AnyArray) -> None:
    if not isinstance(pixels, np.ndarray):
        raise UsageError(f"restyle takes an array, not {type(pixels).__name__}; call the Stylizer")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(f"an array must be (H, W, 3), not {pixels.shape}")
    if 0 in pixels.shape:
        raise UsageError(f"a picture needs at least one pixel, not {pixels.shape}")
    if np.issubdtype(pixels.dtype, np.floating):
        _check_range(pixels.min(), pixels.max())
    elif pixels.dtype.newbyteorder("=") not in LEVELS:
        raise UsageError(f"an array must be uint8, uint16 or float in 0..1, not {pixels.dtype}")


def _check_range(least: float, most: float) -> None:
    if not (least >= -BEYOND and most <= 1 + BEYOND):  # not a number is neither
        raise UsageError(f"floats must be in 0..1, not {least:g} to {most:g}")
