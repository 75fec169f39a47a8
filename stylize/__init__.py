"""stylize: fast neural style transfer, with the normalisation one config word away.

>>> import stylize                                  # costs no torch, no numpy
>>> restyle = stylize.load("starry_night")          # doctest: +SKIP
>>> restyle(Image.open("photo.jpg")).save("out.png")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stylize.errors import StylizeError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from stylize.config import TrainConfig
    from stylize.inference.stylizer import Stylizer
    from stylize.networks.convert import convert_instance_norm
    from stylize.networks.layers import InstanceNorm2d
    from stylize.networks.transformer import TransformerNet
    from stylize.ops.instance_norm import instance_norm
    from stylize.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "InstanceNorm2d",
    "StylizeError",
    "Stylizer",
    "TrainConfig",
    "Trainer",
    "TransformerNet",
    "UsageError",
    "convert_instance_norm",
    "instance_norm",
    "load",
]

_HOMES = {
    "InstanceNorm2d": "stylize.networks.layers",
    "Stylizer": "stylize.inference.stylizer",
    "TrainConfig": "stylize.config",
    "Trainer": "stylize.training.trainer",
    "TransformerNet": "stylize.networks.transformer",
    "convert_instance_norm": "stylize.networks.convert",
    "instance_norm": "stylize.ops.instance_norm",
}


def load(
    style: str | Path = "starry_night",
    device: str = "auto",
    memory: int | None = None,
    backend: str = "auto",
    precision: str = "auto",
) -> Stylizer:
    """Load a trained style, ready to be called with pictures from several threads.

    Args:
        style: a name from `stylize styles`, or the path of a model file.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        memory: bytes that restyling one picture may take; None: by what is free.
        backend: "torch", "openvino" (CPU), or "auto": torch on a GPU, else OpenVINO where it is.
        precision: "fp32", "tf32", "bf16", "fp16", or "auto": bf16 where it is faster.

    Returns:
        A callable: PIL image, numpy (H, W, 3) or tensor (N, 3, H, W) in, the same kind out.

    Raises:
        UsageError: no such style, device, backend or precision here.
        StylizeError: the model file is damaged or not one of ours.
    """
    from stylize.inference.stylizer import Stylizer

    return Stylizer(style, device, memory, backend, precision)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stylize' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
