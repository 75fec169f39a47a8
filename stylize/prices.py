"""The prices that keep pictures clean: what a viewer calls dirt, measured on pixels.

With content and style loss alone a network fakes a painting's fine texture. Each function here is
one way of doing so; `docs/pictures.md` shows what each price changes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    return (_squared_steps(picture) * flatness(photo)).mean()


def flatness(photo: Tensor, half: float = FLAT) -> Tensor:
    """How flat a photo is around each pixel.

    Args:
        photo: (N, C, H, W).
        half: squared differences of neighbouring pixels, averaged, that count half as flat.

    Returns:
        (N, 1, H, W), float32: 1 where nothing changes, towards 0 where much does.
    """
    activity = F.avg_pool2d(
        _squared_steps(photo).mean(1, keepdim=True),
        FLAT_WINDOW, stride=1, padding=FLAT_WINDOW // 2, count_include_pad=False,
    )  # fmt: skip
    return 1 / (1 + activity / half)


def _squared_steps(picture: Tensor) -> Tensor:
    """Squared differences to the neighbours below and on the right, added up; (N, C, H, W)."""
    picture = picture.float()
    down = F.pad(picture.diff(dim=-2), (0, 0, 0, 1))
    right = F.pad(picture.diff(dim=-1), (0, 1))
    return down.square() + right.square()


AREA = 16
"""Side in pixels of the areas whose mean colours are held against the photo's, each half over the
next: some two strokes. What varies within is a painting's brush, and free."""

CALM = 1e-3
"""Variance of a photo's areas, in each colour, that counts half as something to paint from. A calm
sky or the moon's ground: 3e-4 to 2e-3; whole photos: 8e-3 and more, half of them over 3.6e-2."""


def unasked_colours(picture: Tensor, photo: Tensor) -> Tensor:
    """Variance of areas' colours that the photo's colours do not tell: patches in a calm sky.

    A painting of blue and yellow asks for both in every picture. Where a photo gives no reason for
    either, a network puts them down by chance, in patches that are taken for things. So the mean
    colours of areas are predicted from the photo's, by the linear map that does it best in each
    picture (ridge regression), and what that misses is the price: whatever colours become, they are
    to become alike wherever the photo is alike, and what else the painting asks for must come
    within areas, as strokes.

    Args:
        picture, photo: (N, 3, H, W).

    Returns:
        A scalar, float32, of the range squared.
    """
    side = min(AREA, *picture.shape[-2:])
    painted, asked = (
        F.avg_pool2d(x.float(), side, stride=max(1, side // 2)).flatten(2) for x in (picture, photo)
    )  # (N, 3, areas)
    painted, asked = (x - x.mean(2, keepdim=True) for x in (painted, asked))
    with torch.autocast(picture.device.type, enabled=False):  # half the digits make another map
        # A change in what is all but the best map changes all but nothing: it has no derivative.
        predicted = _best_map(asked, painted.detach()) @ asked
    return (painted - predicted).square().mean()


def _best_map(known: Tensor, wanted: Tensor) -> Tensor:
    """(N, 3, P), (N, C, P), both without their means -> (N, C, 3), by ridge regression."""
    count = known.shape[2]
    # Inverted by hand, as solvers on a GPU wait for it, and a recorded step must not.
    a, b, c = (known @ known.mT / count + CALM * torch.eye(3, device=known.device)).unbind(1)
    across = torch.stack([torch.linalg.cross(*pair) for pair in ((b, c), (c, a), (a, b))], 2)
    volume = (a * across[..., 0]).sum(1)
    return (wanted @ known.mT / count) @ (across / volume[:, None, None])


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
