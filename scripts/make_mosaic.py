"""Lay a painting out in glass. Of Composition VII: the picture that `glass_mosaic` learned.

    python scripts/make_mosaic.py composition_vii.jpg mosaic.png

Needs scipy, which the demo's photos bring along.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree

from stylize.errors import StylizeError
from stylize.imaging.files import Pixels, read_rgb
from stylize.imaging.write import write_picture

HEIGHT, WIDTH = 640, 900
TESSERAE = 2600
"""Some 15 px wide; 12 at the 512 px at which a painting is learned."""

GROUT, JOINT = (40, 38, 36), 2.2
"""Between them: its colour, and how much nearer a pixel of glass is to its own centre, px."""

UNEVEN = 12.0
"""Levels by which a tessera's colour differs from the painting's."""

SOFT = 0.6
"""Pixels over which edges are soft."""


def main() -> None:
    """Write the mosaic of a painting."""
    draw(__doc__, mosaic)


def draw(about: str | None, drawing: Callable[[Pixels], Pixels]) -> None:
    """Write what a drawing makes of a painting, both named on the command line."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("painting", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    try:
        write_picture(given.target, Image.fromarray(drawing(read_rgb(given.painting))))
    except StylizeError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")


def mosaic(painting: Pixels) -> Pixels:
    """(HEIGHT, WIDTH, 3): the cells around random points, in the colours that it has there."""
    random = np.random.default_rng(1)
    colours = np.asarray(Image.fromarray(painting).resize((WIDTH, HEIGHT)))
    points = random.random((TESSERAE, 2)) * (HEIGHT, WIDTH)
    pixels = np.moveaxis(np.mgrid[:HEIGHT, :WIDTH], 0, -1).reshape(-1, 2)
    distance, nearest = cKDTree(points).query(pixels, k=2)
    rows, columns = points.astype(int).T
    glass = colours[rows, columns] + random.normal(0, UNEVEN, (TESSERAE, 3))
    picture: npt.NDArray[np.float64] = glass[nearest[:, 0]]
    picture[distance[:, 1] - distance[:, 0] < JOINT] = GROUT
    levels = picture.reshape(HEIGHT, WIDTH, 3).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(SOFT)))


if __name__ == "__main__":
    main()
