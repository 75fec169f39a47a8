"""Picture files in: upright, sRGB, 8 bits."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from stylize.errors import StylizeError, UsageError, one_line
from stylize.imaging.colour import on_white, to_srgb

Pixels = npt.NDArray[np.uint8]

LOG = logging.getLogger("stylize")

HEIF = frozenset({".heic", ".heif", ".hif"})

EXTENSIONS = HEIF | {
    ".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".avif", ".jp2",
}  # fmt: skip
"""What is taken for a picture when a folder is searched."""


def find_pictures(folder: Path) -> list[Path]:
    """All files below `folder` that look like pictures by their ending, in one order anywhere.

    What is hidden, itself or its folder, as previews in `.thumbnails` are, is nobody's photo. A
    folder below that is closed to this user is left out, with a warning.

    Raises:
        UsageError: there is no such folder, or no picture in it.
        StylizeError: it is closed to this user.
    """
    check_folder(folder)
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_warn):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += (
            path for path in paths if path.suffix.lower() in EXTENSIONS and is_worth_reading(path)
        )
    found.sort(key=lambda path: path.parts)  # paths themselves sort otherwise on Windows
    if not found:
        raise UsageError(
            f"no pictures in {folder} ({', '.join(sorted(EXTENSIONS))} are looked for)"
        )
    return found


def is_worth_reading(path: Path) -> bool:
    """Whether it is a file, or a link to nothing, which is named as such when it is read: no
    folder, and no pipe, which would be waited for.
    """
    return path.is_file() or (path.is_symlink() and not path.exists())


def _warn(error: OSError) -> None:
    LOG.warning("%s is left out: %s", error.filename, error.strerror)


def check_folder(folder: Path) -> None:
    """Raise UsageError where `folder` is not one, StylizeError where it is closed to this user."""
    if not folder.exists():
        raise UsageError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is wanted here")
    if not os.access(folder, os.R_OK | os.X_OK):  # which a search would take for an empty one
        raise StylizeError(f"cannot look into {folder}: its permissions do not let you")


def check_file(path: Path) -> None:
    """Raise UsageError where `path` is no file."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is wanted here")
    if path.is_file():
        return
    if path.exists():
        raise UsageError(f"{path} is a pipe or a device; a file is wanted here")
    if path.parts[0].lower() in ("http:", "https:"):
        url = str(path).replace(":/", "://", 1)  # a path has no empty folder between
        raise UsageError(f"{url} is a URL; save it first, and give the file")
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
    prepare_heif(path)
    # An oversized picture must be an error here, not a warning.
    with explained(str(path), path), warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if enough is not None:
            image.draft(None, (enough, enough))
        image.load()
        return to_srgb(upright(image)[0])


def upright(image: Image.Image) -> tuple[Image.Image, str]:
    """A loaded picture turned as its Exif says; as it lies where that is damaged, and how it is."""
    try:
        return ImageOps.exif_transpose(image), ""
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises all kinds of errors at broken Exif
        return image, one_line(error)


@contextmanager
def explained(name: str, source: Path | bytes) -> Iterator[None]:
    """Turn all that Pillow raises at a broken picture into one line.

    Args:
        name: what the line calls the picture.
        source: its file, or its bytes.

    Raises:
        StylizeError: the picture cannot be read.
    """
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StylizeError(f"{name} is larger than stylize reads: {error}") from error
    except UsageError:
        raise
    except StylizeError as error:
        if name in str(error):
            raise
        raise StylizeError(f"{name}: {error}") from error
    except MemoryError as error:
        raise StylizeError(f"{name} does not fit into the memory") from error
    except Exception as error:  # Pillow's readers and their libraries raise whatever there is
        raise StylizeError(f"{name} {_reason(source, error)}") from error


def prepare_heif(path: Path) -> None:
    """Teach Pillow to read HEIC, where a file is such and the extra is installed.

    Raises:
        StylizeError: it is not installed.
    """
    if path.suffix.lower() not in HEIF:
        return
    try:
        import pillow_heif
    except ImportError:
        raise StylizeError(f"{path} is HEIC; pip install 'stylize[heic]' to read it") from None
    pillow_heif.register_heif_opener()


def _reason(source: Path | bytes, error: Exception) -> str:
    try:
        empty = not (source if isinstance(source, bytes) else source.stat().st_size)
    except OSError as gone:  # between being found and being read
        return f"cannot be read: {gone.strerror or gone}"
    if empty:
        return "is empty"
    unknown = isinstance(error, UnidentifiedImageError)  # whose text is the path once more
    return f"is no readable picture: {'its format is not known' if unknown else one_line(error)}"


def read_rgb(path: Path, enough: int | None = None) -> Pixels:
    """Read a picture as (H, W, 3) uint8, sRGB, transparency on white.

    Args and errors as `open_picture`.
    """
    return flatten(open_picture(path, enough))


def flatten(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8 of an RGB or RGBA picture; what is transparent is seen on white."""
    alpha = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    return on_white(np.asarray(image.convert("RGB")), alpha)
