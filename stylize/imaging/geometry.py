"""Sizes and crops of pictures as numpy."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stylize.imaging.files import Pixels


def resize_shorter_side(picture: Pixels, side: int) -> Pixels:
    """Resize so that the shorter side has `side` pixels; the longer one keeps the proportions."""
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def crop_centre(picture: Pixels, side: int) -> Pixels:
    """(H, W, 3) -> (side, side, 3) from the middle; both sides must have that many pixels."""
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def shrink_to(picture: Pixels, longer_side: int) -> Pixels:
    """Shrink so that the longer side has at most `longer_side` pixels; never enlarge."""
    height, width = picture.shape[:2]
    scale = longer_side / max(height, width)
    if scale >= 1:
        return picture
    return resize_shorter_side(picture, max(1, round(min(height, width) * scale)))
