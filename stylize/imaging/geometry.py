"""Sizes and crops of pictures as numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylize.imaging.files import Pixels

THUMBNAIL_SIDE = 64
"""Pixels; enough for a list, and 12 kB in a model file."""


def resize(picture: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Resample to another size by Lanczos, which is clamped where it overshoots.

    Args:
        picture: (H, W, 3) or (H, W), uint8 or uint16 levels or floats in 0..1.
    """
    if picture.shape[:2] == (height, width):
        return picture
    if picture.dtype == np.uint8:
        image = Image.fromarray(picture)
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    if picture.ndim == 3:  # Pillow resamples other types one channel at a time
        return np.dstack([resize(picture[..., channel], height, width) for channel in range(3)])
    image = Image.fromarray(picture.astype(np.float32))
    values = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    whole = np.issubdtype(picture.dtype, np.integer)
    values = np.rint(values).clip(0, np.iinfo(picture.dtype).max) if whole else values.clip(0, 1)
    return values.astype(picture.dtype)


def resize_shorter_side(picture: Pixels, side: int) -> Pixels:
    """Resize so that the shorter side has `side` pixels; the longer one keeps the proportions."""
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    return resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))


def crop_centre(picture: Pixels, side: int) -> Pixels:
    """(H, W, 3) -> (side, side, 3) from the middle; both sides must have that many pixels."""
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def fitted_sides(
    height: int, width: int, longer_side: int, enlarge: bool = False
) -> tuple[int, int]:
    """Height and width of a picture whose longer side may have `longer_side` pixels at the most,
    or, to be enlarged where it has fewer, is to have them.
    """
    scale = longer_side / max(height, width)
    if not enlarge:
        scale = min(1.0, scale)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink_to(picture: npt.NDArray[Any], longer_side: int) -> npt.NDArray[Any]:
    """Shrink to `fitted_sides`; never enlarge."""
    height, width = picture.shape[:2]
    return resize(picture, *fitted_sides(height, width, longer_side))


def thumbnail(picture: Pixels) -> Pixels:
    """The square in the middle, (THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)."""
    square = crop_centre(picture, min(picture.shape[:2]))
    return np.array(resize(square, THUMBNAIL_SIDE, THUMBNAIL_SIDE))
