"""A photo as its file has it, ready to be restyled and written back: nothing is lost on the way.

Colours stay in the file's own RGB space, and 16-bit colour stays 16 bits; what a network or a
screen is to see, `colour` converts.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from stylize.errors import StylizeError, one_line
from stylize.imaging import deep
from stylize.imaging.colour import AnyPixels, is_rgb_profile, to_srgb
from stylize.imaging.files import check_file, explained, prepare_heif, upright

MAX_MEGAPIXELS = 200.0
"""Above this a picture is refused unless asked for: a small file can claim any size."""

ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
"""Formats whose frames follow each other in time; a TIFF's or a phone's several pictures do not."""

SOFTWARE, DESCRIPTION, ORIENTATION = 0x0131, 0x010E, 0x0112
EXIF_IFD, GPS_IFD = 0x8769, 0x8825
"""Exif tags; the last two are tables of their own."""

DESCRIPTIVE = (
    DESCRIPTION, 0x010F, 0x0110, SOFTWARE, 0x0132, 0x013B, 0x4746, 0x4749, 0x8298, EXIF_IFD,
    GPS_IFD, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
)  # fmt: skip
"""Tags that describe a photo: description, make, model, software, date, artist, rating, copyright,
the camera's settings, the place, and Windows' title, comment, author, keywords and subject."""

_INTEROPERABILITY = 0xA005

_ATTACHED = re.compile(
    rb"<Container:Directory\b(?:(?!</?Container:Directory).)*</Container:Directory\s*>"
    rb"|\s(?:G?Camera:(?:MotionPhoto|MicroVideo)|hdrgm:|HDRGainMap:)\w*\s*=\s*"
    rb"""(?:"[^"<]*"|'[^'<]*')""",
    re.DOTALL,
)
"""Where XMP tells of a film or a map of brightness behind the photo, which no result has."""

LOG = logging.getLogger("stylize")

MARK = "stylize "
"""With what the metadata of our own results begin."""


@dataclass(frozen=True)
class Frame:
    """One picture of a photo."""

    pixels: AnyPixels
    alpha: npt.NDArray[Any] | None = None
    """(H, W), opacity in the pixels' own type; None where all is opaque."""
    duration: float = 0
    """How long it is shown in an animation, ms."""


