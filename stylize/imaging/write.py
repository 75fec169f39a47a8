"""Pictures to files: format by extension, metadata that says what made them, never half-written."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from stylize.errors import StylizeError, UsageError
from stylize.safe_write import atomic_file

JPEG_QUALITY = 95
"""With full chroma: style transfer is all about colour edges, which 4:2:0 smears."""

_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": JPEG_QUALITY, "subsampling": "4:4:4"},
    "WEBP": {"quality": JPEG_QUALITY, "method": 4},
    "AVIF": {"quality": 90},
    "TIFF": {"compression": "tiff_lzw"},
}
_OPAQUE = frozenset({"JPEG", "BMP", "PPM"})

# Exif tags.
_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131


def can_write(path: Path) -> bool:
    """Whether the path's ending names a format that can be written."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def check_writable(path: Path) -> str:
    """The Pillow format of an output path.

    Raises:
        UsageError: its ending names no format that can be written, or its folder is missing.
    """
    if not can_write(path):
        ending = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UsageError(f"{path} has {ending}; use .jpg, .png, .webp or .tif")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is wanted here")
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}")
    return Image.registered_extensions()[path.suffix.lower()]


def write_picture(
    path: Path, image: Image.Image, software: str = "", description: str = ""
) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: its ending chooses the format.
        image: RGB or RGBA; transparency is put on white where the format has none.
        software, description: for the file's Exif metadata.

    Raises:
        UsageError: a format that there is not, a folder that is missing.
        StylizeError: the file cannot be written.
    """
    format_name = check_writable(path)
    if format_name in _OPAQUE and image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    exif = Image.Exif()
    exif[_DESCRIPTION], exif[_SOFTWARE] = description, software
    with atomic_file(path) as temporary:
        try:
            image.save(temporary, format_name, exif=exif, **_OPTIONS.get(format_name, {}))
        except ValueError as error:  # for instance a WebP beyond 16383 pixels
            raise StylizeError(f"cannot write {path}: {error}") from error
