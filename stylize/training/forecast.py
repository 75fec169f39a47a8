"""How long a run will take, before it starts."""

from __future__ import annotations

import time

from stylize.training.trainer import Trainer


def seconds_left(trainer: Trainer) -> float:
    """How long the steps to come take here, by rehearsing one of each size."""
    config = trainer.config
    small = max(0, config.half_size_steps - trainer.step)
    counts = {0: small, config.steps - 1: config.steps - trainer.step - small}
    return sum(count * _seconds(trainer, step) for step, count in counts.items() if count)


def _seconds(trainer: Trainer, step: int) -> float:
    """How long a step takes."""
    start = end = 0.0
    for _ in trainer.rehearse(step, 2):  # the first pays for what later ones share
        start, end = end, time.perf_counter()
    return end - start
