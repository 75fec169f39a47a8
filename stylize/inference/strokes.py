"""How large the strokes of a restyled picture are: coarse to fine.

A network trained on small pictures paints strokes some pixels wide; on a phone photo they are too
fine to be seen, and the style seems to vanish. So a small copy is restyled first, then enlarged,
mixed with some of the photo, and restyled again at the next size, up to the photo's own. Large
strokes and shapes come from the small sizes, crisp edges and texture from the last.

On a small photo they are too coarse, and a face loses its eyes to them: it is restyled enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stylize.errors import UsageError
from stylize.imaging.colour import AnyPixels, blend
from stylize.imaging.geometry import resize

Restyle = Callable[[AnyPixels, Callable[[float], None], float], AnyPixels]

AUTO_PIXELS = 1_000_000
"""A photo is to look as styled as a copy of it with so many pixels."""

NEAR_NATIVE = 1.25
"""Scales up to this factor from 1 are left at 1: more work for strokes that nobody tells apart."""

FINEST_AUTO = 0.7
"""Small photos are enlarged by no more than this asks for, twice the pixels: a face of 80 px then
keeps its eyes, and at 0.5, twice the work again, little is painted any more."""

LARGEST_STEP = 2.0
"""Factor by which sides grow from one size to the next, at the most."""

PHOTO_SHARE = 0.4
"""Of the photo, mixed into the enlarged picture before it is restyled again: with less, edges
soften and colours become flat; with more, the large strokes are painted over."""

MIN_SCALE, MAX_SCALE = 0.25, 64.0


def parse_style_scale(text: str) -> float | None:
    """The factor of --style-scale; None for auto, 1 for native.

    Raises:
        UsageError: it is neither of these words nor a number in range.

    Example:
        >>> parse_style_scale("auto"), parse_style_scale("native"), parse_style_scale("2.5")
        (None, 1.0, 2.5)
    """
    if text == "auto":
        return None
    if text == "native":
        return 1.0
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not MIN_SCALE <= scale <= MAX_SCALE:
        raise UsageError(
            f"--style-scale {text!r}: give auto, native, or a number from {MIN_SCALE:g} to "
            f"{MAX_SCALE:g}; 2 makes strokes twice as large"
        )
    return scale


def auto_scale(height: int, width: int) -> float:
    """The scale at which a photo looks as styled as its copy of AUTO_PIXELS.

    Example:
        >>> auto_scale(800, 1000), auto_scale(3000, 4000), auto_scale(300, 400)
        (1.0, 3.4641016151377544, 0.7)
    """
    scale = max(FINEST_AUTO, math.sqrt(height * width / AUTO_PIXELS))
    return 1.0 if 1 / NEAR_NATIVE <= scale < NEAR_NATIVE else scale


def plan_sizes(height: int, width: int, scale: float) -> list[tuple[int, int]]:
    """The sizes at which a picture is restyled, one after the other.

    Example:
        >>> plan_sizes(3000, 4000, 4.0)
        [(750, 1000), (1500, 2000), (3000, 4000)]
        >>> plan_sizes(300, 400, 0.5)  # finer strokes: enlarged, restyled, shrunk
        [(600, 800)]
    """
    steps = max(0, math.ceil(math.log(scale, LARGEST_STEP) - 1e-9))
    factors = [scale ** (step / steps - 1) for step in range(steps + 1)] if steps else [1 / scale]
    return [(max(1, round(height * f)), max(1, round(width * f))) for f in factors]


def restyle_coarse_to_fine(
    restyle: Restyle,
    pixels: AnyPixels,
    scale: float,
    on_progress: Callable[[float], None] = lambda done: None,
) -> AnyPixels:
    """Restyle a picture with strokes `scale` times as large as the network's own.

    Args:
        restyle: restyles pixels of any size, reports the part that is done, and stretches the
            ground: what all sizes paint on is the same then, and strokes follow those beneath.
        pixels: (H, W, 3).
        scale: MIN_SCALE to MAX_SCALE; 1 is one pass at the picture's own size.
    """
    height, width = pixels.shape[:2]
    sizes = plan_sizes(height, width, scale)
    total = sum(h * w for h, w in sizes)
    done = 0.0
    restyled: AnyPixels | None = None
    for size in sizes:
        part = size[0] * size[1] / total
        picture = resize(pixels, *size)
        if restyled is not None:
            picture = blend(resize(restyled, *size), picture, PHOTO_SHARE)
        before = done
        restyled = restyle(
            picture,
            lambda x, a=before, b=part: on_progress(a + b * x),  # type: ignore[misc]
            max(size) / max(sizes[0]),
        )
        done += part
    assert restyled is not None
    return resize(restyled, height, width)
