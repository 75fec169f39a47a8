"""Number types: what is refused, and that float32 on CUDA is float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stylize import cpu
from stylize.devices import (
    autocast,
    convolving,
    needing_memory,
    resolve_device,
    resolve_precision,
)
from stylize.errors import StylizeError, UsageError

GPU = torch.device("cuda")  # a name; nothing here computes


def setting() -> str:
    found: str = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return found


@pytest.fixture(params=["tf32", "ieee"])
def callers(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a program that embeds the model has chosen for its own convolutions."""
    before = setting()
    torch.backends.cudnn.conv.fp32_precision = request.param  # type: ignore[attr-defined]
    yield request.param
    torch.backends.cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]


@pytest.mark.parametrize(("precision", "meant"), [("fp32", "ieee"), ("tf32", "tf32")])
def test_float32_on_a_gpu_is_what_was_asked_for(callers: str, precision: str, meant: str) -> None:
    def run() -> None:
        with convolving(GPU, precision):
            assert setting() == meant
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run()
    assert setting() == callers


def test_other_precisions_and_devices_leave_the_setting(callers: str) -> None:
    for device, precision in ((GPU, "bf16"), (GPU, "fp16"), (torch.device("cpu"), "fp32")):
        with convolving(device, precision):
            assert setting() == callers


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 3.5 GB, max allowed"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_want_of_memory_is_told_from_other_errors(error: Exception, is_it: bool) -> None:
    def work() -> None:
        with needing_memory("a picture", "take a smaller one"):
            raise error

    wanted = r"not enough memory for a picture; take a smaller one" if is_it else str(error)
    with pytest.raises(StylizeError if is_it else RuntimeError, match=wanted):
        work()


BUILT = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "built", "fits"),
    [
        ((7, 5), BUILT, True),
        ((8, 9), BUILT, True),  # takes what was made for 8.6
        ((12, 1), BUILT, True),
        ((13, 0), BUILT, True),  # the driver translates 12.0's
        ((6, 1), BUILT, False),
        ((7, 0), BUILT, False),
        ((11, 0), [*BUILT[:-1], "sm_90a"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 4), ["gfx90a", "gfx942"], True),  # AMD's
        ((8, 0), [], True),
    ],
)
def test_a_gpu_that_torch_has_nothing_for_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: list[str], fits: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Something")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == ("cuda" if fits else "cpu")
    if fits:
        assert resolve_device("cuda:0") == torch.device("cuda:0")
        return
    with pytest.raises(UsageError, match=r"nothing for NVIDIA Something, whose .* is \d+\.\d; --d"):
        resolve_device("cuda:0")


def test_training_is_repeatable(callers: str) -> None:
    cudnn = torch.backends.cudnn
    assert not cudnn.deterministic
    with convolving(GPU, "bf16", repeatable=True):
        assert cudnn.deterministic
        with convolving(GPU, "fp32"):  # a preview meanwhile takes nothing away
            assert (cudnn.deterministic, setting()) == (True, "ieee")
    assert (cudnn.deterministic, setting()) == (False, callers)


def test_overlapping_passes_keep_it_to_the_last(callers: str) -> None:
    first, second = convolving(GPU, "fp32"), convolving(GPU, "fp32")
    first.__enter__()
    second.__enter__()  # as another thread would, before the first is done
    first.__exit__(None, None, None)
    assert setting() == "ieee"
    second.__exit__(None, None, None)
    assert setting() == callers


def test_tf32_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="tf32 needs an NVIDIA GPU"):
        resolve_precision("tf32", torch.device("cpu"))
    for capability, offered in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        if offered:
            assert resolve_precision("tf32", GPU) == "tf32"
        else:
            with pytest.raises(UsageError, match="give auto, fp32 or fp16"):
                resolve_precision("tf32", GPU)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("tf32", torch.float32),
                             ("bf16", torch.bfloat16)],
)  # fmt: skip
def test_only_halves_are_autocast(precision: str, dtype: torch.dtype) -> None:
    x, kernel = torch.rand(1, 3, 8, 8), torch.rand(2, 3, 3, 3)
    with autocast(torch.device("cpu"), precision):
        assert torch.conv2d(x, kernel).dtype == dtype


CPU_INFO = """processor	: 0
vendor_id	: {vendor}
flags		: fpu avx512f avx512_bf16 {flag}

processor	: 1
"""


@pytest.mark.parametrize(
    ("vendor", "flag", "taken"),
    [
        ("GenuineIntel", "amx_bf16", "bf16"),
        ("GenuineIntel", "", "fp32"),  # its bf16 is slower than float32 there
        ("AuthenticAMD", "", "bf16"),
        (None, "", "bf16"),  # no Linux: nothing is told
    ],
)
def test_bf16_is_taken_where_the_cpu_is_faster_in_it(
    vendor: str | None, flag: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino_engine = pytest.importorskip("stylize.inference.openvino_engine")
    there = tmp_path / "cpuinfo"
    if vendor:
        there.write_text(CPU_INFO.format(vendor=vendor, flag=flag))
    monkeypatch.setattr(cpu, "CPU_INFO", there)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(openvino_engine, "cpu_precisions", lambda core: ["fp32", "bf16"])
    assert resolve_precision("auto", torch.device("cpu")) == taken
    assert openvino_engine.resolve_precision("auto") == taken
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"  # who asks for it gets it
