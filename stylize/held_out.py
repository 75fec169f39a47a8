"""The held-out loss: one definition of the number that every table and card quotes.

    content = MSE(features) / mean(photo's features^2)    style = sum of MSE(Gram) / mean(target^2)

of a restyled photo that was never trained on, in float32, by the loss network named beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from stylize.devices import convolving
from stylize.errors import StylizeError
from stylize.imaging.geometry import crop_centre, resize_shorter_side
from stylize.imaging.synthetic import Source, read_source
from stylize.imaging.tensors import to_tensor
from stylize.losses import PerceptualLoss
from stylize.networks.perceptual import DEFAULT_CONTENT_LAYERS, PerceptualNet

EVERY = 10
"""Every tenth photo by sorted path is held out."""

SHORTER_SIDE, CROP = 288, 256
"""Photos are resized to this shorter side in pixels, then cropped to a square in the middle."""

STYLE_SIZE = 512
"""Shorter side of the painting in pixels, whatever the training used; smoothed as it was there."""


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Sorted paths -> (to train on, held out); a single photo is both.

    Example:
        >>> training, held_out = split([Path(f"{n:02}.jpg") for n in range(20)])
        >>> [path.stem for path in held_out], len(training)
        (['00', '10'], 18)
    """
    paths = sorted(paths, key=lambda path: path.parts)  # alike on Windows, as `find_pictures`
    held_out = paths[::EVERY]
    training = [path for index, path in enumerate(paths) if index % EVERY] or held_out
    return training, held_out


def held_out_loss(network: PerceptualNet, targets: Mapping[str, Tensor]) -> PerceptualLoss:
    """The loss module that `measure` wants: the network's usual layers, normalised units.

    Args:
        targets: {layer: (C, C)}, the Gram matrices of the painting at STYLE_SIZE.
    """
    layers = DEFAULT_CONTENT_LAYERS[network.architecture]
    return PerceptualLoss(network, targets, layers)


@dataclass(frozen=True)
class HeldOutLoss:
    """Means over the photos, in normalised units whatever the training used."""

    content: float
    style: float
    photos: int
    """How many photos were measured; unreadable ones are left out."""

    @property
    def total(self) -> float:
        """Content + style."""
        return self.content + self.style

    def as_dict(self) -> dict[str, float]:
        """For a model's card."""
        return asdict(self) | {"total": self.total}


def held_out_photo(source: Source) -> Tensor:
    """A photo as it is measured: (1, 3, CROP, CROP) in 0..1.

    Raises:
        StylizeError: it cannot be read.
    """
    picture = resize_shorter_side(read_source(source, enough=SHORTER_SIDE), SHORTER_SIDE)
    return to_tensor([crop_centre(picture, CROP)])


def measure(
    restyle: Callable[[Tensor], Tensor],
    loss: PerceptualLoss,
    photos: Sequence[Source],
    on_photo: Callable[[], None] = lambda: None,
) -> HeldOutLoss:
    """Measure the held-out loss of anything that restyles.

    Args:
        restyle: (1, 3, 256, 256) in 0..1 -> the same shape.
        loss: in normalised units, with weights of 1.
        photos: files or generated pictures; one that cannot be read is left out.
        on_photo: called after each photo.

    Raises:
        StylizeError: none of the photos could be read.
    """
    device = next(loss.buffers()).device
    content, style, count = 0.0, 0.0, 0
    for path in photos:
        try:
            photo = held_out_photo(path).to(device)
        except StylizeError:
            continue
        finally:
            on_photo()
        with torch.inference_mode(), convolving(device, "fp32"):
            terms = loss(restyle(photo).clamp(0, 1), photo)  # as a file does
        content += float(terms.content)
        style += float(terms.style)
        count += 1
    if not count:
        raise StylizeError(f"none of the {len(photos)} held-out photos could be read")
    return HeldOutLoss(content / count, style / count, count)
