"""The perceptual losses: pure functions first, then `PerceptualLoss`, which adds them up.

Gram matrices (Gatys et al. 2016) are covariances plus products of means, and means of activations,
some colours and contrast, make up most of them: a picture can miss the brush, which is in the
covariances, and still have nearly the painting's Gram matrices. So covariances may count by
themselves as well.

Two kinds of units:

- "normalised" (the default): each style layer's Gram distance is divided by the mean square of its
  target, the content distance by the mean square of the photo's features. A loss of 1 is then
  "as wrong as answering zero", for every painting and every loss network, and a style strength of
  1 means the same everywhere.
- "paper": the raw sums of Johnson et al. 2016, for the papers' own weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylize.devices import convolving
from stylize.networks.perceptual import PerceptualNet
from stylize.ops.window import window
from stylize.palette import Palette, foreign_colours
from stylize.prices import (
    EDGE_STRIPS,
    TINT_MEMORY,
    edge_tint,
    flat_variation,
    flatness,
    lattice_energy,
    total_variation,
    unasked_colours,
)

Units = Literal["normalised", "paper"]

MAX_SHIFT = 8
"""Places, each way, between which the loss network's view of a batch moves at random. Its pooling
has a lattice of 2, 4 and 8 px; held still on the transformer network's own of 4 px, it rewards
patterns that only such a pair can see: grids, which grew for as long as training went on."""

DETAIL = 3e-3
"""Squared differences of a photo's neighbouring pixels, averaged over their surroundings, at which
a place counts half as detailed. A face of 80 px: eyes 5e-2, mouth 1e-2, cheeks 4e-3; skies 2e-4."""

TINY = 1e-12
"""Keeps the division by a mean square defined for a picture without any feature."""


def gram_matrix(features: Tensor) -> Tensor:
    """Channel-by-channel inner products, a picture's texture without its places.

    Args:
        features: (N, C, H, W), any float type.

    Returns:
        (N, C, C), float32, divided by H * W.

    Source: Gatys, Ecker and Bethge 2016, equation 3; divided by H*W so that it does not depend on
    the picture's size.
    """
    channels, height, width = features.shape[1:]
    with torch.autocast(features.device.type, enabled=False):
        # (N, H, C, W) or (N, 1, C, H*W). Where rows are longer than their products are wide, one
        # product a row: as one over all pixels it is so narrow that it keeps few cores busy.
        parts = features.float().transpose(1, 2)
        if channels > width:
            parts = features.float().flatten(2)[:, None]
        return (parts @ parts.mT).sum(1) / (height * width)


def covariance_matrix(features: Tensor, gram: Tensor | None = None) -> Tensor:
    """Channel-by-channel covariances: a Gram matrix less what the means make of it.

    Args:
        features: (N, C, H, W), any float type.
        gram: its Gram matrices, where they are known already.

    Returns:
        (N, C, C), float32.

    Source: Risser, Wilmot and Barnes 2017, on what a Gram matrix leaves open.
    """
    gram = gram_matrix(features) if gram is None else gram
    mean = features.float().mean((2, 3))[..., None]  # (N, C, 1)
    with torch.autocast(features.device.type, enabled=False):
        return gram - mean @ mean.mT


def content_loss(
    features: Tensor, target: Tensor, units: Units = "normalised", weight: Tensor | None = None
) -> Tensor:
    """Distance of a picture's features from the photo's, meaned over the batch.

    Args:
        features, target: (N, C, H, W).
        weight: what each place counts, (N, 1, H, W), in each picture with a mean of 1; None: all
            alike.

    Returns:
        A scalar, float32. In "paper" units: the mean square (Johnson et al. 2016, equation 2).
    """
    squares = (features.float() - target.float()).square()
    if weight is not None:
        squares = squares * weight
    distance = squares.flatten(1).mean(1)  # (N,)
    if units == "normalised":
        distance = distance / (target.float().square().flatten(1).mean(1) + TINY)
    return distance.mean()


def detail_weight(photo: Tensor, focus: float, size: tuple[int, int]) -> Tensor:
    """What each place counts in a content loss that is to keep a photo's details, eyes above all.

    In a mean over all places a calm sky, which is most of many photos, makes up for eyes that are
    lost to the strokes.

    Args:
        photo: (N, 3, H, W), RGB in 0..1.
        focus: how much less a place counts for being flat, 0 to 1.
        size: (height, width) of the features.

    Returns:
        (N, 1, height, width), float32, in each picture with a mean of 1.
    """
    flat = F.adaptive_avg_pool2d(flatness(photo, DETAIL), size)
    weight = (1 - focus * flat).clamp_min(TINY)
    return weight / weight.mean((2, 3), keepdim=True)


def style_loss(gram: Tensor, target: Tensor, units: Units = "normalised") -> Tensor:
    """Distance of Gram or covariance matrices from the painting's, meaned over the batch.

    Args:
        gram: (N, C, C) as from `gram_matrix` or `covariance_matrix`.
        target: (C, C).

    Returns:
        A scalar, float32. In "paper" units: the squared Frobenius norm with Gram matrices divided
        by C * H * W (Johnson et al. 2016, equations 3 and 4).
    """
    squares = (gram - target).square()
    if units == "normalised":
        return squares.mean() / (target.square().mean() + TINY)
    return squares.sum(dim=(1, 2)).mean() / target.shape[0] ** 2


@dataclass(frozen=True)
class LossTerms:
    """What one batch costs: scalars still on the graph, each already with its weight."""

    content: Tensor
    style: Tensor
    regularisation: Tensor
    """Total variation, that of flat areas, patches, foreign colours, lattice energy, edge tint,
    what leaves 0..1."""
    tint: Tensor
    """(4, strips, 3): this batch's `edge_tint`, without a derivative."""

    @property
    def total(self) -> Tensor:
        """The number that is minimised."""
        return self.content + self.style + self.regularisation


