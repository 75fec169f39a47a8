"""Grit: detail of a pixel or two, of which sharpened scans of paintings have more than any photo.

A network that is to have as much puts it down as dots and cloth, all alike, as it knows nothing to
make grit of; a scan's grit is no brushwork either.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from stylize.imaging.files import Pixels

HALVINGS = 9
"""Of the interval in which the blur's radius lies: to a hundredth of a pixel."""

WIDEST = 4.0
"""Radius in pixels at which white noise has less than a hundredth of its grit left."""


def grit(picture: Pixels) -> float:
    """Root mean square of what lightness loses to its nearest neighbours' mean, of 0..1.

    Photos of 320 px have 0.03, one in a hundred more than 0.087; paintings of 512 px have 0.015 to
    0.036, and 0.09 where the scan was sharpened.

    Args:
        picture: (H, W, 3).
    """
    light = picture.mean(axis=2) / 255
    padded = np.pad(light, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return float(np.sqrt(np.square(light - smooth).mean()))


def soften(picture: Pixels, most: float) -> Pixels:
    """Blur a picture as little as leaves it no more grit than `most`; not at all if it has less."""
    if grit(picture) <= most:
        return picture
    image = Image.fromarray(picture)
    least, enough = 0.0, WIDEST
    for _ in range(HALVINGS):
        radius = (least + enough) / 2
        if grit(np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))) > most:
            least = radius
        else:
            enough = radius
    return np.asarray(image.filter(ImageFilter.GaussianBlur(enough)))
