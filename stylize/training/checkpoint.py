"""Checkpoints of a run: one safetensors file each, whole or not there, the last two kept.

Tensors: `network.NAME`, and `optimiser.NAME.KEY` for each parameter. Metadata: one JSON object that
says which run it belongs to, so that none goes on with another painting or other settings.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from stylize.errors import StylizeError, UsageError
from stylize.safe_write import atomic_file, make_folder

KEPT = 2
"""Checkpoints on disk: should the newest be damaged with the disk, there is the one before."""

_KEY = "stylize-checkpoint"
_PATTERN = "step-*.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """Plain values: the step among them."""


def folder_of(output: Path) -> Path:
    """Where the checkpoints of a run lie: beside the model that it makes."""
    return output.with_name(f"{output.stem}.checkpoints")


def save_checkpoint(output: Path, checkpoint: Checkpoint, run: dict[str, Any]) -> None:
    """Write a checkpoint, and delete those before the last two.

    Raises:
        StylizeError: it cannot be written.
    """
    folder = folder_of(output)
    make_folder(folder)
    text = json.dumps({"state": checkpoint.state, "run": run}, sort_keys=True)
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.state['step']:08}.safetensors"
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, {_KEY: text}))
    for old in sorted(folder.glob(_PATTERN))[:-KEPT]:
        old.unlink(missing_ok=True)


def load_checkpoint(output: Path, run: dict[str, Any]) -> Checkpoint:
    """Read the newest readable checkpoint of a run.

    Args:
        run: what identifies the run, as it was given to `save_checkpoint`.

    Raises:
        UsageError: there is none, or it belongs to another run; the message names what differs.
        StylizeError: none can be read.
    """
    paths = sorted(folder_of(output).glob(_PATTERN), reverse=True)
    if not paths:
        raise UsageError(f"nothing to resume: there is no checkpoint in {folder_of(output)}")
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {})[_KEY])
                found, state = dict(content["run"]), dict(content["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            continue
        for name, value in run.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{path} belongs to another run: its {name} is {found.get(name)!r}, "
                    f"not {value!r}; begin anew with --overwrite"
                )
        return Checkpoint(tensors, state)
    raise StylizeError(f"no checkpoint in {folder_of(output)} can be read")


def has_checkpoint(output: Path) -> bool:
    """Whether there is something to resume."""
    return any(folder_of(output).glob(_PATTERN))


def delete_checkpoints(output: Path) -> None:
    """Once the model is written, nothing needs them."""
    shutil.rmtree(folder_of(output), ignore_errors=True)


def pack(network: nn.Module, optimisers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Copies of a network's and its optimisers' tensors, by name, on the CPU."""
    found = {f"network.{name}": t for name, t in network.state_dict().items()}
    for name, parameter, optimiser in _moved(network, optimisers):
        for key, value in optimiser.state.get(parameter, {}).items():
            found[f"optimiser.{name}.{key}"] = value
    return {name: t.detach().to("cpu", copy=True) for name, t in found.items()}


def unpack(tensors: dict[str, Tensor], network: nn.Module, optimisers: Sequence[Optimizer]) -> None:
    """Put them back where `pack` found them."""
    state = {
        name.removeprefix("network."): tensor
        for name, tensor in tensors.items()
        if name.startswith("network.")
    }
    network.load_state_dict(state)
    for name, parameter, optimiser in _moved(network, optimisers):
        prefix = f"optimiser.{name}."
        # Where the optimiser keeps its count of steps.
        device = parameter.device if optimiser.defaults.get("capturable") else "cpu"
        found = {
            # As the optimiser made them, strides and all.
            key.removeprefix(prefix): torch.empty_like(parameter).copy_(tensor)
            if tensor.shape == parameter.shape
            else tensor.to(device, copy=True)
            for key, tensor in tensors.items()
            if key.startswith(prefix)
        }
        if found:
            optimiser.state[parameter] = found
        else:
            optimiser.state.pop(parameter, None)


def _moved(
    network: nn.Module, optimisers: Sequence[Optimizer]
) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """Each parameter's name, itself, and what moves it."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter, optimiser
