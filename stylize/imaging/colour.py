"""Colour: between a file's own space and sRGB, and what a restyled picture keeps of the photo."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from stylize.errors import StylizeError
from stylize.imaging import deep

AnyPixels = npt.NDArray[Any]
"""(H, W, 3), uint8 or uint16 levels, or floats in 0..1."""

_SRGB = ImageCms.createProfile("sRGB")
_SRGB_BYTES = ImageCms.ImageCmsProfile(_SRGB).tobytes()

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. 601: how light the three channels look."""

_CHUNK_PIXELS = 1 << 20
"""Pixels that are blended at a time, so that a large photo needs no second copy in floats."""


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture of any mode to RGB, or RGBA where it has transparency, in sRGB.

    An embedded profile is obeyed where it fits the picture; a broken one is ignored, as every
    viewer does.

    Raises:
        StylizeError: its numbers are floats, or of more than 16 bits.
    """
    if image.mode == "F" or (image.mode == "I" and not _has_16_bits(image)):
        raise StylizeError(f"the picture {deep.TOO_DEEP}")
    profile = image.info.get("icc_profile")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        image = image.point(lambda value: value / 257).convert("L")  # 0..65535 -> 0..255
    if image.mode not in ("RGB", "CMYK", "L", "LAB"):
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
            image = converted if converted is not None else image
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    image = image.convert("RGB")
    image.info.pop("icc_profile", None)
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _has_16_bits(image: Image.Image) -> bool:
    """Whether a picture of mode "I", in which Pillow has grey of 16 bits and of 32, is of 16."""
    levels = np.asarray(image)
    return bool(levels.min() >= 0 and levels.max() < 1 << 16)


def is_rgb_profile(profile: bytes | None) -> bool:
    """Whether an ICC profile is whole and describes an RGB space."""
    if not profile:
        return False
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        ImageCms.buildTransform(found, _SRGB, "RGB", "RGB")
        ImageCms.buildTransform(_SRGB, found, "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return bool(found.profile.xcolor_space.strip() == "RGB")


def from_own_space(pixels: AnyPixels, profile: bytes | None) -> AnyPixels:
    """Pixels in the space of `profile` (None: sRGB) -> sRGB, of the same type."""
    if profile is None:
        return pixels
    if pixels.dtype == np.uint16:
        return deep.convert(pixels, profile, None)
    return _convert(pixels, profile, _SRGB_BYTES)


def to_own_space(pixels: AnyPixels, profile: bytes | None) -> AnyPixels:
    """Pixels in sRGB -> the space of `profile` (None: sRGB), of the same type."""
    if profile is None:
        return pixels
    if pixels.dtype != np.uint16:
        return _convert(pixels, _SRGB_BYTES, profile)
    with tempfile.TemporaryDirectory(prefix="stylize-") as folder:  # libvips takes a file only
        path = Path(folder) / "own.icc"
        path.write_bytes(profile)
        return deep.convert(pixels, _SRGB_BYTES, path)


def blend(
    photo: AnyPixels, restyled: AnyPixels, strength: float, keep_colors: bool = False
) -> AnyPixels:
    """Mix a restyled picture into its photo.

    Args:
        photo, restyled: (H, W, 3), uint8, uint16 or float in 0..1, both the same.
        strength: 0 gives the photo back, exactly; 1 the restyled picture.
        keep_colors: take only how light things are from the restyled picture.

    Returns:
        (H, W, 3) of the same type, levels rounded to the nearest.
    """
    if strength == 1 and not keep_colors:
        return restyled
    levels = np.issubdtype(photo.dtype, np.integer)
    white = float(np.iinfo(photo.dtype).max) if levels else 1.0
    result = np.empty_like(photo)
    for part in _chunks(photo):
        before = photo[part].astype(np.float32)
        after = restyled[part].astype(np.float32)
        if keep_colors:
            after = recolour(after, before, white)
        mixed = (before + np.float32(strength) * (after - before)).clip(0, white)
        result[part] = np.rint(mixed) if levels else mixed
    return result


def on_white(pixels: AnyPixels, alpha: AnyPixels | None) -> AnyPixels:
    """What is seen where a picture is transparent and lies on white paper.

    Args:
        pixels: (H, W, 3), uint8 or uint16.
        alpha: (H, W) of the same type, or None where all is opaque.
    """
    white = np.iinfo(pixels.dtype).max
    if alpha is None or alpha.min() == white:
        return pixels
    result = np.empty_like(pixels)
    for part in _chunks(pixels):
        opacity = (alpha[part].astype(np.float32) / np.float32(white))[..., None]
        result[part] = np.rint(white + opacity * (pixels[part].astype(np.float32) - white))
    return result


def _chunks(pixels: AnyPixels) -> Iterator[slice]:
    """Rows of a picture, some at a time."""
    rows = max(1, _CHUNK_PIXELS // pixels.shape[1])
    for start in range(0, pixels.shape[0], rows):
        yield slice(start, start + rows)


def recolour(light: AnyPixels, colour: AnyPixels, white: float) -> AnyPixels:
    """The lightness of one picture with the chroma of another, float (H, W, 3) in 0..white.

    Where a colour would leave the range it is paled, not clipped: clipping a single channel would
    turn its hue.
    """
    luma = light @ LUMA
    chroma = colour - (colour @ LUMA)[..., None]
    room = np.where(chroma > 0, white - luma[..., None], luma[..., None])
    tiny = np.float32(1e-6 * white)  # below which a channel takes no room
    factor = (room / np.maximum(np.abs(chroma), tiny)).min(-1).clip(0, 1)
    found: AnyPixels = luma[..., None] + factor[..., None] * chroma
    return found


def _convert(pixels: AnyPixels, source: bytes, target: bytes) -> AnyPixels:
    # Relative colorimetric there and back: perceptual tables need not be each other's inverse.
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(source)),
        ImageCms.ImageCmsProfile(io.BytesIO(target)),
        "RGB",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return np.asarray(converted)
