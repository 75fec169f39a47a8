"""Models of the well-known PyTorch example program, as styles of this one.

That program's network has the architecture of ours: the same kernels, reflection padding, nearest
enlargement and instance norm. What differs is taken into the weights here, so that the result is
the same: it takes and gives 0..255, and its convolutions have biases in front of their norms, which
the norms remove again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import stylize
from stylize.errors import StylizeError
from stylize.imaging.files import check_file
from stylize.model_file import ModelCard, file_sha256, write_model
from stylize.networks.plan import MAX_WIDTH, MIN_WIDTH, Plan, Stage, make_plan

WHITE = 255.0
"""The foreign network's picture values are 0..255."""

SHOWN_KEYS = 4
"""Keys that an error names at the most."""

_OLD_STATISTICS = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
"""Left by torch before 0.4 in norms that do not use them."""

_PARALLEL = "module."
"""What torch's DataParallel puts before every key."""

_UNWANTED = re.compile(r"GLOBAL (\S+) was not an allowed")
"""Where torch names a class that it does not unpickle."""


def import_model(source: Path, output: Path, title: str = "", licence: str = "") -> ModelCard:
    """Read a foreign model and write it as a style.

    Args:
        source: a file that `torch.save` wrote of a state dict; nothing but tensors is unpickled.
        output: the style's file.
        title, licence: of the painting and of the weights, for the card.

    Raises:
        UsageError: no such file.
        StylizeError: it is no such model, with the keys that do not fit; or it cannot be written.
    """
    check_file(source)
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have their own
        raise StylizeError(f"{source} is no file of tensors alone: {_why(error)}") from error
    plan, tensors = convert(source.name, loaded)
    card = ModelCard(
        name=output.stem,
        norm=plan.norm,
        width=plan.width,
        title=title,
        style_image="",
        style_sha256="",
        perceptual={},
        settings={"imported": source.name, "imported_sha256": file_sha256(source)},
        photos=0,
        steps=0,
        held_out_before=None,
        held_out_after=None,
        licence=licence,
        version=stylize.__version__,
    )
    write_model(output, card, tensors)
    return card


def _why(error: Exception) -> str:
    """What is in the file instead. torch's own words tell how to run what a stranger pickled."""
    remedy = "write torch.save(model.state_dict(), FILE), and import that"
    if found := _UNWANTED.search(str(error)):
        return f"it holds a {found[1]}, which is not unpickled; {remedy}"
    return f"it is damaged, or of another kind; {remedy}"


def convert(name: str, state: Any) -> tuple[Plan, dict[str, Tensor]]:
    """A foreign state dict as a plan and its tensors.

    Args:
        name: what errors call it.
        state: {key: tensor}, as the example program saves it.

    Raises:
        StylizeError: keys or shapes that do not fit.
    """
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        keys = list(map(str, state)) if isinstance(state, Mapping) else []
        what = ", ".join(keys[:SHOWN_KEYS]) or f"a {type(state).__name__}"
        raise StylizeError(f"{name} holds {what}; a state dict is wanted, names and tensors alone")
    if all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not _OLD_STATISTICS.search(key)}
    names = dict(_names(make_plan().stages))
    known = {key for foreign in names.values() for key in foreign}
    missing, strange = sorted(known - state.keys()), sorted(state.keys() - known)
    if missing or strange:
        raise StylizeError(
            f"{name} is no model of the PyTorch example's architecture: "
            + "; ".join(
                f"{len(keys)} keys {word} ({', '.join(keys[:SHOWN_KEYS])}"
                f"{', ...' if len(keys) > SHOWN_KEYS else ''})"
                for word, keys in (("are missing", missing), ("are unknown", strange))
                if keys
            )
        )
    plan = make_plan("instance", _width(name, state["conv1.conv2d.weight"]))
    tensors: dict[str, Tensor] = {}
    for stage in plan.stages:
        tensors |= _convert_stage(stage, names[stage.name], state)
    for key, shape in plan.parameter_shapes().items():
        if tuple(tensors[key].shape) != shape:
            raise StylizeError(
                f"{name}: what would be {key} is {tuple(tensors[key].shape)}; it must be {shape}"
            )
    return plan, tensors


def _convert_stage(
    stage: Stage, keys: tuple[str, ...], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    weight, bias = state[keys[0]].float(), state[keys[1]].float()
    if stage.bias:  # the last: 0..255 becomes 0..1
        return {
            f"{stage.name}.conv.weight": weight / WHITE,
            f"{stage.name}.conv.bias": bias / WHITE,
        }
    if stage.in_channels == 3:
        # 0..1 becomes 0..255; the shift by one half that ours has in front goes with the mean. The
        # norm's eps is then as small against the variance as it was.
        weight = weight * WHITE
    return {
        f"{stage.name}.conv.weight": weight,
        f"{stage.name}.norm.weight": state[keys[2]].float(),
        f"{stage.name}.norm.bias": state[keys[3]].float(),
    }


def _names(stages: tuple[Stage, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Our stages' names, and the foreign keys of each: convolution, then norm."""
    down = up = 0
    for stage in stages:
        block = re.fullmatch(r"(res\d)([ab])", stage.name)
        if block:
            part = "1" if block[2] == "a" else "2"
            prefix, norm = f"{block[1]}.conv{part}", f"{block[1]}.in{part}"
        elif up or stage.upsample > 1:
            up += 1
            prefix, norm = f"deconv{up}", f"in{3 + up}"
        else:
            down += 1
            prefix, norm = f"conv{down}", f"in{down}"
        keys = [f"{prefix}.conv2d.weight", f"{prefix}.conv2d.bias"]
        if stage.norm != "none":
            keys += [f"{norm}.weight", f"{norm}.bias"]
        yield stage.name, tuple(keys)


def _width(name: str, first: Tensor) -> float:
    width = first.shape[0] / make_plan().stages[0].out_channels if first.dim() else 0.0
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise StylizeError(f"{name}: its first convolution is {tuple(first.shape)}")
    return width
