"""What the network paints on: faint strokes in whirls, the same for every photo.

A network of convolutions sees nothing in a clear sky, so whatever it paints there repeats: one
small stroke, evenly set, all in one direction. Painters prime a canvas; its grain and the colours
that shine through make them vary their strokes. So a fixed field of strokes that follow a flow,
`models/ground.png`, is added to the photo, and the network learns to paint from it what the photo
leaves open. Its strength is in parts of the photo's own standard deviation, so that instance norm
still divides a photo's contrast and brightness out. (Ulyanov et al., "Improved Texture Networks",
2017, draw noise anew for every picture; fixed, the same photo gives the same picture, on any
backend, whole or in bands.)

No framework here, so that everything that runs the network can take its field from here.
`scripts/make_ground.py` drew it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylize.paths import shipped

GROUND_PERIOD = 1024
"""Side of the field in pixels, after which it repeats."""

FLAT = 1e-4
"""Pictures whose standard deviation is no more than this, 0 to 1, get no ground: of a grey one the
deviation is what rounding left, and instance norm would make a whole picture of it."""

Field = npt.NDArray[np.float32]


def ground_strength(ground: float, contrast: float) -> float:
    """The field's standard deviation under one picture.

    Args:
        ground: the network's, in parts of the picture's own.
        contrast: the picture's standard deviation, 0 to 1.
    """
    return ground * contrast if contrast > FLAT else 0.0


def ground_at(
    rows: npt.NDArray[Any], columns: npt.NDArray[Any], turned: bool = False, stretch: float = 1.0
) -> Field:
    """The field at some rows and columns of a picture.

    Args:
        rows: (H,), whole numbers from 0.
        columns: (W,).
        turned: whether they are of a picture that lies on its side, and the field with it.
        stretch: pixels of the picture from one of the field to the next.

    Returns:
        (H, W), float32, mean 0 and standard deviation 1 over all of it.

    Example:
        >>> import numpy as np
        >>> ground_at(np.arange(3), np.arange(4)).shape
        (3, 4)
    """
    field = ground_tile().T if turned else ground_tile()
    for axis, numbers in enumerate((rows, columns)):
        before, part = ground_places(numbers, stretch)
        near = field.take(before, axis)  # twice, a quarter of np.ix_'s time
        if part.any():
            far = field.take((before + 1) % GROUND_PERIOD, axis)
            far -= near
            far *= part if axis else part[:, None]
            near += far
        field = near
    return field


def ground_places(
    numbers: npt.NDArray[Any], stretch: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Where rows or columns of a picture lie on the field.

    Args:
        numbers: of the rows or columns, whole numbers from 0.
        stretch: as for `ground_at`.

    Returns:
        The field's row or column before each, and the part of the way to the next, 0 to 1.
    """
    places = numbers / stretch
    before = np.floor(places)
    return before.astype(np.int64) % GROUND_PERIOD, (places - before).astype(np.float32)


@cache
def ground_tile() -> Field:
    """One period of the field, (GROUND_PERIOD, GROUND_PERIOD), float32."""
    with Image.open(shipped("models") / "ground.png") as picture:
        pixels = np.asarray(picture)
    # By 256 levels, not by a million pixels: a third of the time.
    levels, parts = np.arange(256), np.bincount(pixels.ravel(), minlength=256) / pixels.size
    distance = levels - levels @ parts
    deviation = np.sqrt(distance**2 @ parts)
    tile: Field = (distance / deviation).astype(np.float32)[pixels]
    return tile
