"""The perceptual losses: pure functions first, then `PerceptualLoss`, which adds them up.

Two kinds of units:

- "normalised" (the default): each style layer's Gram distance is divided by the mean square of its
  target, the content distance by the mean square of the photo's features. A loss of 1 is then
  "as wrong as answering zero", for every painting and every loss network, and a style strength of
  1 means the same everywhere.
- "paper": the raw sums of Johnson et al. 2016, for the papers' own weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylize.devices import convolving
from stylize.networks.perceptual import PerceptualNet

Units = Literal["normalised", "paper"]

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
    pixels = features.shape[-2] * features.shape[-1]
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)  # (N, C, H, W) -> (N, C, H*W)
        return flat @ flat.mT / pixels


def content_loss(features: Tensor, target: Tensor, units: Units = "normalised") -> Tensor:
    """Distance of a picture's features from the photo's, meaned over the batch.

    Args:
        features, target: (N, C, H, W).

    Returns:
        A scalar, float32. In "paper" units: the mean square (Johnson et al. 2016, equation 2).
    """
    distance = (features.float() - target.float()).square().flatten(1).mean(1)  # (N,)
    if units == "normalised":
        distance = distance / (target.float().square().flatten(1).mean(1) + TINY)
    return distance.mean()


def style_loss(gram: Tensor, target: Tensor, units: Units = "normalised") -> Tensor:
    """Distance of Gram matrices from the painting's, meaned over the batch.

    Args:
        gram: (N, C, C) as from `gram_matrix`.
        target: (C, C).

    Returns:
        A scalar, float32. In "paper" units: the squared Frobenius norm with Gram matrices divided
        by C * H * W (Johnson et al. 2016, equations 3 and 4).
    """
    squares = (gram - target).square()
    if units == "normalised":
        return squares.mean() / (target.square().mean() + TINY)
    return squares.sum(dim=(1, 2)).mean() / target.shape[0] ** 2


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, down plus across.

    Args:
        picture: (N, C, H, W).

    Returns:
        A scalar, float32; a side of 1 px adds nothing.
    """
    picture = picture.float()
    total = picture.new_zeros(())
    for dim in (-2, -1):
        if picture.shape[dim] > 1:
            total = total + picture.diff(dim=dim).square().mean()
    return total


FLAT, FLAT_WINDOW = 1e-3, 9
"""Squared differences of a photo's neighbouring pixels, averaged over so many pixels each way, at
which its surroundings count half as flat. Photos: calm sky 1e-5 to 1e-4, half of all pixels are
above 1e-3, foliage 1e-2."""


def flat_variation(picture: Tensor, photo: Tensor) -> Tensor:
    """Total variation where the photo is flat: the hatching that a viewer sees on calm skies.

    Where a photo gives a network nothing to turn into strokes, it makes up waves of one direction
    and some 6 px, which Gram matrices take for brushwork. Where there is something, strokes are
    free. Weighted as edge-aware smoothing is (Godard et al. 2017), but by surroundings, not edges.

    Args:
        picture, photo: (N, C, H, W).

    Returns:
        A scalar, float32.
    """
    activity = F.avg_pool2d(
        _squared_steps(photo).mean(1, keepdim=True),
        FLAT_WINDOW, stride=1, padding=FLAT_WINDOW // 2, count_include_pad=False,
    )  # fmt: skip
    return (_squared_steps(picture) / (1 + activity / FLAT)).mean()


def _squared_steps(picture: Tensor) -> Tensor:
    """Squared differences to the neighbours below and on the right, added up; (N, C, H, W)."""
    picture = picture.float()
    down = F.pad(picture.diff(dim=-2), (0, 0, 0, 1))
    right = F.pad(picture.diff(dim=-1), (0, 1))
    return down.square() + right.square()


LATTICE = 4
"""Pixels between neighbours at the transformer network's coarsest resolution."""

LATTICE_BLOCK = 8
"""Lattice cells, each way, over which a pattern must repeat to be called one: 32 px. Fewer would
blame ordinary texture, more would miss a grid that comes and goes with the picture."""


