"""How much memory a restyling may take, and how the picture is cut to fit into it."""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stylize.cpu import has_amx
from stylize.errors import StylizeError, UsageError
from stylize.inference.layout import store_shape
from stylize.networks.plan import Plan, missing_pixels

ROWS = 128
"""Full-resolution rows of a band at the most, where neither memory nor `BAND_BYTES` decides. The
fewer, the more operators are called: at 1080 columns 16, 32, 64 and 128 rows take 1.47, 1.18, 1.04
and 1 in float32, and in bfloat16, where AMX multiplies, 2.24, 1.38, 1.04 and 1."""

BAND_BYTES = 12 << 20
"""Largest activation of a band, so that it stays in the caches between its operations: at 8656
columns 32 rows (34 MiB) take 1.25 times as long as 16 or 8."""

SHARE = 0.7
"""Of the free memory that a restyling takes unasked: the rest is for files and for others."""

WHOLE_BYTES = {
    ("torch", "fp32"): 800,
    ("torch", "tf32"): 800,
    ("torch", "bf16"): 800,
    ("torch", "fp16"): 800,
    ("openvino", "fp32"): 500,
    ("openvino", "bf16"): 190,
    ("openvino", "fp16"): 190,
}
"""Bytes a pixel that a pass over the whole picture takes, by backend and precision, for a network
of width 1 (measured: torch in float32 718; OpenVINO 429 to 482, in bfloat16 155 to 185, in float16
183; torch's half precisions are taken to need no more)."""

AMX_BYTES = 50
"""As many more take OpenVINO's passes in bfloat16 with AMX (measured: 223 to 237 in all)."""

FULL_PRECISION_BYTES = 128 << 20
"""Stores up to this size, full resolution not counted, keep single precision, for pictures of up to
some 2 megapixels."""

WORKING_ACTIVATIONS = 24
"""Activations of full resolution, rows of a band high, that bands take at the most (measured: 10 to
16 in float32, 7 to 21 in bfloat16, of whose scratch memory a part is as much for low bands)."""

LEAST_ROWS = 4
"""Rows of a band below which a restyling takes several times longer."""

ENOUGH_ROWS = 16
"""Rows of a band in single precision, or twice as many in half, above which memory is better spent
on a store of full resolution."""

SINGLE = 4
"""Bytes of a number in single precision."""

LOG = logging.getLogger("stylize")

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Cut:
    """How one picture is streamed."""

    rows: int
    """Full-resolution rows of a band."""
    full_precision: bool
    """Whether the store keeps single precision."""
    on_disk: bool
    """Whether the store is a temporary file."""
    finest: int
    """Scale of the finest activations in the store: with 2, full resolution is made again."""

    @property
    def store_type(self) -> type[np.floating[Any]]:
        """Of the numbers in the store."""
        return np.float32 if self.full_precision else np.float16


def parse_memory(text: str) -> int:
    """Bytes of a size as people write it; K, M, G and T are powers of 1024.

    Example:
        >>> parse_memory("2GB"), parse_memory("1.5g"), parse_memory("512 MiB")
        (2147483648, 1610612736, 536870912)

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(i?B)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise UsageError(f"--memory {text!r}: give a size such as 2GB or 800MB")
    return int(float(match[1]) * 1024 ** _UNITS[match[2].upper()])


def fits_whole(
    backend: str, precision: str, plan: Plan, sides: tuple[int, int], budget: int | None, free: int
) -> bool:
    """Whether a backend can restyle a picture in one pass, within the budget or what is free."""
    height, width = sides
    needed = whole_bytes(backend, precision, plan.width) * height * width
    return needed < (free * SHARE if budget is None else budget)


def whole_bytes(backend: str, precision: str, network_width: float = 1.0) -> float:
    """Bytes a pixel that a pass over the whole picture takes on this machine.

    The picture itself is as large for a narrow network: OpenVINO's passes at widths of 0.125, 0.25,
    0.5 and 0.75 take 0.20, 0.31, 0.54 and 0.77 of what they take at 1 in float32, and 0.31, 0.37,
    0.58 and 0.83 in bfloat16 with AMX, 0.34, 0.40, 0.60 and 0.80 without.
    """
    more = AMX_BYTES if (backend, precision) == ("openvino", "bf16") and has_amx() else 0
    part = max(network_width, (1 + 3 * network_width) / 4)
    return (WHOLE_BYTES[backend, precision] + more) * part


def cut_picture(
    plan: Plan,
    height: int,
    width: int,
    pixel_bytes: int,
    budget: int | None,
    free: int,
    number_bytes: int = SINGLE,
) -> Cut:
    """Choose bands and store.

    Args:
        height, width: of the picture in pixels.
        pixel_bytes: of the picture and its result together, for each pixel.
        budget: bytes that the restyling may take; None: a share of what is free.
        free: bytes of free memory.
        number_bytes: of a number in a band: 4, or 2 where bands are in half precision.

    Raises:
        UsageError: the budget does not suffice even with the store in a file.
    """
    sides = max(height, width), min(height, width)
    high, wide = (side + missing_pixels(side) for side in sides)
    least, most = (math.prod(store_shape(plan, high, wide, finest)) for finest in (2, 1))
    row_bytes = WORKING_ACTIVATIONS * plan.stages[0].out_channels * wide * number_bytes
    pictures = height * width * pixel_bytes
    allowed = int(free * SHARE) if budget is None else budget
    small = SINGLE * least <= min(FULL_PRECISION_BYTES, allowed // 4)
    full = small and number_bytes == SINGLE
    stored_bytes = SINGLE if full else SINGLE // 2
    enough_rows = ENOUGH_ROWS * SINGLE // number_bytes
    keeps_all = pictures + most * stored_bytes + enough_rows * row_bytes <= allowed
    store = (most if keeps_all else least) * stored_bytes
    on_disk = store > 0 and pictures + store + LEAST_ROWS * row_bytes > allowed
    left = allowed - pictures - (0 if on_disk else store)
    if left < LEAST_ROWS * row_bytes and budget is not None:
        needed = math.ceil((pictures + LEAST_ROWS * row_bytes) / 2**20)
        raise UsageError(
            f"painting {width} x {height} px takes at least {needed} MB of memory, not "
            f"{budget >> 20} MB; raise --memory, or make the photo smaller with --size"
        )
    if on_disk:
        LOG.info(
            "%d MB of memory do not suffice for %d x %d px: %d MB are kept in a temporary file in "
            "%s, which takes longer",
            allowed >> 20, width, height, store >> 20, tempfile.gettempdir(),
        )  # fmt: skip
    cached = BAND_BYTES * WORKING_ACTIVATIONS // row_bytes
    rows = max(LEAST_ROWS, min(ROWS, cached, left // row_bytes))
    return Cut(rows, full, on_disk, finest=1 if keeps_all else 2)


def allocate_store(shape: tuple[int, int], cut: Cut) -> npt.NDArray[Any]:
    """The store in the host's memory, or in a file that goes with the process whatever ends it.

    Raises:
        StylizeError: the disk has no room for it.
    """
    dtype = np.dtype(cut.store_type)
    if not cut.on_disk:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(prefix="stylize-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk must show now, not at a later write
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise StylizeError(
            f"cannot keep {size >> 20} MB in {tempfile.gettempdir()}: "
            f"{error.strerror or error}; set TMPDIR to a folder with room, or use --size"
        ) from error
