"""The trainer: one painting, many photos, one transformer network.

It never prints and owns no files but the model it is told to save: `steps()` is a generator, and
whoever drives it shows the progress, and stops by no longer asking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import stylize
from stylize.config import TrainConfig
from stylize.devices import autocast, place, resolve_device, resolve_precision
from stylize.errors import StylizeError, UsageError
from stylize.held_out import (
    CROP,
    MAX_PHOTOS,
    SHORTER_SIDE,
    STYLE_SIZE,
    HeldOutLoss,
    held_out_loss,
    measure,
    split,
)
from stylize.imaging.files import Pixels, find_pictures, read_rgb
from stylize.imaging.geometry import crop_centre, resize_shorter_side
from stylize.imaging.tensors import to_pixels, to_tensor
from stylize.losses import PerceptualLoss, style_targets
from stylize.model_file import (
    TARGET_PREFIX,
    ModelCard,
    file_sha256,
    read_model,
    write_model,
)
from stylize.networks.perceptual import (
    DEFAULT_CONTENT_LAYERS,
    DEFAULT_STYLE_LAYERS,
    load_perceptual,
)
from stylize.networks.transformer import TransformerNet
from stylize.training.data import PhotoSampler, load_style
from stylize.zoo import find_style

PREVIEW_PHOTOS = 4
"""Photos on the preview strip, the first held-out ones."""


@dataclass(frozen=True)
class StepReport:
    """One step of training: losses of its batch, each with its weight."""

    step: int
    """Steps done, from 1."""
    content: float
    style: float
    total: float


class Trainer:
    """Learns one painting's style.

    Args:
        config: all settings.
        painting: the style image's file.
        content: a folder of photos, searched recursively; every tenth is held out.
        name: of the style, for the model's card.

    Raises:
        UsageError: a missing path, an empty folder, a device or layer that there is not.
        StylizeError: the painting or the loss network cannot be read.
    """

    def __init__(self, config: TrainConfig, painting: Path, content: Path, name: str) -> None:
        self.config = config
        self.name = name
        self.painting = painting
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        style_image = load_style(painting, config.style_size)
        photos, held_out = split(find_pictures(content))
        self.photos = photos
        self.held_out = held_out[:: math.ceil(len(held_out) / MAX_PHOTOS)]
        self.sampler = PhotoSampler(photos, config.size, config.batch_size, config.seed)

        self.perceptual = place(load_perceptual(config.perceptual), self.device)
        style_layers = config.style_layers or DEFAULT_STYLE_LAYERS[self.perceptual.architecture]
        content_layers = (
            config.content_layers or DEFAULT_CONTENT_LAYERS[self.perceptual.architecture]
        )
        self.loss = PerceptualLoss(
            self.perceptual,
            style_targets(self.perceptual, style_image.to(self.device), style_layers),
            content_layers,
            config.content_weight,
            config.style_strength,
            config.tv_weight,
            config.lattice_weight,
            config.gamut_weight,
            config.loss_units,
        )
        self.held_out_targets = style_targets(
            self.perceptual,
            load_style(painting, STYLE_SIZE).to(self.device),
            DEFAULT_STYLE_LAYERS[self.perceptual.architecture],
        )

        # The same draws whatever the caller's own random state is, and without touching it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = TransformerNet(config.norm, config.width)
        self.start = _load_start(network, config.start) if config.start else None
        self.network = place(network, self.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.step = 0
        """Steps done."""

    def steps(self) -> Iterator[StepReport]:
        """Train from where it stands to the last step, reporting each.

        Raises:
            StylizeError: the loss is no longer a number, or no photo can be read.
        """
        config = self.config
        for batch in self.sampler.batches(self.step, config.steps):
            self.network.train()
            photo = batch.to(self.device, memory_format=torch.channels_last)
            for group in self.optimiser.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(config, self.step)
            with autocast(self.device, self.precision):
                terms = self.loss(self.network(photo), photo, self.sampler.shift(self.step))
            total = terms.total
            self.optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
            self.optimiser.step()
            self.step += 1
            content, style = terms.content.item(), terms.style.item()
            report = StepReport(self.step, content, style, total.item())
            if not math.isfinite(report.total):
                raise StylizeError(
                    f"the loss is {report.total} at step {self.step}; a lower learning_rate "
                    f"(now {config.learning_rate:g}) or --precision fp32 mends it"
                )
            yield report

    def evaluate(self, on_photo: Callable[[], None] = lambda: None) -> HeldOutLoss:
        """The held-out loss of the network as it stands, in float32."""
        self.network.eval()
        loss = held_out_loss(self.perceptual, self.held_out_targets)
        return measure(self.network, loss, self.held_out, on_photo)

    def preview(self) -> list[list[Pixels]]:
        """Fixed photos and what the network makes of them now: two rows of pictures."""
        photos = [
            crop_centre(resize_shorter_side(picture, SHORTER_SIDE), CROP)
            for picture in self._preview_photos()
        ]
        self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            restyled = self.network(to_tensor(photos).to(self.device))
        return [photos, to_pixels(restyled)]

    def save(
        self, path: Path, before: HeldOutLoss | None = None, after: HeldOutLoss | None = None
    ) -> ModelCard:
        """Write the model file with everything known about it; the network may be half trained.

        Raises:
            StylizeError: the file cannot be written.
        """
        config = self.config
        card = ModelCard(
            name=self.name,
            norm=config.norm,
            width=config.width,
            title=config.title,
            style_image=self.painting.name,
            style_sha256=file_sha256(self.painting),
            perceptual={
                "name": self.perceptual.name,
                "sha256": self.perceptual.sha256,
                "architecture": self.perceptual.architecture,
            },
            settings=config.as_dict()
            | {
                "perceptual": self.perceptual.name,  # a path would say whose machine it was
                "start": Path(config.start).stem,
                "device": self.device.type,
                "precision": self.precision,
            },
            photos=len(self.photos),
            steps=self.step,
            held_out_before=before.as_dict() if before else None,
            held_out_after=after.as_dict() if after else None,
            licence=config.licence,
            version=stylize.__version__,
            start=self.start,
        )
        targets = {TARGET_PREFIX + layer: gram for layer, gram in self.held_out_targets.items()}
        tensors = {
            name: tensor.cpu() for name, tensor in (self.network.tensors() | targets).items()
        }
        write_model(path, card, tensors)
        return card

    def _preview_photos(self) -> list[Pixels]:
        pictures: list[Pixels] = []
        for path in self.held_out:
            if len(pictures) == PREVIEW_PHOTOS:
                break
            with suppress(StylizeError):  # unreadable ones are counted where they are measured
                pictures.append(read_rgb(path, enough=SHORTER_SIDE))
        return pictures


def _load_start(network: TransformerNet, start: str) -> dict[str, Any]:
    """Take over the weights of a trained style, and say what the new card is to say of it."""
    path = find_style(start)
    model = read_model(path)
    card, plan = model.card, network.plan
    if card.plan != plan:
        raise UsageError(
            f"start {start!r} has {card.norm} norm and width {card.width:g}; "
            f"this run has {plan.norm} norm and width {plan.width:g}"
        )
    network.load_tensors(model.tensors())
    return {
        "name": card.name,
        "sha256": model.sha256,
        "steps": card.steps,
        "settings": card.settings,
        "start": card.start,
    }


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """The learning rate of one step in parts of the highest: a ramp, then half a cosine.

    Example:
        >>> config = TrainConfig(steps=100, warmup_steps=10)
        >>> [round(learning_rate_factor(config, step), 2) for step in (0, 9, 50, 99)]
        [0.1, 0.98, 0.5, 0.0]
    """
    ramp = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.decay == "none":
        return ramp
    return ramp * (1 + math.cos(math.pi * step / config.steps)) / 2
