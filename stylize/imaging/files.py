"""Picture files in: upright, sRGB, 8 bits."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from stylize.errors import StylizeError, UsageError
from stylize.imaging.colour import to_srgb

Pixels = npt.NDArray[np.uint8]

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".avif", ".jp2"}
)
"""What is taken for a picture when a folder is searched."""


def find_pictures(folder: Path) -> list[Path]:
    """All files below `folder` that look like pictures by their ending, sorted by path.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """
    check_folder(folder)
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )
    if not found:
        raise UsageError(
            f"no pictures in {folder} ({', '.join(sorted(EXTENSIONS))} are looked for)"
        )
    return found


def check_folder(folder: Path) -> None:
    """Raise UsageError where `folder` is not one."""
    if not folder.exists():
        raise UsageError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is wanted here")


def check_file(path: Path) -> None:
    """Raise UsageError where `path` is no file."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is wanted here")
    if not path.exists():
        raise UsageError(f"no such file: {path}")


def open_picture(path: Path, enough: int | None = None) -> Image.Image:
    """Read a picture the way a person sees it: upright, in sRGB, mode RGB or RGBA.

    Args:
        path: any file that Pillow reads.
        enough: the shorter side in pixels that will do; a JPEG may then come smaller than it is
            (never below `enough`), which decodes several times faster.

    Raises:
        UsageError: no such file.
        StylizeError: the file is no readable picture.
    """
    check_file(path)
    try:
        # A truncated or oversized picture must be an error here, not a warning and grey rows.
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if enough is not None:
                image.draft(None, (enough, enough))
            image.load()
            return to_srgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StylizeError(f"{path} is larger than stylize reads: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        reason = "is empty" if path.stat().st_size == 0 else f"is no readable picture: {error}"
        raise StylizeError(f"{path} {reason}") from error


def read_rgb(path: Path, enough: int | None = None) -> Pixels:
    """Read a picture as (H, W, 3) uint8, sRGB, transparency on white.

    Args and errors as `open_picture`.
    """
    return flatten(open_picture(path, enough))


def flatten(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8 of an RGB or RGBA picture; what is transparent is seen on white."""
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))
