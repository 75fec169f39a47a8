"""Two finished models measured on the same photos."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from stylize.errors import StylizeError
from stylize.held_out import HeldOutLoss, held_out_loss, measure
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import shrink_to
from stylize.imaging.synthetic import Source, read_source
from stylize.inference.stylizer import Stylizer
from stylize.model_file import ModelCard
from stylize.networks.perceptual import CONVOLUTIONS, SLIM, PerceptualNet, load_perceptual

ROUNDING = 1e-2
"""Of Gram matrices, by which those of one painting may differ between machines and precisions; a
smoothed one's differ by six times that and more."""

IMPORTED = "it came from another program, and does not say what its painting was"

SHOWN_SIDE = 512
"""Longer side in pixels of the pictures that are shown, and timed."""


@dataclass(frozen=True)
class Measured:
    """One model's figures."""

    label: str
    norm: str
    sha256: str
    loss: HeldOutLoss | None
    """None where the loss network is not at hand."""
    missing: str
    """Why there is no loss; empty where there is one."""
    seconds: float
    """A picture with SHOWN_SIDE as its longer side, the median over the shown photos."""


@dataclass(frozen=True)
class Row:
    """One photo and what each model makes of it."""

    name: str
    photo: Pixels
    restyled: list[Pixels]


@dataclass(frozen=True)
class Comparison:
    """All that a report shows."""

    models: list[Measured]
    rows: list[Row]
    perceptual: str
    """Name of the loss network, or empty."""
    device: str
    one_painting: bool
    """Whether all losses are against one painting, so that they can be compared."""
    skipped: dict[Source, str] = field(default_factory=dict)
    """Photos that could not be read, and why."""


def compare_models(
    stylizers: Sequence[Stylizer],
    labels: Sequence[str],
    photos: Sequence[Path],
    perceptual: str | None = None,
    shown: int = 6,
    on_photo: Callable[[], None] = lambda: None,
) -> Comparison:
    """Measure models on photos, and restyle some of them to look at.

    Args:
        stylizers: the models.
        labels: what each is called.
        photos: files; unreadable ones are left out and named.
        perceptual: the loss network, as `load_perceptual` takes it; by default the one that the
            models' cards name, where that is no file of somebody's.
        shown: how many photos are restyled to be shown.
        on_photo: called after each photo of each model.

    Raises:
        UsageError: no such loss network.
        StylizeError: none of the photos could be read.
    """
    network, reasons = _find_perceptual(stylizers, perceptual)
    losses: list[tuple[HeldOutLoss | None, str]] = []
    for stylizer, reason in zip(stylizers, reasons, strict=True):
        loss = None
        missing = _missing(stylizer.card, network, reason)
        if network is not None and not missing:
            targets = {name: torch.from_numpy(gram) for name, gram in stylizer.targets.items()}
            module = held_out_loss(network, targets).to(stylizer.engine.device)
            loss = measure(stylizer, module, photos, on_photo)
        losses.append((loss, missing))

    rows, seconds, skipped = restyle_rows(stylizers, photos, shown)
    if not rows:
        raise StylizeError(f"none of the {len(photos)} photos could be read")
    models = [
        Measured(label, one.card.norm, one.sha256, loss, missing, statistics.median(times))
        for one, label, (loss, missing), times in zip(
            stylizers, labels, losses, seconds, strict=True
        )
    ]
    measured = [one for one, (loss, _) in zip(stylizers, losses, strict=True) if loss]
    return Comparison(
        models,
        rows,
        _described(network, stylizers),
        stylizers[0].engine.device,
        _learned_one_painting(measured),
        skipped,
    )


def _learned_one_painting(stylizers: Sequence[Stylizer]) -> bool:
    """Whether all have the same targets, but for how they were computed; smoothed or not counts."""
    return all(
        np.linalg.norm(gram - stylizers[0].targets[layer]) <= ROUNDING * np.linalg.norm(gram)
        for one in stylizers[1:]
        for layer, gram in one.targets.items()
    )


def restyle_rows(
    stylizers: Sequence[Stylizer], photos: Sequence[Source], shown: int
) -> tuple[list[Row], list[list[float]], dict[Source, str]]:
    """Restyle photos to be looked at, SHOWN_SIDE at the most; the models take turns on each.

    Args:
        stylizers: the models.
        photos: files; unreadable ones are left out.
        shown: how many are restyled.

    Returns:
        A row for each photo; seconds by model and photo; {unreadable photo: why}.
    """
    rows: list[Row] = []
    seconds: list[list[float]] = [[] for _ in stylizers]
    skipped: dict[Source, str] = {}
    for path in photos:
        if len(rows) == shown:
            break
        try:
            photo = shrink_to(read_source(path), SHOWN_SIDE)
        except StylizeError as error:
            skipped[path] = str(error)
            continue
        if not rows:  # the first pass of a process pays for what later ones share
            for stylizer in stylizers:
                stylizer(photo)
        restyled = []
        for stylizer, times in zip(stylizers, seconds, strict=True):
            start = time.perf_counter()
            restyled.append(stylizer(photo))
            times.append(time.perf_counter() - start)
        rows.append(Row(path.name if isinstance(path, Path) else str(path), photo, restyled))
    return rows, seconds, skipped


def _find_perceptual(
    stylizers: Sequence[Stylizer], chosen: str | None
) -> tuple[PerceptualNet | None, list[str]]:
    """The loss network of the first model that has one to be had, or None; for each model, why it
    has none, or an empty text.
    """
    reasons = [""] * len(stylizers)
    if chosen is not None:
        return load_perceptual(chosen), reasons
    for number, one in enumerate(stylizers):
        try:
            return _network_of(one.card), reasons
        except StylizeError as error:
            reasons[number] = str(error)
    return None, reasons


def _network_of(card: ModelCard) -> PerceptualNet:
    """The loss network that a model was trained with, or that stands for it.

    Raises:
        StylizeError: it is not to be had, and why.
    """
    if "name" not in card.perceptual:
        raise StylizeError(IMPORTED)
    shipped, name = load_perceptual(SLIM), str(card.perceptual["name"])
    if shipped.measures(card.perceptual.get("sha256")):
        return shipped
    if name not in (SLIM, *CONVOLUTIONS):
        raise StylizeError(f"its loss network {name!r} is a file: give it as --perceptual FILE")
    return load_perceptual(name)


def _described(network: PerceptualNet | None, stylizers: Sequence[Stylizer]) -> str:
    """The loss network's name, and whose place it takes; empty for none."""
    if network is None:
        return ""
    trained_with = [one.card.perceptual for one in stylizers]
    same = [net for net in trained_with if net.get("sha256") == network.stands_for]
    names = {str(net.get("name")) for net in same}
    return f"{network.name}, which stands for {', '.join(names)}" if names else network.name


def _missing(card: ModelCard, network: PerceptualNet | None, reason: str) -> str:
    """Why there is no loss: `reason`, or that `network` is another; empty where it can measure."""
    trained_with = card.perceptual
    if network is not None and network.measures(trained_with.get("sha256")):
        return ""
    if network is None or reason:
        return reason
    if "name" not in trained_with:
        return IMPORTED
    return (
        f"it was trained with the loss network {trained_with.get('name')!r}, "
        f"which {network.name!r} is not"
    )
