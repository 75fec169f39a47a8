"""One step of training as a function of tensors alone, so that a GPU can record and replay it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stylize.devices import autocast, convolving
from stylize.losses import PerceptualLoss
from stylize.training.distributed import World


def can_record(device: torch.device, precision: str, world: World) -> bool:
    """Whether steps can be recorded as CUDA graphs.

    A scaler of float16's losses waits for what the GPU found, and processes for each other.
    """
    return device.type == "cuda" and precision != "fp16" and world.size == 1


@dataclass(frozen=True)
class TrainingStep:
    """Restyles a batch, and moves the weights along the losses' derivatives."""

    network: nn.Module
    """As it is called in training: its gradients come out averaged over the world."""
    loss: PerceptualLoss
    """Of what it gives; remembers each step's tint."""
    optimisers: Sequence[Optimizer]
    """What moves the network's parameters."""
    scaler: torch.amp.GradScaler
    """Of the losses, for float16."""
    precision: str
    """Of the convolutions."""
    gradient_clip: float
    """Largest norm of the gradient."""
    world: World
    """The processes that train together."""

    def __call__(self, photo: Tensor, places: Tensor) -> Tensor:
        """Take a step.

        Args:
            photo: (N, 3, S, S), RGB in 0..1, channels_last.
            places: (2, 2), whole numbers on the same device: row and column of the ground at which
                the photos lie, and of the loss network's view of them.

        Returns:
            (4,), float32: the losses of content, of style and in all, this process's, and the norm
            of the gradient before it was clipped.
        """
        with convolving(photo.device, self.precision, repeatable=True):
            with autocast(photo.device, self.precision):
                restyled = self.network(photo, places[0])
                terms = self.loss(restyled, photo, places[1])
            self.network.zero_grad()
            torch.autograd.backward(self.scaler.scale(terms.total))
        for optimiser in self.optimisers:
            self.scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        for optimiser in self.optimisers:
            self.scaler.step(optimiser)
        self.scaler.update()
        self.loss.remember(self.world.average(terms.tint))
        return torch.stack([terms.content, terms.style, terms.total, norm]).detach()
