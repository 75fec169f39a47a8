"""Restyle scikit-image's bundled photos with the styles that ship, as docs/images show them.

    python scripts/make_gallery.py

astronaut (NASA, public domain), chelsea (Stefan van der Walt, CC0), coffee (Rachel Michetti, CC0),
rocket (SpaceX, CC0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage import data

import stylize
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import shrink_to
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 448
"""Longer side of the pictures in the README, px; they are restyled at this size."""

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def photo(name: str) -> Pixels:
    """One of scikit-image's pictures, (H, W, 3)."""
    pixels: Pixels = np.asarray(getattr(data, name)())
    return shrink_to(pixels, SIDE)


def main() -> None:
    """Write the README's pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    instance, batch = stylize.load("starry_night"), stylize.load("starry_night_batch")
    photos = [photo(name) for name in PHOTOS]
    rows = [[one, instance(one), batch(one)] for one in photos]
    sheet = contact_sheet(rows, ["photo", "instance norm", "batch norm"])
    write_picture(IMAGES / "instance_against_batch.jpg", sheet)
    write_picture(IMAGES / "starry_night.jpg", contact_sheet([row[:2] for row in rows[1:2]]))


if __name__ == "__main__":
    main()
