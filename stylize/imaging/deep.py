"""Pictures of 16 bits a channel, through libvips: Pillow would open them as 8-bit ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylize.errors import StylizeError

Pixels16 = npt.NDArray[np.uint16]

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_DEPTH = 24
"""Where a PNG says how many bits a channel has."""

_MM_AN_INCH = 25.4

_DEEPER = ("uint", "int", "float", "double")
"""What libvips calls channels of 32 bits and more."""

TOO_DEEP = "has channels of 32 bits; save it with 16 or 8"
"""Whether their floats end at 1 or at 255, and where white is, no such file says for sure."""

LARGE_TIFF = 3_000_000_000
"""Bytes of colour beyond which a TIFF is a BigTIFF: with opacity it could pass the 4 GiB that other
TIFFs address."""


def is_deep(source: Path | bytes) -> bool:
    """Whether a picture file, or its bytes, holds 16-bit channels.

    Raises:
        OSError: the file cannot be read.
        StylizeError: it holds channels of more bits.
    """
    if isinstance(source, bytes):
        head = source[:32]
    else:
        with source.open("rb") as file:
            head = file.read(32)
    if head.startswith(_PNG):
        return head[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10"
    if not head.startswith(_TIFF):
        return False
    import pyvips

    try:
        kind = _load(source).format
    except pyvips.Error:
        return False  # Pillow may still know it
    if kind in _DEEPER:
        raise StylizeError(TOO_DEEP)
    return bool(kind == "ushort")


@dataclass(frozen=True)
class DeepPicture:
    """A 16-bit picture whose header is read."""

    image: Any
    profile: bytes | None
    exif: bytes
    xmp: bytes
    resolution: tuple[float, float]
    format: str
    """PNG or TIFF."""

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return int(self.image.width)

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return int(self.image.height)

    def read(self) -> tuple[Pixels16, Pixels16 | None]:
        """(H, W, 3), and (H, W) opacity where there is one.

        Raises:
            StylizeError: the pixels are damaged.
        """
        import pyvips

        try:
            values: Pixels16 = self.image.numpy()
        except pyvips.Error as error:
            raise StylizeError(f"the pixels cannot be read: {_one_line(error)}") from error
        values = values.reshape(self.height, self.width, -1)
        colours = 3 if values.shape[2] >= 3 else 1
        alpha = values[..., colours] if values.shape[2] > colours else None
        # Grey is seen by all three channels.
        pixels = np.ascontiguousarray(values[..., [0, 1, 2] if colours == 3 else [0, 0, 0]])
        return pixels, alpha


def open_deep(source: Path | bytes) -> DeepPicture:
    """Read the header of a picture that `is_deep`.

    Raises:
        StylizeError: it is damaged.
    """
    import pyvips

    try:
        image = _load(source).autorot()
        if image.interpretation == "cmyk":
            image = image.icc_transform("srgb", embedded=True, depth=16)
    except pyvips.Error as error:
        raise StylizeError(f"the header cannot be read: {_one_line(error)}") from error

    def blob(name: str) -> bytes:
        return bytes(image.get(name)) if name in image.get_fields() else b""

    return DeepPicture(
        image,
        blob("icc-profile-data") or None,
        blob("exif-data"),
        blob("xmp-data"),
        (image.xres * _MM_AN_INCH, image.yres * _MM_AN_INCH),
        "PNG" if str(image.get("vips-loader")).startswith("png") else "TIFF",
    )


def convert(pixels: Pixels16, profile: bytes, to_profile: Path | None) -> Pixels16:
    """Convert 16-bit pixels from `profile` to that of a file; None: to sRGB."""
    image = _with_blob(_image(pixels), "icc-profile-data", profile)
    target = "srgb" if to_profile is None else str(to_profile)
    converted: Pixels16 = image.icc_transform(
        target, embedded=True, depth=16, intent="relative"
    ).numpy()
    return converted


def encode(
    pixels: Pixels16,
    alpha: Pixels16 | None,
    ending: str,
    blobs: dict[str, bytes],
    resolution: tuple[float, float] | None,
    description: str,
) -> bytes:
    """A 16-bit PNG or TIFF file.

    Args:
        ending: ".png" or ".tif".
        blobs: libvips' names of metadata, such as "exif-data".
        description: for a TIFF, whose Exif libvips does not write.
    """
    values = pixels if alpha is None else np.dstack([pixels, alpha])
    image = _image(values)
    for name, data in blobs.items():
        if data:
            image = _with_blob(image, name, data)
    if resolution:
        across, down = resolution
        image = image.copy(xres=across / _MM_AN_INCH, yres=down / _MM_AN_INCH)
    if ending == ".png":
        return bytes(image.pngsave_buffer(compression=6))
    import pyvips

    image = image.copy()
    image.set_type(pyvips.GValue.gstr_type, "image-description", description)
    return bytes(
        image.tiffsave_buffer(
            compression="deflate", predictor="horizontal", bigtiff=pixels.nbytes > LARGE_TIFF
        )
    )


def _one_line(error: Exception) -> str:
    """The last thing that libvips had to say."""
    return str(error).strip().splitlines()[-1].strip()


def _load(source: Path | bytes) -> Any:
    import pyvips

    if isinstance(source, bytes):
        return pyvips.Image.new_from_buffer(source, "", fail_on="truncated")
    # `revalidate`: libvips keeps what it opened by name, and would give a file's old pixels.
    return pyvips.Image.new_from_file(str(source), fail_on="truncated", revalidate=True)


def _image(values: Pixels16) -> Any:
    import pyvips

    image = pyvips.Image.new_from_array(np.ascontiguousarray(values))
    return image.copy(interpretation="rgb16")


def _with_blob(image: Any, name: str, data: bytes) -> Any:
    import pyvips

    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, name, data)
    return image
