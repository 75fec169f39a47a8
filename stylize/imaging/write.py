"""Pictures to files: format by extension, metadata that says what made them, never half-written."""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylize.errors import StylizeError, UsageError, one_line
from stylize.imaging import deep
from stylize.imaging.colour import AnyPixels, from_own_space, on_white
from stylize.imaging.photo import ANIMATED, EXIF_IFD, SOFTWARE, Frame, Photo, descriptive
from stylize.safe_write import atomic_file

JPEG_QUALITY = 95
"""With full chroma, as AVIF: style transfer is all about colour edges, which 4:2:0 smears (a
painting as AVIF: 32.4 dB instead of 36.6, as JPEG 32.3 instead of 37.7). WebP has no other."""

FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF",
    ".tiff": "TIFF", ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP", ".ppm": "PPM",
}  # fmt: skip
"""What can be written, by ending."""

SIDES = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "AVIF": 32768}
"""Pixels of a side that a format holds at the most; of AVIF, that are read again."""

# A TIFF is not compressed: LZW makes painted pictures larger by a tenth, and through libtiff, which
# compresses, Pillow writes no tables of Exif.
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": JPEG_QUALITY, "subsampling": "4:4:4"},
    "WEBP": {"quality": JPEG_QUALITY, "method": 4},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
}
_OPAQUE = frozenset({"JPEG", "BMP", "PPM"})
_BARE = frozenset({"GIF", "BMP", "PPM"})
"""Formats without Exif and colour profiles."""
_DEEP = {"PNG": ".png", "TIFF": ".tif"}

_JPEG_SEGMENT = 65000
"""Bytes of Exif or XMP that a JPEG holds."""

# Exif tags.
_TIFF_XMP, _WIDTH, _HEIGHT = 700, 0xA002, 0xA003
_MAIN_WIDTH, _MAIN_HEIGHT = 0x0100, 0x0101
"""Which a JPEG need not have; some cameras' do."""

LOG = logging.getLogger("stylize")


def can_write(path: Path) -> bool:
    """Whether the path's ending names a format that can be written."""
    return path.suffix.lower() in FORMATS


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
    return FORMATS[path.suffix.lower()]


def check_sides(path: Path, height: int, width: int) -> None:
    """Find out before a picture is restyled whether its file can hold it.

    Raises:
        StylizeError: a side is too long for the format of the path's ending.
    """
    most = SIDES.get(FORMATS[path.suffix.lower()])
    if most is not None and max(height, width) > most:
        raise StylizeError(
            f"{path} cannot hold {width} x {height} px: {path.suffix} has up to {most} a side; "
            f"use .png or .tif, or --size {most}"
        )


def write_photo(path: Path, photo: Photo, software: str = "") -> None:
    """Write a photo with its metadata, whole or not at all.

    Args:
        path: its ending chooses the format.
        photo: 16-bit pixels stay such in a PNG or TIFF; an animation moves where the format does,
            else its first frame is written; transparency is put on white where there is none.
        software: what made the picture, for the metadata.

    Raises:
        UsageError: a format that there is not, a folder that is missing.
        StylizeError: the file cannot be written.
    """
    data = encode_photo(photo, check_writable(path), software, str(path))
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def encode_photo(
    photo: Photo, format_name: str, software: str = "", name: str = "the picture"
) -> bytes:
    """A photo as the bytes of a file; see `write_photo`.

    Metadata that the format's writer does not take is left out, with a warning: photos carry all
    kinds, and a restyled picture is worth more.

    Args:
        name: what messages call it.

    Raises:
        StylizeError: the format does not hold such a picture.
    """
    try:
        return _encoded(photo, format_name, software)
    except Exception as error:  # Pillow's writers and their libraries raise whatever there is
        reason = one_line(error)
        if not (photo.exif or photo.xmp):
            raise StylizeError(f"cannot write {name}: {reason}") from error
    data = encode_photo(replace(photo, exif=b"", xmp=b""), format_name, software, name)
    LOG.warning("%s: without the photo's metadata, which cannot be written: %s", name, reason)
    return data


