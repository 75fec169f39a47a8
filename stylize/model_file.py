"""The model file: one safetensors file that carries the network and all that is known about it.

Tensors: the network's by the plan's names; `target.LAYER`, the painting's Gram matrices for the
held-out loss; and `thumbnail`, a small restyled picture. Metadata: one key, `stylize`, a JSON
object with the fields of `ModelCard`; one key, because safetensors does not keep the order of
several, and equal runs give equal files.

Reading checks the header against the plan before anything is allocated, and imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from reprlib import repr as short
from types import UnionType
from typing import TYPE_CHECKING, Any

from stylize.errors import StylizeError, UsageError
from stylize.networks.plan import Norm, Plan, make_plan
from stylize.safe_write import atomic_file

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

FORMAT = 1
MAX_HEADER_BYTES = 1 << 20
"""A header of ours has some 10 kB."""

MAX_DIGITS = 20
"""Of whole numbers in a card; a seed has up to 19."""

TARGET_PREFIX = "target."
MAX_TARGET_SIDE = 1024
"""Gram matrices are C x C; VGG's widest layer has 512 channels."""

THUMBNAIL = "thumbnail"
MAX_THUMBNAIL_SIDE = 256

_ITEM_BYTES = {"F32": 4, "F16": 2, "U8": 1}


@dataclass(frozen=True)
class ModelCard:
    """What is known about a trained style; no dates, paths or durations, so that equal runs give
    equal files.
    """

    name: str
    """Of the style, as `--style` takes it."""
    norm: Norm
    width: float
    title: str
    """Of the painting, with artist and year; may be empty."""
    style_image: str
    """File name of the painting."""
    style_sha256: str
    """Of the painting's file."""
    perceptual: dict[str, Any]
    """The loss network: name, sha256, architecture."""
    settings: dict[str, Any]
    """Every setting of the training run."""
    photos: int
    """How many photos it was trained on."""
    steps: int
    """Optimiser steps taken, fewer than the setting where training was stopped."""
    held_out_before: dict[str, float] | None
    """Held-out loss of the starting network: content, style, total, photos."""
    held_out_after: dict[str, float] | None
    """The same at the end; None where training was stopped, or the photos were gone."""
    licence: str
    version: str
    """Of stylize, which trained it."""
    start: dict[str, Any] | None = None
    """What it began from: name, sha256, steps and settings; None for random weights."""
    generated: int = 0
    """How many generated pictures it was trained on beside, or instead of, the photos."""
    ground: float = 0.0
    """How strong the field is that the network paints on; see `stylize.networks.ground`."""
    rounded_from: str = ""
    """SHA-256 of the file whose single-precision weights were rounded to half precision here; empty
    where none were."""
    format: int = FORMAT

    @property
    def plan(self) -> Plan:
        """The network that the file's tensors belong to."""
        return make_plan(self.norm, self.width, self.ground)


