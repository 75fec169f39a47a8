"""Which device and which number type a run takes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from stylize.cpu import bf16_pays
from stylize.errors import StylizeError, UsageError
from stylize.gpu import look_for_gpu

Network = TypeVar("Network", bound=nn.Module)


def resolve_device(name: str) -> torch.device:
    """A device by name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available() and _has_kernels(torch.device("cuda")):
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r}: give auto, cpu, cuda, cuda:N or mps") from None
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        why = look_for_gpu().unusable if device.type == "cuda" else ""
        raise UsageError(
            f"this machine has no device {name!r}{f' ({why})' if why else ''}; "
            f"--device cpu always works"
        )
    if device.type == "cuda" and not _has_kernels(device):
        major, minor = torch.cuda.get_device_capability(device)
        raise UsageError(
            f"this torch has nothing for {torch.cuda.get_device_name(device)}, whose compute "
            f"capability is {major}.{minor}; --device cpu always works"
        )
    return device


def _has_kernels(device: torch.device) -> bool:
    """Whether this build of torch can compute on a GPU: it has programs for its generation, or for
    an earlier one some that the driver translates. Without, each operator is an error.
    """
    capability = torch.cuda.get_device_capability(device)
    found = [_ARCHITECTURE.fullmatch(name) for name in torch.cuda.get_arch_list()]
    if not all(found):  # AMD's
        return True
    for kind, major, minor in (one.groups() for one in found if one):
        built = int(major), int(minor)
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return not found


_ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[af]?")


DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def resolve_precision(precision: str, device: torch.device) -> str:
    """The number type of the convolutions; "auto" takes bf16 where the device is faster in it.

    Emulated bf16 is slower than float32, and so is some CPUs' own: nobody gets it unasked.

    Raises:
        UsageError: no such precision, or not on this device.
    """
    if precision == "auto":
        faster = _has_bf16(device) and (device.type != "cpu" or bf16_pays())
        return "bf16" if faster else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("fp16 needs a GPU; on a CPU give --precision auto, fp32 or bf16")
    if precision not in DTYPES:
        raise UsageError(f"precision {precision!r}: give auto, {', '.join(DTYPES)}")
    if precision == "tf32" and not (device.type == "cuda" and _has_bf16(device)):
        raise UsageError("tf32 needs an NVIDIA GPU of 2020 or later; give auto, fp32 or fp16")
    return precision


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Of torch's public calls none tells this; the name and the answer hold since torch 2.6.
    return device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


_EXPORTING_IS_COMPILING = torch.__version__ < "2.12"  # it compares as versions do


def is_exporting() -> bool:
    """Whether torch.export traces; before 2.12 torch's own answer is yes to torch.compile too."""
    if _EXPORTING_IS_COMPILING:
        return torch.compiler._is_exporting_flag
    return torch.compiler.is_exporting()


def register_floats(device: torch.device, dtype: torch.dtype) -> int:
    """How many sums a register holds where an x86 CPU convolves in `dtype`: 16 (AVX-512), 8 (AVX2).

    With either, torch's convolutions leave much to be gained, and with AVX2 their derivatives even
    more. 0 wherever else: nothing was measured there.
    """
    if device.type != "cpu":
        return 0
    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512" and dtype in (torch.float32, torch.bfloat16):
        return 16
    return 8 if capability == "AVX2" and dtype == torch.float32 else 0


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which convolutions compute in a precision."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def as_it_is(x: torch.Tensor) -> AbstractContextManager[Any]:
    """The context in which operators compute in the type of x: autocast on a CPU makes float32 of
    what is padded, and a convolution behind it halves that again.
    """
    halves = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if not halves or torch.compiler.is_compiling():
        return nullcontext()
    return torch.autocast("cpu", enabled=False)


class _Asked:
    """cuDNN's settings are the process's: how many passes need theirs now, and what was before."""

    lock = threading.Lock()
    passes = 0
    before = "", False


@contextmanager
def convolving(device: torch.device, precision: str, repeatable: bool = False) -> Iterator[None]:
    """The context, forward and backward, in which a GPU's convolutions are what is asked for.

    torch's on CUDA round float32 to TF32, 10 bits of mantissa, unless they are told not to, and
    their derivatives may add in another order each time. The settings are the caller's again after
    the last of several threads' passes.

    Args:
        device: where; any other than CUDA needs nothing.
        precision: "fp32" is float32, "tf32" lets them round.
        repeatable: whether the same inputs must give the same bits.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    convolutions = cudnn.conv  # type: ignore[attr-defined]
    with _Asked.lock:
        if not _Asked.passes:
            _Asked.before = convolutions.fp32_precision, cudnn.deterministic
        _Asked.passes += 1
        if DTYPES[precision] == torch.float32:
            convolutions.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        if repeatable:
            cudnn.deterministic = True
    try:
        yield
    finally:
        with _Asked.lock:
            _Asked.passes -= 1
            if not _Asked.passes:
                convolutions.fp32_precision, cudnn.deterministic = _Asked.before


def place(network: Network, device: torch.device) -> Network:
    """Move a network to a device, its weights in channels_last, which convolutions like best.

    Raises:
        StylizeError: others have taken the device's memory.
    """
    network.to(memory_format=torch.channels_last)
    with needing_memory(f"a network on {device}", "end what else uses it, or give --device cpu"):
        return network.to(device)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or numpy says that memory did not suffice, on a GPU or on the CPU."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = ("can't allocate memory", "out of memory (MPS", "CUDA error: out of memory")
"""The CPU's words, MPS's, and those of a GPU that has no room for torch itself."""


@contextmanager
def needing_memory(what: str, remedy: str) -> Iterator[None]:
    """The context of work whose memory may not suffice: then that is one line.

    Args:
        what: what takes it, after "not enough memory for ".
        remedy: what mends it.

    Raises:
        StylizeError: it did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise StylizeError(f"not enough memory for {what}; {remedy}") from error