@dataclass(frozen=True)
class Photo:
    """A picture file's contents, upright."""

    frames: list[Frame]
    """One, or those of an animation."""
    profile: bytes | None = None
    """ICC profile of the pixels' RGB space; None stands for sRGB."""
    exif: bytes = b""
    """Without the orientation."""
    xmp: bytes = b""
    resolution: tuple[float, float] | None = None
    """Pixels an inch, across and down."""
    loop: int = 0
    """How often an animation runs; 0 for ever."""
    format: str = ""
    """Pillow's name of the format it was read from; JPEG also for one with further pictures behind
    it, as phones' with a map of brightness, which is called MPO."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        height, width = self.frames[0].pixels.shape[:2]
        return height, width


def read_photo(source: Path | bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Read a picture file, or its bytes.

    RGB pictures come in their own colour space; grey, palette and CMYK ones in sRGB.

    Raises:
        UsageError: no such file.
        StylizeError: it is no readable picture, or has too many pixels.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    if isinstance(source, Path):
        check_file(source)
        prepare_heif(source)
    with explained(name, source), warnings.catch_warnings():
        # Pillow warns of half of what it refuses; the limit here is our own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if deep.is_deep(source):
            return _read_deep(source, name, max_megapixels)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file) as image:
            frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
            _check_size(name, image.width, image.height, frames, max_megapixels)
            return _read_pillow(image, frames, name)


def is_own_result(path: Path) -> bool:
    """Whether a file says that stylize made it; False where it cannot be read."""
    with suppress(Exception), Image.open(path) as image:
        exif = image.getexif()
        words = [exif.get(SOFTWARE), exif.get(DESCRIPTION), image.info.get("comment")]
        return any(
            (word.decode("latin-1") if isinstance(word, bytes) else str(word)).startswith(MARK)
            for word in words
        )
    return False


def _read_pillow(image: Image.Image, frames: int, name: str) -> Photo:
    if frames > 1:
        loop = image.info.get("loop", 0)
        skip = 1 if image.info.get("default_image") else 0  # an APNG's still for old viewers
        pictures = [
            replace(_frame(frame.copy()), duration=frame.info.get("duration", 0))
            for number, frame in enumerate(ImageSequence.Iterator(image))
            if number >= skip
        ]
        return Photo(pictures, loop=loop, format=image.format or "")
    image.load()
    # Also takes the orientation out of Exif and XMP.
    turned, damage = upright(image)
    info = turned.info
    profile = info.get("icc_profile")
    keeps = turned.mode in ("RGB", "RGBA") and is_rgb_profile(profile)
    if turned.mode in ("RGB", "RGBA") and not keeps:
        turned.info.pop("icc_profile", None)  # broken, or of another kind of picture
    exif = b""
    if not damage:
        exif, damage = _exif_of(image, turned)
    if damage:
        LOG.warning("%s: its Exif is damaged, and is left out: %s", name, damage)
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    resolution = info.get("dpi")
    return Photo(
        [_frame(turned, in_own_space=keeps)],
        profile=profile if keeps else None,
        exif=exif,
        xmp=_ATTACHED.sub(b"", xmp.encode() if isinstance(xmp, str) else xmp),
        resolution=(float(resolution[0]), float(resolution[1])) if resolution else None,
        format="JPEG" if image.format == "MPO" else image.format or "",
    )


def _exif_of(image: Image.Image, turned: Image.Image) -> tuple[bytes, str]:
    """What is kept of a picture's Exif, and what is wrong with it."""
    try:
        exif = turned.getexif() if image.format != "TIFF" else descriptive(image.getexif())
        return exif.tobytes() if exif else b"", ""
    except Exception as error:  # Pillow raises all kinds of errors at broken Exif
        return b"", one_line(error)


def descriptive(exif: Image.Exif) -> Image.Exif:
    """What a TIFF may keep: its other tags say how pixels lie, and those lie otherwise now."""
    kept = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in exif:
            kept[tag] = exif[tag] if tag not in (EXIF_IFD, GPS_IFD) else _table(exif, tag)
    return kept


def _table(exif: Image.Exif, tag: int) -> dict[int, Any]:
    """A table of Exif's, without the one in it, which tells of standards alone."""
    return {key: value for key, value in exif.get_ifd(tag).items() if key != _INTEROPERABILITY}


def _frame(image: Image.Image, in_own_space: bool = False) -> Frame:
    if not in_own_space:
        image = to_srgb(image)
    elif image.has_transparency_data and image.mode == "RGB":  # one colour of a PNG is transparent
        image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    return Frame(np.asarray(image.convert("RGB")), alpha)


def _read_deep(source: Path | bytes, name: str, max_megapixels: float) -> Photo:
    found = deep.open_deep(source)
    _check_size(name, found.width, found.height, 1, max_megapixels)
    pixels, alpha = found.read()
    profile = found.profile if is_rgb_profile(found.profile) else None
    return Photo(
        [Frame(pixels, alpha)],
        profile=profile,
        exif=_without_orientation(found.exif),
        xmp=found.xmp,
        resolution=found.resolution,
        format=found.format,
    )


def _without_orientation(data: bytes) -> bytes:
    exif = Image.Exif()
    with suppress(Exception):
        exif.load(data)
        exif.pop(ORIENTATION, None)
        return exif.tobytes() if exif else b""
    return b""


def _check_size(name: str, width: int, height: int, frames: int, limit: float) -> None:
    megapixels = width * height * frames / 1e6
    if megapixels > limit:
        what = f"{frames} frames of {width} x {height}" if frames > 1 else f"{width} x {height}"
        raise StylizeError(
            f"{name} has {what} pixels, {megapixels:.0f} megapixels; up to {limit:g} are read, "
            f"--max-megapixels {megapixels + 1:.0f} raises that"
        )
