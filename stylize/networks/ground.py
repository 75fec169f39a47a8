"""What the network paints on: a faint, irregular pattern, the same for every photo.

A network of convolutions sees nothing in a clear sky, so whatever it paints there repeats: one
small stroke, evenly set, all in one direction. Painters prime a canvas; its grain and the colours
that shine through make them vary their strokes. So a fixed random field, smooth on two scales, is
added to the photo, and the network learns to paint from it what the photo leaves open. Its strength
is in parts of the photo's own standard deviation, so that instance norm still divides a photo's
contrast and brightness out. (Ulyanov et al., "Improved Texture Networks", 2017, draw noise anew for
every picture; fixed, the same photo gives the same picture, on any backend, whole or in bands.)

No framework here, so that everything that runs the network can take its field from here.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

TILES = ((512, 4.0), (389, 1.5))
"""(side, sigma) in pixels of the two fields that are added up. Each repeats after `side`, but no
eye finds that, as the other is elsewhere then. The coarse one is as wide as a stroke is long, the
fine one as a stroke is wide."""

GROUND_PERIOD = math.prod(side for side, _ in TILES)
"""Pixels after which the whole field repeats."""

FLAT = 1e-4
"""Pictures whose standard deviation is no more than this, 0 to 1, get no ground: of a grey one the
deviation is what rounding left, and instance norm would make a whole picture of it."""

SEED = 2017

Field = npt.NDArray[np.float32]


def ground_strength(ground: float, contrast: float) -> float:
    """The field's standard deviation under one picture.

    Args:
        ground: the network's, in parts of the picture's own.
        contrast: the picture's standard deviation, 0 to 1.
    """
    return ground * contrast if contrast > FLAT else 0.0


def ground_at(rows: npt.NDArray[Any], columns: npt.NDArray[Any], turned: bool = False) -> Field:
    """The field at some rows and columns of a picture.

    Args:
        rows: (H,), whole numbers from 0.
        columns: (W,).
        turned: whether they are of a picture that lies on its side, and the field with it.

    Returns:
        (H, W), float32, mean 0 and standard deviation 1 over all of it.

    Example:
        >>> import numpy as np
        >>> ground_at(np.arange(3), np.arange(4)).shape
        (3, 4)
    """
    total = np.zeros((len(rows), len(columns)), np.float32)
    for tile in ground_tiles():
        side = tile.shape[0]
        tile = tile.T if turned else tile
        total += tile[rows % side].take(columns % side, axis=1)  # a quarter of np.ix_'s time
    return total


@cache
def ground_tiles() -> tuple[Field, ...]:
    """One period of each of the fields that `ground_at` adds up, (S, S), float32."""
    # Raw bits: numpy promises the same ones in every version, and of its distributions it does not.
    bits = np.random.PCG64(SEED)
    return tuple(_tile(bits, side, sigma) for side, sigma in TILES)


def _tile(bits: np.random.PCG64, side: int, sigma: float) -> Field:
    """White noise under a Gaussian of `sigma` pixels, wrapped around."""
    noise = bits.random_raw(side * side).reshape(side, side) / 2.0**64
    frequencies = np.fft.fftfreq(side)
    gain = np.exp(-2 * (np.pi * sigma * frequencies) ** 2)
    spectrum = np.fft.fft2(noise) * gain[:, None] * gain
    spectrum[0, 0] = 0
    field = np.fft.ifft2(spectrum).real
    found: Field = (field / (field.std() * np.sqrt(len(TILES)))).astype(np.float32)
    return found
