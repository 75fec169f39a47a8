"""Restyle scikit-image's bundled pictures with what ships: docs/gallery.md and docs/images.

    python scripts/make_gallery.py

astronaut (NASA, public domain), chelsea (Stefan van der Walt, CC0), coffee (Rachel Michetti, CC0),
rocket (SpaceX, CC0); camera (Lav Varshney, CC0), horse (public domain), hubble_deep_field (NASA,
public domain), moon (NASA, public domain).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import stylize
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import resize, shrink_to
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.inference.stylizer import Stylizer
from stylize.zoo import list_styles

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
FIRST_SEEN = ("chelsea", "rocket")
"""At the top of the README, three pictures wide."""

SIDE = 384
"""Longer side of the pictures, px; they are restyled as `stylize apply` restyles such files."""

HARD = ("camera", "horse", "hubble_deep_field", "moon")
HARD_SIDE = 288
"""What instance norm may fill with blobs and noise: flat sky, white, night, low contrast."""

STROKE_STYLE = "the_scream"

PRINT_STYLES = ("starry_night", "engraving", "udnie")
PRINT_FACTOR = 4

TWINS_PHOTO, TWINS_SIDE = "astronaut", 288

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = DOCS / "images"

PAGE = """# Every style on the same four photos

Made by `python scripts/make_gallery.py` with what ships, without a GPU;
[the cards](../models/README.md) tell how each was trained. The photos come with scikit-image:
astronaut (NASA), Chelsea the cat (Stefan van der Walt), coffee (Rachel Michetti), rocket (SpaceX).
"""

HARD_PAGE = """
## Half as wide, twice as fast

Each style but the engraving has a twin of half the width, `starry_night_fast` and so on, for slow
machines and many pictures. Above by the style, below by its twin:

![One photo in seven styles, and by the fast twin of each](images/fast.jpg)

