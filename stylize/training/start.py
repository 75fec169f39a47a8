"""Where training begins: at the trained style that is nearest to the painting, in its colours."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylize.errors import StylizeError, UsageError
from stylize.losses import PerceptualLoss
from stylize.model_file import Model, read_model
from stylize.networks.transformer import TransformerNet
from stylize.palette import colour_map, recolour
from stylize.zoo import find_style, list_styles

NEAREST, RANDOM = "auto", "none"
"""What `start` may say beside a style's name."""

TRIALS = 2
"""Batches on which a start is tried: one to take its colours from, another to judge by."""


@dataclass(frozen=True)
class Start:
    """What a network begins from."""

    model: Model
    recoloured: bool
    """Whether in the painting's colours."""
    loss: float
    """For the painting, before any step."""

    def describe(self) -> dict[str, Any]:
        """What the new card says of it."""
        card = self.model.card
        return {
            "name": card.name,
            "sha256": self.model.sha256,
            "recoloured": self.recoloured,
            "steps": card.steps,
            "settings": card.settings,
            "start": card.start,
        }


def load_start(
    network: TransformerNet, start: str, loss: PerceptualLoss, photos: Sequence[Tensor]
) -> Start:
    """Take over the weights of a trained style, and its ground where the network has none.

    Where that has a lower loss, in the painting's colours.

    Args:
        network: on the device of `loss` and `photos`.
        start: a style's name or file.
        loss: of the painting, with its palette.
        photos: TRIALS batches (N, 3, H, W).

    Raises:
        UsageError: there is no such style, or it has another norm or width.
        StylizeError: its file is damaged.
    """
    model = read_model(find_style(start))
    plan = network.plan
    if not model.card.plan.takes_weights_of(plan):
        raise UsageError(
            f"start {start!r} has {model.card.norm} norm and width {model.card.width:g}; "
            f"this run has {plan.norm} norm and width {plan.width:g}"
        )
    return _take_over(network, model, loss, photos)


def load_nearest(
    network: TransformerNet,
    loss: PerceptualLoss,
    photos: Sequence[Tensor],
    leave_out: Collection[str] = (),
) -> Start | None:
    """Begin, as `load_start`, from the shipped style whose loss for the painting is lowest.

    Args:
        network, loss, photos: see there; the network keeps its weights where no style fits.
        leave_out: names of styles that are not taken.

    Returns:
        None where no style has the network's norm and width.
    """
    best: Start | None = None
    for style in list_styles():
        try:
            fits = style.origin == "shipped" and style.card().plan.takes_weights_of(network.plan)
            if not fits or style.card().name in leave_out:
                continue
            model = read_model(style.path)
        except StylizeError:  # a damaged one is no start; `stylize styles` names it
            continue
        found = _take_over(copy.deepcopy(network), model, loss, photos)
        if best is None or found.loss < best.loss:
            best = found
    return best and _take_over(network, best.model, loss, photos)


def _take_over(
    network: TransformerNet, model: Model, loss: PerceptualLoss, photos: Sequence[Tensor]
) -> Start:
    """As `load_start` says."""
    network.load_tensors(model.tensors())
    if not network.plan.ground:
        network.lay_ground(model.card.ground)
    with torch.no_grad():
        fitted, judged = photos
        colours = colour_map(network.eval()(fitted).clamp(0, 1).nan_to_num(), loss.palette)
        restyled = network(judged)
        as_it_is, recoloured = (
            float(loss(each, judged).total) for each in (restyled, recolour(restyled, *colours))
        )
    if recoloured < as_it_is:
        network.recolour(*colours)
    return Start(model, recoloured < as_it_is, min(as_it_is, recoloured))
