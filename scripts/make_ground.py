"""Draw the field that networks paint on: `models/ground.png`.

    python scripts/make_ground.py models/ground.png

Strokes that follow the contours of a smooth landscape: white noise, smeared along the flow. Every
style that ships was trained on it, so another one asks for new styles.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylize.networks.ground import GROUND_PERIOD

SEED = 2017

SWIRL = 40.0
"""Sigma of the landscape in pixels: its whirls are some 150 px apart."""

LENGTH, WIDTH = 12.0, 1.5
"""Sigmas of a stroke in pixels, as long and as wide as a painting's are at 512 px."""

DIRECTIONS = 24
"""In which strokes are drawn, over half a turn; between two of them both are mixed."""

SOFT = 0.7
"""Sigma in pixels over which the seams between directions are smoothed."""

GRAIN = 4.0
"""Sigma in pixels of the patches that make strokes end and differ in colour."""

STROKES, GRAINS, LANDSCAPE = 0.55, 0.3, 0.15
"""Their parts of the variance. Whirls have eyes, light or dark, by the landscape itself."""

LEVELS = 32
"""Of 255, a standard deviation: four of them are kept."""

Plane = npt.NDArray[np.float64]


def main() -> None:
    """Write the picture."""
    levels = np.clip(np.round(128 + LEVELS * draw_ground()), 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(sys.argv[1], optimize=True)


def draw_ground() -> Plane:
    """(GROUND_PERIOD, GROUND_PERIOD), mean 0 and standard deviation 1, wrapped around."""
    bits = np.random.PCG64(SEED)
    landscape = smoothed(white_noise(bits), SWIRL, SWIRL)
    strokes = strokes_along(landscape, white_noise(bits))
    grain = smoothed(white_noise(bits), GRAIN, GRAIN)
    return standardised(
        np.sqrt(STROKES) * strokes + np.sqrt(GRAINS) * grain + np.sqrt(LANDSCAPE) * landscape
    )


def strokes_along(landscape: Plane, noise: Plane) -> Plane:
    """Noise, smeared along the contours of a landscape."""
    down, right = (np.roll(landscape, -1, axis) - np.roll(landscape, 1, axis) for axis in range(2))
    direction = np.arctan2(right, -down) * (DIRECTIONS / np.pi) % DIRECTIONS
    strokes = np.zeros_like(noise)
    for number in range(DIRECTIONS):
        apart = np.abs(direction - number)
        share = np.maximum(0, 1 - np.minimum(apart, DIRECTIONS - apart))
        strokes += share * smoothed(noise, LENGTH, WIDTH, np.pi * number / DIRECTIONS)
    return smoothed(strokes, SOFT, SOFT)


def smoothed(plane: Plane, along: float, across: float, angle: float = 0.0) -> Plane:
    """Under a Gaussian of two sigmas in pixels, turned by `angle`, wrapped around; standardised."""
    rows, columns = (
        frequencies(GROUND_PERIOD) for frequencies in (np.fft.fftfreq, np.fft.rfftfreq)
    )
    cos, sin = np.cos(angle), np.sin(angle)
    u = along * (cos * columns + sin * rows[:, None])
    v = across * (cos * rows[:, None] - sin * columns)
    spectrum = np.fft.rfft2(plane) * np.exp(-2 * np.pi**2 * (u * u + v * v))
    return standardised(np.fft.irfft2(spectrum, plane.shape))


def white_noise(bits: np.random.PCG64) -> Plane:
    """Raw bits: numpy promises the same ones in every version, and of its distributions not."""
    return bits.random_raw(GROUND_PERIOD**2).reshape([GROUND_PERIOD] * 2) / 2.0**64


def standardised(plane: Plane) -> Plane:
    """Mean 0, standard deviation 1."""
    result: Plane = (plane - plane.mean()) / plane.std()
    return result


if __name__ == "__main__":
    main()
