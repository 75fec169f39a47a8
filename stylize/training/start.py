"""Where training begins: at the trained style that is nearest to the painting."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from stylize.errors import StylizeError, UsageError
from stylize.losses import PerceptualLoss
from stylize.model_file import Model, read_model
from stylize.networks.transformer import TransformerNet
from stylize.zoo import find_style, list_styles

NEAREST, RANDOM = "auto", "none"
"""What `start` may say beside a style's name."""


def load_start(network: TransformerNet, start: str) -> Model:
    """Take over the weights of a trained style, and its ground where the network has none.

    Raises:
        UsageError: there is none of this name, or it has another norm or width.
        StylizeError: its file is damaged.
    """
    model = read_model(find_style(start))
    plan = network.plan
    if not model.card.plan.takes_weights_of(plan):
        raise UsageError(
            f"start {start!r} has {model.card.norm} norm and width {model.card.width:g}; "
            f"this run has {plan.norm} norm and width {plan.width:g}"
        )
    _take_over(network, model)
    return model


def load_nearest(
    network: TransformerNet, loss: PerceptualLoss, photos: Tensor, leave_out: Collection[str] = ()
) -> Model | None:
    """Begin, as `load_start`, from the shipped style whose loss for the painting is lowest.

    Args:
        network: on the device of `loss` and `photos`; keeps its weights where no style fits.
        photos: (N, 3, H, W), on which they are tried.
        leave_out: names of styles that are not taken.

    Returns:
        The style; None where none has the network's norm and width.
    """
    best: tuple[float, Model] | None = None
    trial = copy.deepcopy(network).eval()
    for style in list_styles():
        try:
            fits = style.origin == "shipped" and style.card().plan.takes_weights_of(network.plan)
            if not fits or style.card().name in leave_out:
                continue
            model = read_model(style.path)
        except StylizeError:  # a damaged one is no start; `stylize styles` names it
            continue
        trial.lay_ground(network.plan.ground)
        _take_over(trial, model)
        with torch.inference_mode():
            total = float(loss(trial(photos), photos).total)
        if best is None or total < best[0]:
            best = total, model
    if best is None:
        return None
    _take_over(network, best[1])
    return best[1]


def _take_over(network: TransformerNet, model: Model) -> None:
    """Its weights, and its ground where the network has none."""
    network.load_tensors(model.tensors())
    if not network.plan.ground:
        network.lay_ground(model.card.ground)


def describe_start(model: Model) -> dict[str, Any]:
    """What the new card says of it."""
    card = model.card
    return {
        "name": card.name,
        "sha256": model.sha256,
        "steps": card.steps,
        "settings": card.settings,
        "start": card.start,
    }
