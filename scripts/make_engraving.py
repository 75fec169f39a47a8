"""Engrave a painting in black lines. Of The Starry Night: the picture that `engraving` learned.

    python scripts/make_engraving.py starry_night.jpg engraving.png

Needs scipy, which the demo's photos bring along.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from make_mosaic import draw
from PIL import Image
from scipy.ndimage import gaussian_filter

from stylize.imaging.files import Pixels

Plane = npt.NDArray[np.float64]

HEIGHT = 768

PAPER, INK = (240, 231, 210), (34, 28, 26)

PERIOD = 9.0
"""Pixels from line to line; 6 at the 512 px at which a painting is learned."""

EDGE, AROUND = 2.5, 9.0
"""Standard deviations in pixels of the scale of edges that lines follow, and of the area that has
one direction."""

DIRECTIONS, ROUNDS = 24, 12
"""Of the waves that lines are grown from, and how often all of them pass."""

CROSSING = 0.36 * np.pi
"""Angle at which a second set of lines crosses the first where it is dark."""

DARK, WHITE = 0.36, 0.94
"""Tones, of 0..1, below which lines are crossed, and above which there are none."""

EQUAL = 0.65
"""How much of the tones is their rank among all, so that paper, lines and crossed lines each get
their part of the picture."""

SOFT = 0.06
"""Of a line's own period, over which its edges are soft."""

MARGIN = 24
"""Pixels added all around, as what leaves the picture at one edge comes back at the other."""


def main() -> None:
    """Write the engraving of a painting."""
    draw(__doc__, engrave)


def engrave(painting: Pixels) -> Pixels:
    """Lines along a painting's strokes, the thicker the darker it is there; crossed in its darks.

    Args:
        painting: (H, W, 3); what comes back is `HEIGHT` high.
    """
    height, width = painting.shape[:2]
    size = max(1, round(width * HEIGHT / height)), HEIGHT
    small = np.asarray(Image.fromarray(painting).resize(size, Image.Resampling.LANCZOS))
    light = small @ np.array([0.299, 0.587, 0.114]) / 255
    tone = gaussian_filter(light, 3.0)
    lightness = (tone - tone.min()) / np.ptp(tone).clip(1e-9)
    tone = EQUAL * ranks(tone) + (1 - EQUAL) * lightness
    across = strongest_change(light)
    # How much ink a tone takes was chosen by eye; a little paper shows even in the darkest.
    first = ink(lines(across, 1), (0.98 - tone) * 0.72) * (tone < WHITE)
    second = ink(lines(across + CROSSING, 2), (DARK - tone) * 1.5) * (tone < DARK - 0.02)
    paper = ((1 - first) * (1 - second))[..., None]
    picture: Pixels = np.rint(paper * PAPER + (1 - paper) * INK).astype(np.uint8)
    return picture


def strongest_change(light: Plane) -> Plane:
    """Angle to the rows, across the strokes, from the structure tensor of lightness."""
    right = gaussian_filter(light, EDGE, order=(0, 1))
    down = gaussian_filter(light, EDGE, order=(1, 0))
    xx, xy, yy = (
        gaussian_filter(product, AROUND) for product in (right * right, right * down, down * down)
    )
    angle: Plane = np.arctan2(2 * xy, xx - yy) / 2
    return angle


def lines(across: Plane, seed: int) -> Plane:
    """Even lines at right angles to `across`: a wave of about -1..1, lowest within each line.

    Noise is filtered again and again, at each pixel by a wave of its own direction, as fingerprints
    are synthesised (Cappelli et al. 2000).
    """
    across = np.pad(across, MARGIN, mode="edge")
    height, width = across.shape
    nearest = np.rint(across / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    wave = np.random.default_rng(seed).normal(size=across.shape)
    for _ in range(ROUNDS):
        spectrum, filtered = np.fft.rfft2(wave), np.empty_like(wave)
        for number in range(DIRECTIONS):
            angle = np.pi * number / DIRECTIONS
            along_wave = np.abs(right * np.cos(angle) + down * np.sin(angle)) - 1 / PERIOD
            aside = down * np.cos(angle) - right * np.sin(angle)
            # A Gabor kernel half a period wide and almost twice as long.
            passed = np.exp(-2 * (np.pi * PERIOD) ** 2 * ((along_wave / 2) ** 2 + aside**2 * 0.81))
            here = nearest == number
            filtered[here] = np.fft.irfft2(spectrum * passed, across.shape)[here]
        wave = np.tanh(1.2 * filtered / filtered.std())
    wave /= np.sqrt(gaussian_filter(wave**2, 0.7 * PERIOD)).clip(1e-3)
    return wave[MARGIN:-MARGIN, MARGIN:-MARGIN]


def ink(wave: Plane, part: Plane) -> Plane:
    """How black it is, of 0..1, where lines cover so large a part of the paper."""
    black: Plane = 1 / (1 + np.exp((ranks(wave) - part) / SOFT))
    return black


def ranks(values: Plane) -> Plane:
    """Each value's place among all, of 0..1."""
    order = np.empty(values.size)
    order[np.argsort(values, axis=None)] = np.linspace(0, 1, values.size)
    return order.reshape(values.shape)


if __name__ == "__main__":
    main()
