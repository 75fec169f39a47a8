"""Restyle scikit-image's bundled photos with the styles that ship, as docs/images show them.

    python scripts/make_gallery.py

astronaut (NASA, public domain), chelsea (Stefan van der Walt, CC0), coffee (Rachel Michetti, CC0),
rocket (SpaceX, CC0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import stylize
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import resize, shrink_to
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.zoo import list_styles

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 384
"""Longer side of the pictures in the README, px; they are restyled at this size."""

STROKE_STYLE = "the_scream"

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def photo(name: str) -> Pixels:
    """One of scikit-image's pictures, (H, W, 3)."""
    pixels: Pixels = np.asarray(getattr(data, name)())
    return shrink_to(pixels, SIDE)


def strokes() -> Image.Image:
    """One photo with strokes of several sizes, and what mere enlargement would give."""
    restyle, picture = stylize.load(STROKE_STYLE), np.asarray(data.astronaut())
    height, width = picture.shape[:2]
    small = restyle(resize(picture, height // 2, width // 2))
    row = [picture, *(restyle.restyle(picture, scale) for scale in (1.0, 2.0, 3.0))]
    labels = ["photo", "--style-scale native", "--style-scale 2", "--style-scale 3"]
    return contact_sheet(
        [[*row, resize(small, height, width)]], [*labels, "half size, only enlarged"]
    )


def main() -> None:
    """Write the pictures of the README and of docs/."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    photos = [photo(name) for name in PHOTOS]
    names = [style.name for style in list_styles() if style.origin == "shipped"]
    shown = [name for name in names if not name.endswith("_batch")]
    styles = {name: stylize.load(name) for name in names}
    rows = [[one, *(styles[name](one) for name in shown)] for one in photos]
    write_picture(IMAGES / "gallery.jpg", contact_sheet(rows, ["photo", *shown]))
    instance, batch = styles["starry_night"], styles["starry_night_batch"]
    rows = [[one, instance(one), batch(one)] for one in photos]
    sheet = contact_sheet(rows, ["photo", "instance norm", "batch norm"])
    write_picture(IMAGES / "instance_against_batch.jpg", sheet)
    write_picture(IMAGES / "strokes.jpg", strokes())


if __name__ == "__main__":
    main()