def style_targets(
    network: PerceptualNet,
    painting: Tensor,
    layers: Sequence[str],
    describe: Callable[[Tensor], Tensor] = gram_matrix,
) -> dict[str, Tensor]:
    """The painting's Gram matrices, or, described so, its covariances.

    Args:
        painting: (1, 3, H, W), RGB in 0..1.
        describe: `gram_matrix` or `covariance_matrix`.

    Returns:
        {layer: (C, C)}, float32.
    """
    with torch.no_grad(), convolving(painting.device, "fp32"):
        return {
            layer: describe(features)[0] for layer, features in network(painting, layers).items()
        }


class PerceptualLoss(nn.Module):
    """Content, style and total variation of a restyled batch.

    Args:
        network: the loss network.
        targets: {layer: (C, C)}, the painting's Gram matrices from `style_targets`.
        content_layers: where the photo's features are to be kept.
        content_weight, style_weight, tv_weight, flat_weight, lattice_weight, edge_weight,
            gamut_weight: factors of the terms.
        units: "normalised" or "paper".
        covariances: {layer: (C, C)}, the painting's covariances of the same layers; needed where
            they have a weight.
        covariance_weight: factor of their distance beside that of the Gram matrices.
        content_focus: how much less a place counts in the content loss where the photo is flat.
        patch_weight: factor of the areas' colours that the photo does not ask for.
        palette: the painting's; needed where colours outside it have a weight.
        palette_weight: factor of the mean squared distance from it.
    """

    def __init__(
        self,
        network: PerceptualNet,
        targets: Mapping[str, Tensor],
        content_layers: Sequence[str],
        content_weight: float = 1.0,
        style_weight: float = 1.0,
        tv_weight: float = 0.0,
        flat_weight: float = 0.0,
        lattice_weight: float = 0.0,
        edge_weight: float = 0.0,
        gamut_weight: float = 0.0,
        units: Units = "normalised",
        covariances: Mapping[str, Tensor] | None = None,
        covariance_weight: float = 0.0,
        content_focus: float = 0.0,
        patch_weight: float = 0.0,
        palette: Palette | None = None,
        palette_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.style_layers = tuple(targets)
        self.content_layers = tuple(content_layers)
        network.check_layers(self.style_layers + self.content_layers)
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.tv_weight = tv_weight
        self.flat_weight = flat_weight
        self.lattice_weight = lattice_weight
        self.edge_weight = edge_weight
        self.gamut_weight = gamut_weight
        self.units: Units = units
        self.covariance_weight = covariance_weight
        self.content_focus = content_focus
        self.patch_weight = patch_weight
        self.palette_weight = palette_weight
        for layer, target in targets.items():
            self.register_buffer(f"gram_{layer}", target)
        for layer, target in (covariances or {}).items():
            self.register_buffer(f"covariance_{layer}", target)
        for name, target in (palette._asdict() if palette else {}).items():
            self.register_buffer(f"palette_{name}", target)
        device = next(iter(targets.values())).device
        self.tint: Tensor
        """(4, strips, 3), the running mean of what `remember` was given; part of a run's state."""
        self.register_buffer("tint", torch.zeros(4, len(EDGE_STRIPS), 3, device=device))

    def forward(self, restyled: Tensor, photo: Tensor, shift: Tensor | None = None) -> LossTerms:
        """What `restyled` costs as a picture of `photo`.

        The losses see what a file can hold, 0..1: a loss network is glad of colours darker than
        black, and a viewer then gets something else than what was trained. With a `gamut_weight` of
        0 they see everything, for nothing else would call a pixel back that has left.

        Args:
            restyled: (N, 3, H, W), RGB, may leave 0..1.
            photo: (N, 3, H, W), RGB in 0..1.
            shift: (2,), whole numbers below `MAX_SHIFT`, on the same device: how many rows and
                columns the loss network does not see at the top and left, of the `MAX_SHIFT` - 1
                that it then does not see in all. None: it sees everything.
        """
        shown = restyled.float()
        if self.gamut_weight:
            shown = shown.clamp(0, 1)
        seen, aim = shown, photo
        if shift is not None:
            seen, aim = (window(picture, shift, MAX_SHIFT - 1) for picture in (shown, photo))
        with torch.no_grad():
            wanted = self.network(aim, self.content_layers)
        features = self.network(seen, self.content_layers + self.style_layers)
        content = torch.stack(
            [self._content(features[name], wanted[name], aim) for name in self.content_layers]
        ).sum()
        style = torch.stack([self._style(features[name], name) for name in self.style_layers]).sum()
        # Squared, a batch's tint would price what its photos have by chance. The derivative of the
        # expected tint's square is twice its mean times this batch's.
        tint, mean = edge_tint(shown, photo), self.tint
        lasting = (mean.square() + 2 * mean * (tint - tint.detach())).mean(dim=(1, 2)).sum()
        foreign = foreign_colours(shown, self.palette) if self.palette_weight else 0
        return LossTerms(
            self.content_weight * content,
            self.style_weight * style,
            self.tv_weight * total_variation(shown)
            + self.flat_weight * flat_variation(shown, photo)
            + self.patch_weight * unasked_colours(shown, photo)
            + self.palette_weight * foreign
            + self.lattice_weight * lattice_energy(shown)
            + self.edge_weight * lasting
            + self.gamut_weight * (restyled.float() - shown).square().mean(),
            tint.detach(),
        )

    @property
    def palette(self) -> Palette:
        """The painting's, as it was given."""
        return Palette(*(self.get_buffer(f"palette_{name}") for name in Palette._fields))

    def _content(self, features: Tensor, target: Tensor, photo: Tensor) -> Tensor:
        weight = None
        if self.content_focus:
            height, width = target.shape[-2:]
            weight = detail_weight(photo, self.content_focus, (height, width))
        return content_loss(features, target, self.units, weight)

    def _style(self, features: Tensor, layer: str) -> Tensor:
        gram = gram_matrix(features)
        distance = style_loss(gram, self.get_buffer(f"gram_{layer}"), self.units)
        if not self.covariance_weight:
            return distance
        target = self.get_buffer(f"covariance_{layer}")
        brush = style_loss(covariance_matrix(features, gram), target, self.units)
        return distance + self.covariance_weight * brush

    def remember(self, tint: Tensor) -> None:
        """Take a step's tint, from `LossTerms`, into the running mean that the next ones see."""
        self.tint.copy_(torch.lerp(tint, self.tint, TINT_MEMORY))