def lattice_energy(picture: Tensor) -> Tensor:
    """Energy of what repeats with the network's own lattice: the grid that a viewer sees.

    A decoder can fake a painting's fine texture by marking its lattice cells, all alike. Within
    blocks of cells each of the 4 x 4 places is averaged over the cells; texture of a picture's own
    averages out, a grid stays. Photos measure about 1e-4, paintings 3e-4, a grid that is plainly
    seen 3e-3.

    Args:
        picture: (N, C, H, W), cropped at the right and bottom only, so that the lattice begins at
            its corner.

    Returns:
        A scalar, float32: the mean variance over the places; 0 for a side below one cell.
    """
    block_h, block_w = (min(LATTICE_BLOCK, side // LATTICE) for side in picture.shape[-2:])
    if not (block_h and block_w):
        return picture.new_zeros((), dtype=torch.float32)
    height, width = (
        side // (block * LATTICE) * (block * LATTICE)
        for side, block in zip(picture.shape[-2:], (block_h, block_w), strict=True)
    )
    # (N, C, H, W) -> (N, C, blocks, cells, 4, blocks, cells, 4)
    n, c = picture.shape[:2]
    whole = picture[..., :height, :width].float()
    cells = whole.reshape(
        n, c, -1, block_h, LATTICE, width // (block_w * LATTICE), block_w, LATTICE
    )
    places = cells.mean(dim=(3, 6))  # (N, C, blocks, 4, blocks, 4)
    return places.var(dim=(-1, -3), correction=0).mean()


EDGE_STRIPS = ((0, 4), (4, 16), (16, 32), (32, 48))
"""Rows from an edge whose colours are held against the middle's: as far in as pictures were tinted,
the reach of what a network can know of an edge."""

TINT_MEMORY = 0.9
"""What the running mean of the tint keeps at each step: ten steps and more tell a band in every
picture, up to half of the range, from what photos have by chance, a tenth in one, and are short
beside the hundred steps in which a network learns another band."""


def edge_tint(picture: Tensor, photo: Tensor) -> Tensor:
    """How differently pictures change the photos' colours beside their edges and in the middle.

    A painting of blue and yellow asks for both in every picture, and the edges are the only places
    that a convolutional network can tell from others by anything but the photo: it learns to put
    one colour along the upper edge and another along the lower.

    Args:
        picture, photo: (N, 3, H, W).

    Returns:
        (4, strips, 3), float32, of the range: upper, lower, left and right edge, strips as in
        `EDGE_STRIPS`, means over the batch. No strip reaches beyond three eighths of a side; one
        that has no rows is 0.
    """
    change = picture.float() - photo.float()
    found = []
    for along in (change.mean(dim=(0, 3)), change.mean(dim=(0, 2))):  # (3, H), (3, W)
        side = along.shape[1]
        reach = min(EDGE_STRIPS[-1][1], side * 3 // 8)
        middle = along[:, reach : side - reach].mean(1)
        for rows in (along, along.flip(1)):  # each edge first
            for begin, end in EDGE_STRIPS:
                strip = rows[:, begin : min(end, reach)]
                found.append(strip.mean(1) - middle if strip.numel() else torch.zeros_like(middle))
    return torch.stack(found).reshape(4, len(EDGE_STRIPS), 3)


@dataclass(frozen=True)
class LossTerms:
    """What one batch costs: scalars still on the graph, each already with its weight."""

    content: Tensor
    style: Tensor
    regularisation: Tensor
    """Total variation, that of flat areas, lattice energy, edge tint, and what leaves 0..1."""
    tint: Tensor
    """(4, strips, 3): this batch's `edge_tint`, without a derivative."""

    @property
    def total(self) -> Tensor:
        """The number that is minimised."""
        return self.content + self.style + self.regularisation


def style_targets(
    network: PerceptualNet, painting: Tensor, layers: Sequence[str]
) -> dict[str, Tensor]:
    """The painting's Gram matrices.

    Args:
        painting: (1, 3, H, W), RGB in 0..1.

    Returns:
        {layer: (C, C)}, float32.
    """
    with torch.no_grad(), convolving(painting.device, "fp32"):
        return {
            layer: gram_matrix(features)[0] for layer, features in network(painting, layers).items()
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
        for layer, target in targets.items():
            self.register_buffer(f"gram_{layer}", target)
        self.tint: Tensor
        """(4, strips, 3), the running mean of what `remember` was given; part of a run's state."""
        self.register_buffer("tint", torch.zeros(4, len(EDGE_STRIPS), 3))

    def forward(
        self, restyled: Tensor, photo: Tensor, shift: tuple[int, int] = (0, 0)
    ) -> LossTerms:
        """What `restyled` costs as a picture of `photo`.

        The losses see what a file can hold, 0..1: a loss network is glad of colours darker than
        black, and a viewer then gets something else than what was trained. With a `gamut_weight` of
        0 they see everything, for nothing else would call a pixel back that has left.

        Args:
            restyled: (N, 3, H, W), RGB, may leave 0..1.
            photo: (N, 3, H, W), RGB in 0..1.
            shift: rows and columns that the loss network does not see, at the top and left.
        """
        down, right = shift
        shown = restyled.float()
        if self.gamut_weight:
            shown = shown.clamp(0, 1)
        with torch.no_grad():
            wanted = self.network(photo[..., down:, right:], self.content_layers)
        features = self.network(shown[..., down:, right:], self.content_layers + self.style_layers)
        content = torch.stack(
            [content_loss(features[name], wanted[name], self.units) for name in self.content_layers]
        ).sum()
        style = torch.stack(
            [
                style_loss(gram_matrix(features[name]), self.get_buffer(f"gram_{name}"), self.units)
                for name in self.style_layers
            ]
        ).sum()
        # Squared, a batch's tint would price what its photos have by chance. The derivative of the
        # expected tint's square is twice its mean times this batch's.
        tint, mean = edge_tint(shown, photo), self.tint.to(shown)
        lasting = (mean.square() + 2 * mean * (tint - tint.detach())).mean(dim=(1, 2)).sum()
        return LossTerms(
            self.content_weight * content,
            self.style_weight * style,
            self.tv_weight * total_variation(shown)
            + self.flat_weight * flat_variation(shown, photo)
            + self.lattice_weight * lattice_energy(shown)
            + self.edge_weight * lasting
            + self.gamut_weight * (restyled.float() - shown).square().mean(),
            tint.detach(),
        )

    def remember(self, tint: Tensor) -> None:
        """Take a step's tint, from `LossTerms`, into the running mean that the next ones see."""
        self.tint = torch.lerp(tint, self.tint.to(tint), TINT_MEMORY)
