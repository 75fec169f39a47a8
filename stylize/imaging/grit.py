"""Grit: detail of a pixel or two, of which scans of paintings have more than brushes made.

It is specks, canvas and paper. A network that is to have as much puts it down as dots and cloth,
all alike, as it knows nothing to make grit of. Strokes hold it too, and it goes best by smoothing
along them, each within its own colours: paint ran that way, and ended at edges.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.imaging.files import Pixels
from stylize.imaging.tensors import to_pixels, to_tensor

AGAIN = 1.5
"""What has so many times the grit that may be after one pass is smoothed once more, as a sharpened
scan needs it. What two leave, a woodcut's edges say, is drawn."""

ALONG, EVENLY = 4.0, 1.2
"""Standard deviations in pixels of what is averaged over: along a stroke, and to all sides where
there is none."""

ALIKE = 0.45
"""Standard deviation of how far colours may lie apart to be averaged, in parts of the picture's
own: canvas and paper vary by a tenth, the two sides of an edge by one and more."""

SEEN = 0.7
"""Standard deviation in pixels of the blurred picture whose colours those are held against: a speck
of one pixel counts little in it, and goes; a dot of three keeps its colour, and stays."""

NO_STROKE, STROKE = 0.3, 0.6
"""How much one direction prevails, of 0..1, where there is surely no stroke, and surely one: a
third of a field of dots lies below the first, two thirds of The Starry Night above the second."""

DETAIL, AROUND = 1.0, 3.0
"""Standard deviations in pixels of the scale of edges that tell a stroke's direction, and of the
area that they are gathered from."""


def grit(picture: Pixels) -> float:
    """Root mean square of what lightness loses to its nearest neighbours' mean, of 0..1.

    Photos of 320 px have 0.03, one in a hundred more than 0.087; paintings of 512 px have 0.014 to
    0.037, and 0.09 where the scan was sharpened.

    Args:
        picture: (H, W, 3).
    """
    light = picture.mean(axis=2) / 255
    padded = np.pad(light, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return float(np.sqrt(np.square(light - smooth).mean()))


def soften(picture: Pixels, most: float) -> Pixels:
    """Smooth a picture along its strokes where it has more grit than `most`, twice at the most.

    Args:
        picture: (H, W, 3).
    """
    if grit(picture) <= most:
        return picture
    once = smooth_along_strokes(picture)
    return once if grit(once) <= AGAIN * most else smooth_along_strokes(once)


def smooth_along_strokes(picture: Pixels) -> Pixels:
    """Every pixel becomes a mean of what is alike along the stroke through it.

    The direction is the structure tensor's, in which lightness changes least around (Weickert 1999,
    Coherence-enhancing diffusion filtering). Colours that differ count less (Tomasi and Manduchi
    1998, Bilateral filtering), so that edges stay where a stroke ends.

    Args:
        picture: (H, W, 3).
    """
    pixels = to_tensor([picture])
    padded = F.pad(_blur(pixels.mean(1, keepdim=True), DETAIL), (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    tensor = _blur(torch.cat([across.square(), across * down, down.square()], dim=1), AROUND)
    xx, xy, yy = tensor[0]
    # Where lightness changes most; strokes lie at right angles to it.
    angle = torch.atan2(2 * xy, xx - yy) / 2
    prevails = torch.hypot(xx - yy, 2 * xy) / (xx + yy).clamp(min=torch.finfo(xx.dtype).tiny)
    stroke = ((prevails - NO_STROKE) / (STROKE - NO_STROKE)).clamp(0, 1)
    stroke = stroke.square() * (3 - 2 * stroke)
    none = EVENLY * (1 - stroke)
    seen, right, down = _blur(pixels, SEEN), torch.cos(angle), torch.sin(angle)
    apart = ALIKE * float(pixels.var(dim=(2, 3), unbiased=False).mean().sqrt())
    pixels = _mean_along(pixels, seen, apart, right, down, none, EVENLY)
    along = ALONG * stroke + none
    return to_pixels(_mean_along(pixels, seen, apart, -down, right, along, ALONG))[0]


def _mean_along(
    x: Tensor,
    seen: Tensor,
    apart: float,
    right: Tensor,
    down: Tensor,
    deviation: Tensor,
    widest: float,
) -> Tensor:
    """Means over a line through each pixel, weighted by Gauss's curve of place and of colour.

    Args:
        x: (1, C, H, W).
        seen: as x, the colours that those along the line are held against.
        apart: the standard deviation of the curve of colour.
        right, down: (H, W), the line's direction, of length 1.
        deviation: (H, W), the standard deviation of the curve of place, pixels, at most `widest`.
    """
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()
    reach = math.ceil(2 * widest)
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    place = -0.5 / deviation.clamp(min=0.05).square()  # less is the pixel alone
    colour = -0.5 / max(apart, 1e-3) ** 2  # in a picture of one colour all are alike
    for step in range(-reach, reach + 1):
        # In units of grid_sample: -1 and 1 are the picture's outer edges.
        points = [
            (2 * (columns + step * right) + 1) / width - 1,
            (2 * (rows + step * down) + 1) / height - 1,
        ]
        grid = torch.stack(points, dim=-1)[None]
        found = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        # Never nothing: where no colour is alike, all count.
        alike = torch.exp(colour * (found - seen).square().mean(1, keepdim=True)).clamp(min=1e-30)
        weight = torch.exp(step * step * place) * alike
        total += weight * found
        weights += weight
    return total / weights


def _blur(x: Tensor, deviation: float) -> Tensor:
    """(1, C, H, W) with Gauss's curve of so many pixels, edges extended."""
    reach, channels = math.ceil(3 * deviation), x.shape[1]
    curve = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    kernel = (curve / curve.sum()).expand(channels, 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel, groups=channels)
    x = F.pad(x, (0, 0, reach, reach), mode="replicate")
    return F.conv2d(x, kernel.mT, groups=channels)
