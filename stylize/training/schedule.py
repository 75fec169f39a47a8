"""How the learning rate goes: a ramp, then half a cosine."""

from __future__ import annotations

import math

from stylize.config import TrainConfig


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
