"""What is asked of a finished network, beside its held-out loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from stylize.errors import StylizeError
from stylize.held_out import held_out_photo
from stylize.imaging.synthetic import Source
from stylize.losses import PerceptualLoss
from stylize.networks.transformer import TransformerNet

CONTRASTS = (0.25, 0.5, 1.0, 1.5, 2.0)
BRIGHTNESSES = (-0.3, -0.15, 0.0, 0.15, 0.3)

PHOTOS = 8
"""Held-out photos that are altered: nine pictures of each."""


@dataclass(frozen=True)
class Altered:
    """Means over photos whose contrast or brightness was changed."""

    contrast: float
    brightness: float
    content: float
    """Content loss against the altered photo."""
    style: float
    change: float
    """Root mean square difference to the picture of the unaltered photo, in levels of 0..255."""


def alterations() -> list[tuple[float, float]]:
    """(contrast, brightness): each changed alone, the unaltered photo first."""
    changed = [(c, 0.0) for c in CONTRASTS if c != 1] + [(1.0, b) for b in BRIGHTNESSES if b]
    return [(1.0, 0.0), *changed]


def alter(photo: Tensor, contrast: float, brightness: float) -> Tensor:
    """Stretch a photo about mid-grey and move it, within 0..1 as a file holds it.

    Example:
        >>> alter(torch.tensor([0.0, 0.5, 1.0]), 0.5, 0.1)
        tensor([0.3500, 0.6000, 0.8500])
    """
    return (0.5 + (photo - 0.5) * contrast + brightness).clamp(0, 1)


def alter_photos(
    network: TransformerNet,
    loss: PerceptualLoss,
    photos: Sequence[Source],
    on_picture: Callable[[], None] = lambda: None,
) -> list[Altered]:
    """How much a network's pictures follow the contrast and brightness of the photo.

    Instance norm's published argument is that they should not: every affine change of a whole photo
    is divided out, but for what is clipped.

    Args:
        network: in evaluation mode.
        loss: the held-out loss.
        photos: the first PHOTOS readable ones are taken.
        on_picture: called after each restyling.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016.
    """
    device = next(loss.buffers()).device
    pictures: list[Tensor] = []
    for source in photos:
        if len(pictures) < PHOTOS:
            with suppress(StylizeError):  # unreadable ones were named where they were measured
                pictures.append(held_out_photo(source).to(device))
    found: list[Altered] = []
    usual: list[Tensor] = []
    for contrast, brightness in alterations():
        sums = torch.zeros(3, dtype=torch.float64)
        for number, photo in enumerate(pictures):
            altered = alter(photo, contrast, brightness)
            with torch.inference_mode():
                restyled = network(altered).clamp(0, 1)  # as a file holds it
                terms = loss(restyled, altered)
            restyled = restyled * 255
            if len(usual) < len(pictures):
                usual.append(restyled)
            change = (restyled - usual[number]).square().mean().sqrt()
            sums += torch.tensor([terms.content.item(), terms.style.item(), change.item()])
            on_picture()
        found.append(Altered(contrast, brightness, *(sums / len(pictures)).tolist()))
    return found


def with_image_statistics(network: TransformerNet) -> TransformerNet:
    """A network with batch norm, each picture normalised by its own statistics instead of the
    running ones: the same weights with instance norm.
    """
    twin = TransformerNet("instance", network.plan.width, network.plan.ground)
    twin.load_state_dict(network.state_dict())
    return twin.to(next(network.parameters()).device).eval()
