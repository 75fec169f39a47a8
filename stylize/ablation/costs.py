"""Time and memory of a training step and of a picture, for each norm.

The norms take turns, each time in a process of its own: a machine that gets slower meanwhile slows
all of them, and none inherits another's memory.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from threading import Event, Thread
from typing import Self

import numpy as np
import psutil
import torch
import torch._dynamo  # a process's first optimiser imports it, 150 MB

from stylize.ablation.plan import Experiment, Run
from stylize.devices import resolve_device
from stylize.errors import StylizeError
from stylize.inference.stylizer import Stylizer
from stylize.training.trainer import Trainer

ROUNDS = 3
"""Turns of each norm; the median counts."""

STEPS = 5
"""Timed steps and pictures of a turn; one more before them pays for what all share."""

SIDE = 512
"""Pixels of the timed picture's sides."""

SAMPLED_EVERY = 0.002
"""Seconds between two looks at the memory in use."""


@dataclass(frozen=True)
class Cost:
    """What one norm takes; bytes are the most in use meanwhile, above a process that has imported
    everything and loaded nothing.
    """

    step_seconds: float
    step_bytes: float
    picture_seconds: float
    """Of SIDE x SIDE pixels, through the engine that `stylize apply` takes."""
    picture_bytes: float


def measure_costs(
    experiment: Experiment,
    models: Mapping[Run, Path],
    on_turn: Callable[[], None] = lambda: None,
) -> dict[str, Cost]:
    """Measure each norm of an experiment.

    Args:
        models: model file of one run of each norm.
        on_turn: called after each of the ROUNDS turns of each norm.

    Returns:
        Costs by norm.

    Raises:
        StylizeError: a measuring process was killed.
    """
    found: dict[str, list[Cost]] = {run.norm: [] for run in models}
    for _ in range(ROUNDS):
        for run, path in models.items():
            cost = Cost(
                *_alone(_measure_step, experiment, run),
                *_alone(_measure_picture, path, experiment.config.device),
            )
            found[run.norm].append(cost)
            on_turn()
    names = [field.name for field in fields(Cost)]
    return {
        norm: Cost(**{n: statistics.median(asdict(cost)[n] for cost in costs) for n in names})
        for norm, costs in found.items()
    }


def _alone(
    measurement: Callable[..., tuple[float, float]], *arguments: object
) -> tuple[float, float]:
    """Measure in a fresh process, forked from one that has imported everything and run nothing, as
    a GPU and OpenMP's threads do not survive a fork. Without forks each imports for itself.

    Ctrl-C is for the parent, which waits for the little that is left.
    """
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context: BaseContext = get_context("spawn")
    if "forkserver" in get_all_start_methods():
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, signal.signal, ignore) as process:
        try:
            return process.submit(measurement, *arguments).result()
        except BrokenProcessPool as error:
            raise StylizeError(
                "a process that measured time and memory was ended from outside, perhaps for want "
                "of memory; the same command measures again"
            ) from error


def _measure_step(experiment: Experiment, run: Run) -> tuple[float, float]:
    # A few steps at a rate that cannot throw them.
    config = experiment.settings(run).changed({"steps": STEPS + 1, "learning_rate": 1e-6})
    with _Peak(resolve_device(config.device)) as peak:
        trainer = Trainer(config, experiment.painting, experiment.content, run.name)
        peak.forget()  # the painting's targets are no part of a step
        steps = trainer.steps()
        seconds = _seconds(lambda: next(steps))
    return seconds, peak.bytes


def _measure_picture(model: Path, device: str) -> tuple[float, float]:
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    with _Peak(resolve_device(device)) as peak:
        stylizer = Stylizer(model, device)
        seconds = _seconds(lambda: stylizer(photo))
    return seconds, peak.bytes


def _seconds(work: Callable[[], object]) -> float:
    """The median of STEPS times, after one that does not count."""
    seconds: list[float] = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


class _Peak:
    """The most memory in use during a block, above that before it: by CUDA's own count on such a
    GPU, else by looking again and again.

    Attributes:
        bytes: the answer, when the block has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes = 0
        self._over = Event()
        self._watcher = Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._before = self._in_use()
        self.forget()
        self._watcher.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watcher.join()
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before

    def forget(self) -> None:
        """Let the peak begin anew."""
        self.bytes = 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _watch(self) -> None:
        while not self._over.wait(SAMPLED_EVERY):
            self.bytes = max(self.bytes, self._in_use() - self._before)

    def _in_use(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.driver_allocated_memory()
        resident: int = psutil.Process().memory_info().rss
        return resident
