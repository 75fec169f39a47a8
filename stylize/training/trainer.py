"""The trainer: one painting, many photos, one transformer network.

It never prints and owns no files but the model it is told to save: `steps()` is a generator, and
whoever drives it shows the progress, and stops by no longer asking.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import stylize
from stylize.config import TrainConfig
from stylize.devices import autocast, convolving, place, resolve_device, resolve_precision
from stylize.errors import StylizeError
from stylize.held_out import (
    CROP,
    SHORTER_SIDE,
    STYLE_SIZE,
    HeldOutLoss,
    held_out_loss,
    measure,
)
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import crop_centre, resize_shorter_side, thumbnail
from stylize.imaging.synthetic import read_source
from stylize.imaging.tensors import to_pixels, to_tensor
from stylize.losses import PerceptualLoss, covariance_matrix, style_targets
from stylize.model_file import (
    TARGET_PREFIX,
    THUMBNAIL,
    ModelCard,
    file_sha256,
    write_model,
)
from stylize.networks.perceptual import (
    DEFAULT_CONTENT_LAYERS,
    DEFAULT_STYLE_LAYERS,
    load_perceptual,
)
from stylize.networks.transformer import TransformerNet
from stylize.training.checkpoint import Checkpoint, load_checkpoint, pack, unpack
from stylize.training.data import PhotoSampler, load_style, split_content, with_generated
from stylize.training.distributed import World
from stylize.training.guard import AstrayError, Guard
from stylize.training.optimiser import make_optimisers
from stylize.training.schedule import learning_rate_factor
from stylize.training.start import NEAREST, RANDOM, describe_start, load_nearest, load_start

PREVIEW_PHOTOS = 4
"""Photos on the preview strip, the first held-out ones."""

LOG = logging.getLogger("stylize")


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
        content: a folder of photos, searched recursively; every tenth is held out. None: generated
            pictures.
        name: of the style, for the model's card.
        resume: the model file of a run whose last checkpoint is gone on from; None: a new run.
        world: the processes that train together; `batch_size` is of each.

    Raises:
        UsageError: a missing path, an empty folder, a device or layer that there is not, nothing to
            resume.
        StylizeError: the painting, the loss network or the checkpoint cannot be read.
    """

    def __init__(
        self,
        config: TrainConfig,
        painting: Path,
        content: Path | None,
        name: str,
        resume: Path | None = None,
        world: World = World(),  # noqa: B008 - frozen
    ) -> None:
        self.config = config
        self.name = name
        self.painting = painting
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        style_image = load_style(painting, config.style_size).to(self.device)
        self.photos, held_out = split_content(content, config.seed)
        every = math.ceil(len(held_out) / config.held_out_photos) if content else 1
        self.held_out = held_out[::every]
        self.sources = with_generated(self.photos, config.seed)
        self.world = world
        together = config.batch_size * world.size
        shard = world.rank, world.size
        self.sampler = PhotoSampler(
            self.sources, config.size, together, config.seed, shard, config.half_size_steps
        )

        self.perceptual = place(load_perceptual(config.perceptual), self.device)
        style_layers = config.style_layers or DEFAULT_STYLE_LAYERS[self.perceptual.architecture]
        content_layers = (
            config.content_layers or DEFAULT_CONTENT_LAYERS[self.perceptual.architecture]
        )
        self.loss = PerceptualLoss(
            self.perceptual,
            style_targets(self.perceptual, style_image, style_layers),
            content_layers,
            config.content_weight,
            config.style_strength,
            config.tv_weight,
            config.flat_weight * config.price_factor,
            config.lattice_weight * config.price_factor,
            config.edge_weight * config.price_factor,
            config.gamut_weight,
            config.loss_units,
            style_targets(self.perceptual, style_image, style_layers, covariance_matrix),
            config.covariance_weight,
        )
        self.held_out_targets = style_targets(
            self.perceptual,
            load_style(painting, STYLE_SIZE).to(self.device),
            DEFAULT_STYLE_LAYERS[self.perceptual.architecture],
        )

        # The same draws whatever the caller's own random state is, and without touching it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = TransformerNet(config.norm, config.width, config.ground)
        self.network = place(network, self.device)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.optimisers = make_optimisers(
            self.network, config.optimiser, config.learning_rate, dtype
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.step = 0
        """Steps done."""
        self.guard = Guard()
        self.before: HeldOutLoss | None = None
        """The held-out loss at step 0, where it was measured."""
        self.start: dict[str, Any] | None = None
        """What it began from, for the card; None for random weights."""
        if resume is None:
            self._begin()
        else:
            self._restore(load_checkpoint(resume, self.run))
        self.parallel = world.wrap(self.network)
        self.last_good = self.checkpoint()
        """The last checkpoint; taken every `checkpoint_every` steps."""

    @property
    def run(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to go on: all that decides what is computed."""
        settings = self.config.as_dict()
        for name in ("preview_every", "title", "licence", "held_out_photos"):
            del settings[name]
        names = "\n".join(str(source) for source in self.sources)
        return settings | {
            "device": self.device.type,
            "precision": self.precision,
            "processes": self.world.size,
            "content_layers": list(self.config.content_layers),
            "style_layers": list(self.config.style_layers),
            "painting": file_sha256(self.painting),
            "loss network": self.perceptual.sha256,
            "content": hashlib.sha256(names.encode()).hexdigest()[:16],
        }

    def steps(self) -> Iterator[StepReport]:
        """Train from where it stands to the last step, reporting each.

        A loss that is no number, or runs away, takes the run back to its last checkpoint, with half
        the learning rate.

        Raises:
            StylizeError: that did not help, or no photo can be read.
        """
        # Only now, as what was measured before the first step belongs to it.
        self.last_good = self.checkpoint()
        while self.step < self.config.steps:
            try:
                yield from self._steps()
            except AstrayError as error:
                self._retreat(str(error))

    def _steps(self) -> Iterator[StepReport]:
        config = self.config
        for batch in self.sampler.batches(self.step, config.steps):
            self.network.train()
            photo = batch.to(self.device, memory_format=torch.channels_last)
            factor = learning_rate_factor(config, self.step) * self.guard.rate
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            with convolving(self.device, self.precision, repeatable=True):
                with autocast(self.device, self.precision):
                    restyled = self.parallel(photo, self.sampler.ground_place(self.step))
                    terms = self.loss(restyled, photo, self.sampler.shift(self.step))
                total = self.world.mean(terms.total.item())
                self.guard.check_loss(total)
                self.network.zero_grad()
                torch.autograd.backward(self.scaler.scale(terms.total))
            for optimiser in self.optimisers:
                self.scaler.unscale_(optimiser)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
            if not self.scaler.is_enabled():  # a scaler skips such steps, and goes on
                self.guard.check_gradient(float(norm))
            for optimiser in self.optimisers:
                self.scaler.step(optimiser)
            self.scaler.update()
            self.loss.remember(self.world.average(terms.tint))
            self.step += 1
            if self.step % config.checkpoint_every == 0:
                self.last_good = self.checkpoint()
            yield StepReport(self.step, terms.content.item(), terms.style.item(), total)

    def _retreat(self, reason: str) -> None:
        step, rate = self.step + 1, self.config.learning_rate
        retreats = self.guard.retreat(reason, step)
        self._restore(self.last_good)
        self.guard.slow_down(retreats)
        LOG.warning(
            "%s at step %d: going back to step %d, with a learning rate of %.2g instead of %.2g",
            reason, step, self.step, rate * self.guard.rate, rate * self.guard.rate * 2,
        )  # fmt: skip

    def _begin(self) -> None:
        """Load what the run begins from."""
        if self.config.start == NEAREST:
            photos = self.sampler.batch(0).to(self.device)
            model = load_nearest(self.network, self.loss, photos)
        elif self.config.start == RANDOM:
            model = None
        else:
            model = load_start(self.network, self.config.start)
        self.start = describe_start(model) if model else None

    def checkpoint(self) -> Checkpoint:
        """Everything that the next step depends on, as it stands."""
        state = {
            "step": self.step,
            "guard": self.guard.state(),
            "scaler": self.scaler.state_dict(),
            "tint": self.loss.tint.tolist(),
            "before": asdict(self.before) if self.before else None,
            "start": self.start,
            "ground": self.network.plan.ground,
        }
        return Checkpoint(pack(self.network, self.optimisers), state)

    def _restore(self, checkpoint: Checkpoint) -> None:
        unpack(checkpoint.tensors, self.network, self.optimisers)
        state = checkpoint.state
        self.step, self.start = state["step"], state["start"]
        self.network.lay_ground(state["ground"])
        self.guard.restore(state["guard"])
        self.loss.tint.copy_(torch.tensor(state["tint"]))
        self.before = HeldOutLoss(**state["before"]) if state["before"] else None
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def evaluate(self, on_photo: Callable[[], None] = lambda: None) -> HeldOutLoss:
        """The held-out loss of the network as it stands, in float32."""
        self.network.eval()
        loss = held_out_loss(self.perceptual, self.held_out_targets)
        return measure(self.network, loss, self.held_out, on_photo)

    def preview(self, count: int = PREVIEW_PHOTOS) -> list[list[Pixels]]:
        """Fixed photos and what the network makes of them now: two rows of pictures."""
        photos = [
            crop_centre(resize_shorter_side(picture, SHORTER_SIDE), CROP)
            for picture in self._preview_photos(count)
        ]
        if not photos:
            return [[], []]
        self.network.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            restyled = self.network(to_tensor(photos).to(self.device))
        return [photos, to_pixels(restyled)]

    def save(self, path: Path, after: HeldOutLoss | None = None) -> ModelCard:
        """Write the model file with everything known about it; the network may be half trained.

        Raises:
            StylizeError: the file cannot be written.
        """
        config = self.config
        card = ModelCard(
            name=self.name,
            norm=config.norm,
            width=config.width,
            ground=self.network.plan.ground,
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
                "processes": self.world.size,
            },
            photos=len(self.photos),
            generated=len(self.sources) - len(self.photos),
            steps=self.step,
            held_out_before=self.before.as_dict() if self.before else None,
            held_out_after=after.as_dict() if after else None,
            licence=config.licence,
            version=stylize.__version__,
            start=self.start,
        )
        targets = {TARGET_PREFIX + layer: gram for layer, gram in self.held_out_targets.items()}
        tensors = {
            name: tensor.cpu() for name, tensor in (self.network.tensors() | targets).items()
        }
        for picture in self.preview(1)[1]:
            tensors[THUMBNAIL] = torch.from_numpy(thumbnail(picture))
        write_model(path, card, tensors)
        return card

    def _preview_photos(self, count: int) -> list[Pixels]:
        pictures: list[Pixels] = []
        for path in self.held_out:
            if len(pictures) == count:
                break
            with suppress(StylizeError):  # unreadable ones are counted where they are measured
                pictures.append(read_source(path, enough=SHORTER_SIDE))
        return pictures