def _encoded(photo: Photo, format_name: str, software: str) -> bytes:
    first = photo.frames[0]
    exif = _exif(photo, software, format_name)
    if first.pixels.dtype == np.uint16 and format_name in _DEEP:
        blobs = {
            "exif-data": exif,
            "xmp-data": photo.xmp,
            "icc-profile-data": photo.profile or b"",
        }
        return deep.encode(
            first.pixels, first.alpha, _DEEP[format_name], blobs, photo.resolution, software
        )
    frames = photo.frames if format_name in ANIMATED else photo.frames[:1]
    images = [_image(frame, format_name, photo.profile) for frame in frames]
    options = dict(_OPTIONS.get(format_name, {}))
    if format_name not in _BARE:
        options |= {"exif": exif, "icc_profile": photo.profile}
        if photo.xmp and (format_name != "JPEG" or len(photo.xmp) < _JPEG_SEGMENT):
            options |= _xmp(photo.xmp, format_name)
    elif format_name == "GIF":
        options["comment"] = software
    if format_name == "TIFF" and first.pixels.nbytes > deep.LARGE_TIFF:
        options["big_tiff"] = True
    if photo.resolution and format_name in ("JPEG", "PNG", "TIFF", "BMP"):
        options["dpi"] = photo.resolution
    if len(images) > 1:
        options |= {
            "save_all": True,
            "append_images": images[1:],
            "duration": [max(1, round(frame.duration)) for frame in frames],
            "loop": photo.loop,
        }
        if format_name in ("GIF", "PNG"):
            options["disposal"] = 1 if format_name == "PNG" else 2
    buffer = io.BytesIO()
    images[0].save(buffer, format_name, **options)
    return buffer.getvalue()


def write_picture(path: Path, image: Image.Image) -> None:
    """Write an RGB picture without metadata, whole or not at all; errors as `write_photo`."""
    write_photo(path, Photo([Frame(np.asarray(image.convert("RGB")))]))


def _image(frame: Frame, format_name: str, profile: bytes | None) -> Image.Image:
    """A frame as Pillow writes it in this format."""
    pixels, alpha = frame.pixels, frame.alpha
    if format_name in _BARE:
        pixels = from_own_space(pixels, profile)
    if format_name in _OPAQUE:
        pixels, alpha = on_white(pixels, alpha), None
    if format_name == "GIF" and alpha is not None:  # where a pixel is there or is not
        pixels, opaque = on_white(pixels, alpha), _eight_bits(alpha) > 127
        alpha = np.where(opaque, np.uint8(255), np.uint8(0))
    image = Image.fromarray(_eight_bits(pixels))
    if alpha is not None:
        image.putalpha(Image.fromarray(_eight_bits(alpha)))
    return image


def _eight_bits(values: AnyPixels) -> AnyPixels:
    """uint16 -> uint8 levels, to the nearest; 257 of one are 1 of the other."""
    if values.dtype == np.uint8:
        return values
    rounded: AnyPixels = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return rounded


def _exif(photo: Photo, software: str, format_name: str) -> bytes:
    """The photo's Exif with our name, and the size that the picture has now."""
    exif = Image.Exif()
    if photo.exif:
        with suppress(Exception):  # a photo's own may be broken in any way
            exif.load(photo.exif)
            if EXIF_IFD in exif:
                inner = exif.get_ifd(EXIF_IFD)
                inner[_HEIGHT], inner[_WIDTH] = photo.size
            for tag, side in zip((_MAIN_HEIGHT, _MAIN_WIDTH), photo.size, strict=True):
                if tag in exif:
                    exif[tag] = side
            if format_name == "TIFF":
                exif = descriptive(exif)
    if software:
        exif[SOFTWARE] = software
    if photo.xmp and format_name == "TIFF":
        exif[_TIFF_XMP] = photo.xmp
    with suppress(Exception):
        data = exif.tobytes() if exif else b""
        if format_name != "JPEG" or len(data) < _JPEG_SEGMENT:
            return data
    plain = Image.Exif()
    plain[SOFTWARE] = software
    return plain.tobytes()


def _xmp(xmp: bytes, format_name: str) -> dict[str, Any]:
    if format_name == "TIFF":
        return {}  # where it is one of the tags, as all of Exif is
    if format_name != "PNG":
        return {"xmp": xmp}
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return {"pnginfo": info}
