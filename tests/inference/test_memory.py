"""Budgets: what a restyling may take, and how the picture is cut for it."""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylize import cpu
from stylize.errors import StylizeError, UsageError
from stylize.inference import memory
from stylize.inference.layout import store_shape
from stylize.inference.memory import (
    ENOUGH_ROWS,
    LEAST_ROWS,
    ROWS,
    Cut,
    cut_picture,
    parse_memory,
)
from stylize.networks.plan import Plan, make_plan, missing_pixels

GIB = 1 << 30
PLAN = make_plan()


def store_bytes(plan: Plan, height: int, width: int, cut: Cut) -> int:
    """Of the store that a cut picture gets."""
    return (
        math.prod(store_shape(plan, height, width, cut.finest)) * np.dtype(cut.store_type).itemsize
    )


@pytest.mark.parametrize("text", ["", "2", "lots", "-1GB", "0GB", "2 XB", "1e9"])
def test_sizes_that_are_none(text: str) -> None:
    if text == "2":
        assert parse_memory(text) == 2
        return
    with pytest.raises(UsageError, match=re.escape(f"--memory {text!r}")):
        parse_memory(text)


def test_the_store_follows_the_budget() -> None:
    cached = memory.BAND_BYTES // (32 * 3000 * 4)  # rows of 32 channels
    plenty = cut_picture(PLAN, 3000, 4000, 6, None, 64 * GIB)
    assert plenty == Cut(cached, False, False, finest=1)
    assert store_bytes(PLAN, 4000, 3000, plenty) == 3000 * 4000 * 32 * 2
    less = cut_picture(PLAN, 3000, 4000, 6, 800 << 20, 64 * GIB)
    assert less == Cut(cached, False, False, finest=2)
    # Two quarter planes of 128 channels.
    assert store_bytes(PLAN, 4000, 3000, less) == 750 * 2 * 1000 * 128 * 2
    tight = cut_picture(PLAN, 3000, 4000, 6, 300 << 20, 64 * GIB)
    assert tight.on_disk
    assert tight.finest == 2
    assert LEAST_ROWS <= tight.rows <= ROWS
    small = cut_picture(PLAN, 600, 800, 6, None, 64 * GIB)
    assert small.full_precision
    assert small.rows == ROWS
    one_pass = cut_picture(make_plan("batch"), 3000, 4000, 6, None, GIB)
    assert store_bytes(make_plan("batch"), 4000, 3000, one_pass) == 0
    assert not one_pass.on_disk


def test_half_precision_has_bands_of_twice_the_rows() -> None:
    single, half = (cut_picture(PLAN, 3000, 4000, 6, GIB, 64 * GIB, size) for size in (4, 2))
    assert half.rows >= 2 * single.rows - 1  # the rest of a division
    assert not cut_picture(PLAN, 600, 800, 6, None, 64 * GIB, 2).full_precision


@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(20, 40), st.sampled_from((2, 4)))
def test_what_is_chosen_fits_the_budget(height: int, width: int, power: int, size: int) -> None:
    budget = 1 << power
    try:
        cut = cut_picture(PLAN, height, width, 6, budget, 64 * GIB, size)
    except UsageError as error:
        least = re.search(r"at least (\d+) MB", str(error))
        assert least
        assert (int(least[1]) << 20) >= budget
        # What it asks for does suffice.
        cut_picture(PLAN, height, width, 6, int(least[1]) << 20, 64 * GIB, size)
        return
    sides = max(height, width), min(height, width)
    high, wide = (side + missing_pixels(side) for side in sides)
    row = memory.WORKING_ACTIVATIONS * 32 * wide * size
    bands = cut.rows * row
    in_memory = 0 if cut.on_disk else store_bytes(PLAN, high, wide, cut)
    assert height * width * 6 + in_memory + bands <= budget
    assert LEAST_ROWS <= cut.rows <= ROWS
    if cut.finest == 1 and not cut.on_disk:  # nor at the cost of bands that are too low
        cached = memory.BAND_BYTES * memory.WORKING_ACTIVATIONS // row
        assert cut.rows >= min(ENOUGH_ROWS * 4 // size, max(LEAST_ROWS, cached))


@pytest.mark.parametrize("flags", ["avx512_bf16", "avx512_bf16 amx_bf16"])
def test_amx_is_counted(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id : GenuineIntel\nflags : fpu {flags}\n\n")
    monkeypatch.setattr(cpu, "CPU_INFO", tmp_path / "cpuinfo")
    more = memory.AMX_BYTES if "amx" in flags else 0
    counted = memory.WHOLE_BYTES["openvino", "bf16"] + more
    for extra, fits in ((0, False), (1, True)):  # bytes beside what is needed
        budget = counted * 100 * 200 + extra
        assert memory.fits_whole("openvino", "bf16", PLAN, (100, 200), budget, GIB) == fits
    for backend, precision in (("openvino", "fp16"), ("torch", "bf16")):
        assert memory.whole_bytes(backend, precision) == memory.WHOLE_BYTES[backend, precision]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StylizeError, match="No space left on device; set TMPDIR"):
        memory.allocate_store((8, 100), Cut(8, False, True, finest=2))


def test_a_file_is_gone_at_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = memory.allocate_store((8, 100), Cut(8, False, True, finest=2))
    store[:] = 7
    assert isinstance(store, np.memmap)
    assert not list(type(tmp_path)(tmp_path).iterdir())  # type: ignore[attr-defined, call-arg]
