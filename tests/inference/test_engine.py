"""Which backend is taken, without importing either."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylize.errors import StylizeError, UsageError
from stylize.inference import engine
from stylize.inference.engine import BANDS_PIXELS, better_in_bands, choose_backend
from stylize.networks.plan import make_plan


@pytest.mark.parametrize(
    ("gpu", "installed", "device", "megapixels", "torch_there", "expected"),
    [
        ("", True, "auto", None, False, "openvino"),
        ("", False, "auto", None, False, "torch"),
        ("", True, "cpu", 1.0, False, "openvino"),
        ("NVIDIA GPU", True, "auto", None, False, "torch"),
        ("NVIDIA GPU", True, "auto", 0.2, False, "openvino"),  # done before torch has started
        ("NVIDIA GPU", True, "auto", 0.2, True, "torch"),
        ("NVIDIA GPU", True, "auto", 50.0, False, "torch"),
        ("NVIDIA GPU", True, "cpu", 50.0, False, "openvino"),
        ("NVIDIA GPU", True, "cuda:0", 0.1, False, "torch"),
    ],
)
def test_auto_takes_what_is_fastest(
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    installed: bool,
    device: str,
    megapixels: float | None,
    torch_there: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(engine, "find_gpu", lambda: gpu)
    monkeypatch.setattr(engine, "has_openvino", lambda: installed)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(sys, "modules", {"torch": sys} if torch_there else {})
    choice = choose_backend("auto", device, megapixels)
    assert choice.backend == expected
    assert choice.reason
    if not gpu:  # torch's bands are faster than OpenVINO's
        assert choose_backend("auto", device, megapixels, bands=lambda: True).backend == "torch"


@pytest.mark.parametrize(
    ("gpu", "precision", "expected"),
    [
        ("NVIDIA GPU", "fp32", "openvino"),  # a small photo, done before torch has started
        ("NVIDIA GPU", "tf32", "torch"),  # which no CPU has
        ("NVIDIA GPU", "fp16", "torch"),  # which not every CPU has
        ("NVIDIA GPU", "bf16", "torch"),
        ("", "bf16", "torch"),  # in bands
        ("", "fp16", "openvino"),  # torch has none on a CPU
    ],
)
def test_the_backend_has_the_precision_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, gpu: str, precision: str, expected: str
) -> None:
    monkeypatch.setattr(engine, "find_gpu", lambda: gpu)
    monkeypatch.setattr(engine, "has_openvino", lambda: True)
    monkeypatch.setattr(sys, "modules", {})
    choice = choose_backend("auto", "auto", 0.2, lambda: True, precision)
    assert choice.backend == expected


@given(
    height=st.integers(1, 9000),
    width=st.integers(1, 9000),
    gigabytes=st.integers(1, 64),
    network_width=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_large_pictures_in_float32_go_to_torchs_bands(
    height: int, width: int, gigabytes: int, network_width: float
) -> None:
    free, sides, plan = gigabytes << 30, (height, width), make_plan("instance", network_width)
    bands = {name: better_in_bands(name, plan, sides, None, free) for name in ("fp32", "bf16")}
    # What float32 has whole bfloat16 has too: only then need nobody ask which the CPU computes in.
    assert bands["fp32"] or not bands["bf16"]
    small = height * width * network_width < BANDS_PIXELS
    assert bands["fp32"] or small
    if gigabytes == 64 and small:
        assert not bands["fp32"]
    if gigabytes == 64:
        assert not bands["bf16"]  # 81 megapixels take 15 GB


def test_what_is_asked_for_is_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("torch", "cpu").backend == "torch"
    monkeypatch.setattr(engine, "has_openvino", lambda: False)
    with pytest.raises(StylizeError, match="pip install openvino"):
        choose_backend("openvino")
    with pytest.raises(UsageError, match="give auto, torch, openvino"):
        choose_backend("onnx")
