"""What an experiment consists of: a run for each norm, seed and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylize.config import TrainConfig, resolve
from stylize.devices import resolve_device, resolve_precision
from stylize.errors import UsageError
from stylize.imaging.files import find_pictures
from stylize.model_file import file_sha256
from stylize.networks.perceptual import load_perceptual
from stylize.networks.plan import NORMS, Norm
from stylize.training.data import fingerprint
from stylize.training.start import RANDOM

DEFAULTS: dict[str, Any] = {"steps": 500, "size": 192, "warmup_steps": 25, "held_out_photos": 24}
"""Settings of an experiment that differ from those of `stylize train`."""

VARIED = ("norm", "seed", "batch_size")
"""Settings that the runs of one experiment may differ in."""

EVALUATED = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Parts of a run after which the held-out loss is measured: denser where it falls fast."""


@dataclass(frozen=True)
class Run:
    """One training of an experiment."""

    norm: Norm
    seed: int
    batch_size: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.norm}-seed{self.seed}-batch{self.batch_size}"

    def __str__(self) -> str:
        return f"{self.norm} norm, seed {self.seed}, batch {self.batch_size}"


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in norm, seed and batch size, and in nothing else.

    Args:
        painting: the style image's file.
        content: a folder of photos; None: generated pictures.
        config: what the runs share; its batch size is the usual one, its seed the first.
        norms: to be held against each other, in the order of every table.
        seeds: how many; each is one of the weights, of the data's order and of every crop.
        batch_sizes: tried with the first seed, beside the usual one.

    Raises:
        UsageError: no norm, one twice, no seed, or a run whose seed or batch size is out of range.
    """

    painting: Path
    content: Path | None
    config: TrainConfig
    norms: tuple[Norm, ...] = NORMS
    seeds: int = 3
    batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.norms or len(set(self.norms)) < len(self.norms):
            raise UsageError(f"norms are {','.join(self.norms)!r}: give each that you want once")
        if self.seeds < 1:
            raise UsageError(f"seeds is {self.seeds}; it must be at least 1")
        for run in self.runs:  # not after hours of the runs before
            self.settings(run)

    @property
    def main(self) -> list[Run]:
        """The runs with the usual batch size; those of one seed together, so that an experiment
        that is not finished has something of every norm.
        """
        first, batch_size = self.config.seed, self.config.batch_size
        return [
            Run(norm, first + number, batch_size)
            for number in range(self.seeds)
            for norm in self.norms
        ]

    @property
    def sweep(self) -> list[Run]:
        """The runs with the first seed and each batch size; none where only one size is asked."""
        sizes = sorted({self.config.batch_size, *self.batch_sizes})
        if len(sizes) == 1:
            return []
        return [Run(norm, self.config.seed, size) for size in sizes for norm in self.norms]

    @property
    def runs(self) -> list[Run]:
        """All, each once."""
        return list(dict.fromkeys([*self.main, *self.sweep]))

    def settings(self, run: Run) -> TrainConfig:
        """All settings of one run."""
        varied = {name: getattr(run, name) for name in VARIED}
        return self.config.changed(varied)

    @property
    def evaluated(self) -> list[int]:
        """Steps after which the held-out loss is measured."""
        return sorted({round(part * self.config.steps) for part in EVALUATED})

    def identity(self) -> dict[str, Any]:
        """What must be the same for runs to belong to one experiment."""
        settings = {k: v for k, v in self.config.as_dict().items() if k not in VARIED}
        device = resolve_device(self.config.device)
        photos = find_pictures(self.content) if self.content else []
        return settings | {
            "content_layers": list(self.config.content_layers),
            "style_layers": list(self.config.style_layers),
            "device": device.type,
            "precision": resolve_precision(self.config.precision, device),
            "painting": file_sha256(self.painting),
            "perceptual": load_perceptual(self.config.perceptual).sha256,
            "photos": len(photos),
            "content": fingerprint(photos, self.content),
        }


def experiment_config(flags: Mapping[str, Any], settings: Mapping[str, Any]) -> TrainConfig:
    """The settings that all runs share.

    Args:
        flags: by name, from options of their own; None where not given.
        settings: others, such as those of --set.

    Raises:
        UsageError: as `TrainConfig.changed` does, or one that the experiment decides itself.
    """
    for name in ("norm", "start"):
        if name in settings:
            raise UsageError(
                f"--set {name}: every run begins from random weights, with a norm of --norms"
            )
    given = {name: value for name, value in flags.items() if value is not None}
    fixed = {"start": RANDOM}
    return resolve([("ablate", DEFAULTS), ("--set", settings), ("flags", given | fixed)])[0]


def parse_norms(text: str) -> tuple[Norm, ...]:
    """Read a list such as "instance,batch".

    Raises:
        UsageError: a word that is no norm.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in NORMS:
            raise UsageError(f"norm {word!r}: give some of {', '.join(NORMS)}")
    return tuple(norm for word in words for norm in NORMS if norm == word)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read a list of batch sizes such as "1,2,4".

    Raises:
        UsageError: a word that is no number from 1 up.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not (word.isdecimal() and int(word)):
            raise UsageError(f"batch size {word!r}: give whole numbers from 1 up, such as 1,2,4")
    return tuple(map(int, words))