The twins paint the same strokes in the same colours; their held-out losses are 2 to 8 % higher
([README](../README.md#restyle-photos)). The engraving has none: half as wide, after 600 to 6,500
steps, its lines came out 45 to 55 dB from float32 in bf16, where what ships has 50 and more.

## Where it is hard

Instance norm divides by the contrast of each feature, and where there is none it has only noise to
enlarge. A flat sky (Lav Varshney), white paper, the night (NASA), little contrast (NASA):

![Four hard pictures in every style](images/hard.jpg)

White paper and flat sky are painted in the painting's strokes, as each style has learned on a
ground, with a halo around what stands before them. No borders. Instance norm makes as much of the
contrast in a calm sky as of that in a crowd, and where a picture gives no reason for them, areas
of the painting's main colours came by chance, until they had [a price](pictures.md#patches).
Starry Night sets faint dots into the darkest areas; `--strength 0.6` softens them. A face below
40 px loses features to the strokes, and in the glass mosaic one of 60, the astronaut's above, is
pieces of glass: `--style-scale 0.5` paints it more finely. The engraving draws the night, too, in
black lines on white paper.
"""


def photo(name: str, side: int = SIDE) -> Pixels:
    """One of scikit-image's pictures, (H, W, 3)."""
    pixels = np.asarray(getattr(data, name)())
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    if pixels.ndim == 2:
        pixels = np.dstack([pixels] * 3)
    small: Pixels = shrink_to(pixels, side)
    return small


def rows(photos: Sequence[Pixels], styles: Sequence[Stylizer]) -> list[list[Pixels]]:
    """Each photo and what the styles make of it."""
    return [[one, *(style.restyle(one, None) for style in styles)] for one in photos]


def folded(rows: Sequence[Sequence[Pixels]], labels: Sequence[str], width: int) -> Image.Image:
    """A contact sheet of many columns as several, of `width` columns each, below each other."""
    sheets = [
        contact_sheet([row[first : first + width] for row in rows], labels[first : first + width])
        for first in range(0, len(labels), width)
    ]
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    page = Image.new("RGB", size, "white")
    for index, sheet in enumerate(sheets):
        page.paste(sheet, (0, sum(before.height for before in sheets[:index])))
    return page


def strokes() -> Image.Image:
    """One photo with strokes of several sizes, and what mere enlargement would give."""
    restyle, picture = stylize.load(STROKE_STYLE, precision="fp32"), np.asarray(data.astronaut())
    height, width = picture.shape[:2]
    small = restyle(resize(picture, height // 2, width // 2))
    row = [picture, *(restyle.restyle(picture, scale) for scale in (1.0, 2.0, 3.0))]
    labels = ["photo", "--style-scale native", "--style-scale 2", "--style-scale 3"]
    return contact_sheet(
        [[*row, resize(small, height, width)]], [*labels, "half size, only enlarged"]
    )


def small_photo(styles: Sequence[Stylizer]) -> list[list[Pixels]]:
    """A small photo's face at twice its size: a row of styles for each size of strokes."""
    picture, face = np.asarray(data.astronaut()), np.s_[10:160, 145:295]
    rows = [
        [picture, *(style.restyle(picture, scale) for style in styles)]
        for scale in (1.0, None, 0.5)
    ]
    return [[resize(one[face], 300, 300) for one in row] for row in rows]


def prints(styles: Sequence[Stylizer]) -> list[list[Pixels]]:
    """A cat's eye four times as large: restyled and then enlarged, and the other way round."""
    picture = np.asarray(data.chelsea())
    height, width = (side * PRINT_FACTOR for side in picture.shape[:2])
    eye = np.s_[360:660, 480:900]
    after = [resize(style.restyle(picture, None), height, width) for style in styles]
    before = [style.restyle(resize(picture, height, width), None) for style in styles]
    return [[one[eye] for one in row] for row in (after, before)]


def twins(styles: dict[str, Stylizer], shown: Sequence[str]) -> Image.Image:
    """One photo in each style that has a twin of half the width, and below it by the twin."""
    one = photo(TWINS_PHOTO, TWINS_SIDE)
    names = [name for name in shown if f"{name}_fast" in styles]
    sheet = [[styles[name + end].restyle(one, None) for name in names] for end in ("", "_fast")]
    return folded(sheet, names, 4)


def page(styles: dict[str, Stylizer]) -> str:
    """docs/gallery.md, with a strip of pictures for each style."""
    text = PAGE
    photos = [photo(name) for name in PHOTOS]
    for name, style in styles.items():
        strip = contact_sheet([[style.restyle(one, None) for one in photos]])
        write_picture(IMAGES / f"gallery-{name}.jpg", strip)
        text += f"\n## {name}\n\n{style.card.title}\n\n"
        text += f"![Four photos in the style {name}](images/gallery-{name}.jpg)\n"
    return text + HARD_PAGE


def main() -> None:
    """Write the pictures of the README and of docs/, and docs/gallery.md."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    photos = {name: photo(name) for name in PHOTOS}
    shipped = [style for style in list_styles() if style.origin == "shipped"]
    styles = {style.name: stylize.load(style.name, precision="fp32") for style in shipped}
    shown = {style.name: styles[style.name] for style in shipped if not style.twin}
    labels = ["photo", *shown]
    norms = ["photo", "instance norm", "batch norm"]
    columns = list(shown.values())
    first_seen = rows([photos[name] for name in FIRST_SEEN], columns)
    write_picture(IMAGES / "gallery.jpg", folded(first_seen, labels, 3))
    hard = [photo(name, HARD_SIDE) for name in HARD]
    write_picture(IMAGES / "hard.jpg", contact_sheet(rows(hard, columns), labels))
    for name in ("starry_night", "the_scream"):
        pair = [styles[name], styles[f"{name}_batch"]]
        sheet = contact_sheet(rows([*photos.values()], pair), norms)
        write_picture(IMAGES / f"instance_against_batch-{name}.jpg", sheet)
    write_picture(IMAGES / "fast.jpg", twins(styles, [*shown]))
    write_picture(IMAGES / "strokes.jpg", strokes())
    write_picture(IMAGES / "small-photos.jpg", contact_sheet(small_photo(columns), labels))
    printed = prints([styles[name] for name in PRINT_STYLES])
    write_picture(IMAGES / "prints.jpg", contact_sheet(printed, PRINT_STYLES))
    (DOCS / "gallery.md").write_text(page(shown), encoding="utf-8")


if __name__ == "__main__":
    main()