@dataclass(frozen=True)
class Model:
    """A model file that was read."""

    card: ModelCard
    arrays: dict[str, npt.NDArray[np.float32]]
    """The network's parameters by the plan's names."""
    targets: dict[str, npt.NDArray[np.float32]]
    """The painting's Gram matrices, (C, C), by layer."""
    sha256: str
    """Of the file, in hexadecimal."""

    def norms(self) -> dict[str, npt.NDArray[np.float64]]:
        """The norms' parameters, in double precision."""
        found = {name: array for name, array in self.arrays.items() if ".norm." in name}
        return {name: array.astype("float64") for name, array in found.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters for torch; they share the arrays' memory."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


def write_model(path: Path, card: ModelCard, tensors: Mapping[str, Tensor]) -> None:
    """Write a model file, whole or not at all.

    Args:
        tensors: the network's by the plan's names, `target.LAYER`, and perhaps `thumbnail`.

    Raises:
        StylizeError: the file cannot be written.
    """
    from safetensors.torch import save

    metadata = {"stylize": json.dumps(asdict(card), sort_keys=True)}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def read_card(path: Path) -> ModelCard:
    """Read and check a model file's header; the tensors stay on disk.

    Raises:
        UsageError: no such file.
        StylizeError: the file is not one of ours, or is damaged.
    """
    header, data_bytes = _read_header(path)
    metadata = header.pop("__metadata__", None)
    text = metadata.get("stylize") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise StylizeError(f"{path} is a safetensors file, but no model that stylize wrote")
    card = _parse_card(path, text)
    _check_tensors(path, header, data_bytes, card.plan)
    return card


def read_model(path: Path) -> Model:
    """Read a model file.

    Raises:
        UsageError: no such file.
        StylizeError: the file is not one of ours, or is damaged.
    """
    card = read_card(path)
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        found = load(data)
    except (SafetensorError, OSError) as error:
        raise StylizeError(f"{path} is damaged: {error}") from error
    found.pop(THUMBNAIL, None)
    arrays = {name: array.astype(np.float32) for name, array in found.items()}
    targets = {
        name.removeprefix(TARGET_PREFIX): arrays.pop(name)
        for name in sorted(arrays)
        if name.startswith(TARGET_PREFIX)
    }
    return Model(card, arrays, targets, hashlib.sha256(data).hexdigest())


def read_thumbnail(path: Path) -> npt.NDArray[np.uint8] | None:
    """The small picture in a model file, (H, W, 3); None where it has none.

    Raises:
        UsageError, StylizeError: as `read_card`.
    """
    read_card(path)
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return file.get_tensor(THUMBNAIL) if THUMBNAIL in file.keys() else None  # noqa: SIM118


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors header, and the number of bytes behind it."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a model file is wanted here")
    if not path.exists():
        raise UsageError(f"no such model file: {path}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise StylizeError(f"{path} is no model file: it has no safetensors header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise StylizeError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StylizeError(f"{path} is no model file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise StylizeError(f"{path} is no model file: its header is no JSON object")
    return header, size - 8 - length


def _parse_card(path: Path, text: str) -> ModelCard:
    try:
        values = json.loads(text, parse_int=_whole_number)
        known = {field.name for field in fields(ModelCard)}
        if values.get("format", 0) > FORMAT:
            raise StylizeError(f"{path} was written by a newer stylize; upgrade to read it")
        card = ModelCard(**{name: value for name, value in values.items() if name in known})
        _ = card.plan
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StylizeError(f"{path}: its card cannot be read: {error}") from error
    for field in fields(ModelCard):
        value = getattr(card, field.name)
        if not _FITS[str(field.type)](value):
            raise StylizeError(
                f"{path}: its card cannot be read: its {field.name} is {short(value)}"
            )
    return card


def _whole_number(digits: str) -> int:
    """Of a card, none of whose numbers is beyond floats."""
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _has(value: Any, kind: type | UnionType, *entries: str) -> bool:
    """Whether it is a JSON object whose `entries` are there, and of that kind."""
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name in entries)


_FITS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "Norm": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int),
    "float": lambda value: isinstance(value, int | float),
    "dict[str, Any]": lambda value: isinstance(value, dict),
    "dict[str, Any] | None": lambda value: value is None or _has(value, str, "name"),
    "dict[str, float] | None": lambda value: (
        value is None or _has(value, int | float, "content", "style", "total", "photos")
    ),
}
"""Whether what a file holds is what the card has, by the type of the card's field."""


def _check_tensors(path: Path, header: dict[str, Any], data_bytes: int, plan: Plan) -> None:
    """Raise StylizeError unless the header's tensors are the plan's and the Gram targets."""
    wanted = plan.parameter_shapes()
    missing = sorted(wanted.keys() - header.keys())
    if missing:
        raise StylizeError(f"{path}: tensor {missing[0]} is missing ({len(missing)} in all)")
    total = 0
    for name, entry in header.items():
        try:
            shape, dtype = tuple(entry["shape"]), entry["dtype"]
            begin, end = entry["data_offsets"]
            size = math.prod(shape) * _ITEM_BYTES[dtype]
        except (KeyError, TypeError, ValueError):
            raise StylizeError(f"{path}: the entry of tensor {name} cannot be read") from None
        if not _fits(name, shape, dtype, wanted):
            expected = wanted.get(name, "no such tensor")
            raise StylizeError(
                f"{path}: tensor {name} is {dtype} {shape}; the network of its card, norm "
                f"{plan.norm} and width {plan.width:g}, has {expected}"
            )
        if not 0 <= begin <= end <= data_bytes or end - begin != size:
            raise StylizeError(f"{path} is damaged: tensor {name} does not lie inside the file")
        total += size
    if total != data_bytes:
        raise StylizeError(
            f"{path} is damaged: it holds {data_bytes} bytes of tensors, not {total}"
        )


def _fits(
    name: str, shape: tuple[int, ...], dtype: str, wanted: Mapping[str, tuple[int, ...]]
) -> bool:
    if name == THUMBNAIL:
        sides = shape[:2]
        return (
            dtype == "U8"
            and shape[2:] == (3,)
            and 0 < min(sides) <= max(sides) <= MAX_THUMBNAIL_SIDE
        )
    if dtype == "U8":
        return False
    if name in wanted:
        return shape == wanted[name]
    square = len(shape) == 2 and 0 < shape[0] == shape[1] <= MAX_TARGET_SIDE
    return square and name.startswith(TARGET_PREFIX)
