"""How long a run will take, before it starts."""

from __future__ import annotations

import copy
import time

import torch

from stylize.devices import autocast, convolving
from stylize.training.trainer import Trainer


def seconds_left(trainer: Trainer) -> float:
    """How long the steps to come take here, by trying one of each size."""
    config = trainer.config
    small = max(0, config.half_size_steps - trainer.step)
    counts = {0: small, config.steps - 1: config.steps - trainer.step - small}
    return sum(count * _seconds(trainer, step) for step, count in counts.items() if count)


def _seconds(trainer: Trainer, step: int) -> float:
    """How long a step takes, by trying it on a copy of the network."""
    network = copy.deepcopy(trainer.network).eval()  # batch norm asks no other process
    photo = trainer.sampler.batch(step).to(trainer.device, memory_format=torch.channels_last)
    seconds = 0.0
    for _ in range(2):  # the first pays for what later ones share
        start = time.perf_counter()
        with convolving(trainer.device, trainer.precision, repeatable=True):
            with autocast(trainer.device, trainer.precision):
                total = trainer.loss(network(photo), photo).total
            torch.autograd.backward(total)
        total.item()  # a GPU is waited for
        seconds = time.perf_counter() - start
    return seconds
