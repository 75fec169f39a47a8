"""The trainer: one painting, many photos, one transformer network.

It never prints and writes no files: `steps()` is a generator, and whoever drives it shows the
progress, and stops by no longer asking.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stylize.config import TrainConfig
from stylize.devices import needing_memory, place, resolve_device, resolve_precision
from stylize.held_out import STYLE_SIZE, HeldOutLoss, held_out_loss, measure
from stylize.losses import PerceptualLoss, style_targets
from stylize.model_file import file_sha256
from stylize.networks.perceptual import DEFAULT_STYLE_LAYERS, load_perceptual
from stylize.networks.transformer import TransformerNet
from stylize.repeated_size import RepeatedSize
from stylize.training.checkpoint import Checkpoint, load_checkpoint, pack, unpack
from stylize.training.data import (
    PhotoSampler,
    fingerprint,
    load_style,
    split_content,
    with_generated,
)
from stylize.training.distributed import World
from stylize.training.guard import AstrayError, Guard
from stylize.training.memory import check_memory
from stylize.training.objective import make_loss
from stylize.training.optimiser import make_optimisers, set_rates
from stylize.training.schedule import learning_rate_factor
from stylize.training.start import (
    NEAREST,
    RANDOM,
    TRIALS,
    load_nearest,
    load_start,
)
from stylize.training.step import TrainingStep, can_record

LOG = logging.getLogger("stylize")

REPLAYED_ALIKE = 0.3
"""Of the way that two computed steps move the weights, how far off replayed ones may end. The same
kernels give the same bits; float32 and bfloat16 part by 0.11 to 0.26, so other kernels by less; old
photos or an old rate miss by 0.59 and more."""


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
        self.content = content
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
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
        check_memory(config, self.perceptual, self.device)
        with needing_memory(
            f"a painting of {config.style_size} px and {self.perceptual.name}",
            "give a smaller --style-size",
        ):
            style_image = load_style(painting, config.style_size, config.style_grit).to(self.device)
            self.loss = make_loss(config, self.perceptual, style_image)
        self.painting_sha256 = file_sha256(painting)  # now: the file may be gone by the end
        self.held_out_targets = style_targets(
            self.perceptual,
            load_style(painting, STYLE_SIZE, config.style_grit).to(self.device),
            DEFAULT_STYLE_LAYERS[self.perceptual.architecture],
        )

        # The same draws whatever the caller's own random state is, and without touching it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = TransformerNet(config.norm, config.width, config.ground)
        self.network = place(network, self.device)
        self.recorded = config.cuda_graph and can_record(self.device, self.precision, world)
        """Whether a GPU replays its steps."""
        self.optimisers = self._make_optimisers(self.network)
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
        self._take_step = self._make_step(
            world.wrap(self.network), self.loss, self.optimisers, self.scaler, world, self.recorded
        )
        self.last_good = self.checkpoint()
        """The last checkpoint; taken every `checkpoint_every` steps."""

    @property
    def run(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to go on: all that decides what is computed."""
        settings = self.config.as_dict()
        for name in ("preview_every", "title", "licence", "held_out_photos"):
            del settings[name]
        return settings | {
            "device": self.device.type,
            "precision": self.precision,
            "processes": self.world.size,
            "content_layers": list(self.config.content_layers),
            "style_layers": list(self.config.style_layers),
            "painting": self.painting_sha256,
            "loss network": self.perceptual.sha256,
            "content": fingerprint(self.sources, self.content),
        }

    def steps(self) -> Iterator[StepReport]:
        """Train from where it stands to the last step, reporting each.

        Where steps are replayed, one of copies is held against a computed one first. A loss that is
        no number, or runs away, takes the run back to its last checkpoint, with half the learning
        rate.

        Raises:
            StylizeError: that did not help, no photo can be read, or memory does not suffice.
        """
        if self.recorded and not self._replays():
            LOG.warning("replayed steps are not what computed ones are here: each is computed")
            self.recorded = False
            self._take_step = self._make_step(
                self.network, self.loss, self.optimisers, self.scaler, self.world, recorded=False
            )
        # Only now, as what was measured before the first step belongs to it.
        self.last_good = self.checkpoint()
        while self.step < self.config.steps:
            try:
                with self._needing_memory():
                    yield from self._steps()
            except AstrayError as error:
                self._retreat(str(error))

    def _steps(self) -> Iterator[StepReport]:
        config = self.config
        for batch in self.sampler.batches(self.step, config.steps):
            self.network.train()
            set_rates(self.optimisers, learning_rate_factor(config, self.step) * self.guard.rate)
            found = self._take_step(*self._inputs(self.step, batch))
            content, style, total, norm = found.tolist()
            total = self.world.mean(total)
            # The weights have moved by now; whoever goes astray goes back to others.
            self.guard.check_loss(total)
            if not self.scaler.is_enabled():  # a scaler skips such steps, and goes on
                self.guard.check_gradient(norm)
            self.step += 1
            if self.step % config.checkpoint_every == 0:
                self.last_good = self.checkpoint()
            yield StepReport(self.step, content, style, total)

    def _retreat(self, reason: str) -> None:
        step, rate = self.step + 1, self.config.learning_rate
        retreats = self.guard.retreat(reason, step)
        self._restore(self.last_good)
        self._take_step.release()  # the optimisers' tensors lie elsewhere now
        self.guard.slow_down(retreats)
        LOG.warning(
            "%s at step %d: going back to step %d, with a learning rate of %.2g instead of %.2g",
            reason, step, self.step, rate * self.guard.rate, rate * self.guard.rate * 2,
        )  # fmt: skip

    def rehearse(self, step: int, times: int) -> Iterator[None]:
        """Take a step several times with copies of all that it changes, pausing after each."""
        take_step = self._copy_step(self.recorded)[0]
        with self._needing_memory():
            inputs = self._inputs(step, self.sampler.batch(step))
            for _ in range(times):
                take_step(*inputs).tolist()  # a GPU is waited for
                yield

    def _replays(self) -> bool:
        """Whether a replayed step moves copies of the weights as a computed one does.

        Graphs see neither the host's numbers nor tensors that moved, and say nothing of it.
        """
        ends = []
        for recorded in (True, False):
            take_step, network, optimisers = self._copy_step(recorded)
            with self._needing_memory():
                # Other photos and another rate for the second, which is the one that is replayed.
                for step, rate in ((self.config.steps, 0.25), (self.config.steps + 1, 1.0)):
                    set_rates(optimisers, rate)
                    take_step(*self._inputs(step, self.sampler.batch(step)))
            ends.append(_weights(network))
        replayed, computed = ends
        moved = computed - _weights(self.network)
        return bool((replayed - computed).norm() <= REPLAYED_ALIKE * moved.norm())

    def _copy_step(
        self, recorded: bool
    ) -> tuple[RepeatedSize, TransformerNet, tuple[Optimizer, ...]]:
        """A step that moves copies of all that it changes; the copies of network and optimisers."""
        network = copy.deepcopy(self.network).eval()  # batch norm asks no other process
        optimisers = self._make_optimisers(network)
        take_step = self._make_step(
            network, copy.deepcopy(self.loss), optimisers, copy.deepcopy(self.scaler), World(),
            recorded,
        )  # fmt: skip
        return take_step, network, optimisers

    def _needing_memory(self) -> AbstractContextManager[None]:
        """The context of a step."""
        count, size = self.config.batch_size, self.config.size
        return needing_memory(
            f"steps of {count} photos of {size} x {size} px on {self.device}",
            "give a smaller --batch-size or --size",
        )

    def _inputs(self, step: int, batch: Tensor) -> tuple[Tensor, Tensor]:
        """What `TrainingStep` takes."""
        places = [self.sampler.ground_place(step), self.sampler.shift(step)]
        photo = batch.to(self.device, memory_format=torch.channels_last)
        return photo, torch.tensor(places, device=self.device)

    def _make_optimisers(self, network: TransformerNet) -> tuple[Optimizer, ...]:
        config = self.config
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return make_optimisers(
            network, config.optimiser, config.learning_rate, dtype, self.recorded
        )

    def _make_step(
        self,
        network: nn.Module,
        loss: PerceptualLoss,
        optimisers: Sequence[Optimizer],
        scaler: torch.amp.GradScaler,
        world: World,
        recorded: bool,
    ) -> RepeatedSize:
        step = TrainingStep(
            network, loss, optimisers, scaler, self.precision, self.config.gradient_clip, world
        )
        return RepeatedSize(step, after=0 if recorded else math.inf)

    def _begin(self) -> None:
        """Load what the run begins from."""
        start = self.config.start
        if start == RANDOM:
            return
        with self._needing_memory():
            photos = [self.sampler.batch(step).to(self.device) for step in range(TRIALS)]
            found = (
                load_nearest(self.network, self.loss, photos)
                if start == NEAREST
                else load_start(self.network, start, self.loss, photos)
            )
        self.start = found.describe() if found else None

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


def _weights(network: nn.Module) -> Tensor:
    """All of them, one after the other."""
    return torch.cat([one.detach().flatten() for one in network.parameters()])
