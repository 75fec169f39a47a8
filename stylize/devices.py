"""Which device and which number type a run takes."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

from stylize.config import Precision
from stylize.errors import UsageError

Network = TypeVar("Network", bound=nn.Module)


def resolve_device(name: str) -> torch.device:
    """A device by name; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
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
        raise UsageError(f"this machine has no device {name!r}; --device cpu always works")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """The number type of the convolutions; "auto" takes bf16 where the device has it in hardware.

    Emulated bf16 is slower than float32, so nobody gets it unasked.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    if device.type == "cpu":
        # Of torch's public calls none tells this; the name and the answer hold since torch 2.6.
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16" if native else "fp32"
    return "fp32"


def place(network: Network, device: torch.device) -> Network:
    """Move a network to a device, its weights in channels_last, which convolutions like best."""
    network.to(memory_format=torch.channels_last)
    return network.to(device)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that memory did not suffice, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
