"""One run of an experiment: trained, measured on the way and at its end, gone on with if stopped.

A run has a model file and a record beside it, both in the experiment's folder, and checkpoints
while it is not finished.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stylize.ablation.plan import Experiment, Run
from stylize.ablation.probes import Altered, alter_photos, with_image_statistics
from stylize.errors import StylizeError, UsageError
from stylize.held_out import HeldOutLoss, held_out_loss, measure
from stylize.safe_write import atomic_file, make_folder
from stylize.training.checkpoint import delete_checkpoints, has_checkpoint, save_checkpoint
from stylize.training.guard import DivergedError
from stylize.training.result import save_model
from stylize.training.trainer import Trainer

IDENTITY = "experiment.json"
"""File that says what all runs in a folder share."""


@dataclass
class Record:
    """What is known of a run."""

    curve: dict[int, HeldOutLoss] = field(default_factory=dict)
    """Held-out loss by step; with batch norm, by its running statistics."""
    retreats: int = 0
    """How often its loss ran away, and it went back to a checkpoint at half the learning rate."""
    failure: str = ""
    """Why it was given up; empty where it was not."""
    done: bool = False
    image_statistics: HeldOutLoss | None = None
    """Of the finished network with batch norm, by the statistics of each picture alone."""
    altered: list[Altered] = field(default_factory=list)

    @property
    def final(self) -> HeldOutLoss | None:
        """The loss after the last step; None where there is none."""
        return self.curve[max(self.curve)] if self.done and not self.failure else None


def open_folder(experiment: Experiment, folder: Path) -> None:
    """Make a folder an experiment's own, or find that it is.

    Raises:
        UsageError: it holds another experiment; the message names what differs.
        StylizeError: it cannot be written to.
    """
    identity = json.loads(json.dumps(experiment.identity()))
    path = folder / IDENTITY
    if path.exists():
        found = _read_json(path)
        for name, value in identity.items():
            if found.get(name) != value:
                raise UsageError(
                    f"{folder} holds another experiment: its {name} is {found.get(name)!r}, not "
                    f"{value!r}; give another --output, or --overwrite to begin anew"
                )
        return
    make_folder(folder)
    _write_json(path, identity)


def clear_folder(folder: Path) -> None:
    """Delete the runs in an experiment's folder, and nothing else in it.

    Raises:
        StylizeError: something cannot be deleted.
    """
    try:
        for path in folder.glob("*-seed*-batch*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / IDENTITY).unlink(missing_ok=True)
    except OSError as error:
        raise StylizeError(f"cannot clear {folder}: {error}") from error


def model_path(folder: Path, run: Run) -> Path:
    """Where a run's model is."""
    return folder / f"{run.name}.safetensors"


def read_record(folder: Path, run: Run) -> Record:
    """What is known of a run so far.

    Raises:
        StylizeError: its file cannot be read.
    """
    path = _record_path(folder, run)
    if not path.exists():
        return Record()
    values = _read_json(path)
    try:
        images = values["image_statistics"]
        return Record(
            {int(step): HeldOutLoss(**loss) for step, loss in values["curve"].items()},
            values["retreats"],
            values["failure"],
            values["done"],
            HeldOutLoss(**images) if images else None,
            [Altered(**one) for one in values["altered"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StylizeError(f"{path} is no record of a run; delete it to train that anew") from error


def perform(
    experiment: Experiment,
    run: Run,
    folder: Path,
    on_step: Callable[[int], None] = lambda step: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Record:
    """Train and measure one run, from where it stands.

    Args:
        folder: the experiment's, which `open_folder` made.
        on_step: called with the steps done, once before the first and after each.
        is_stopped: asked after each step; true ends the run with a checkpoint, not `done`.

    Raises:
        StylizeError: something could not be read or written. A loss that runs away again and again
            is no error: it is what the record says.
    """
    record = read_record(folder, run)
    if record.done:
        return record
    path = model_path(folder, run)
    resume = path if has_checkpoint(path) else None
    trainer = Trainer(
        experiment.settings(run), experiment.painting, experiment.content, run.name, resume
    )
    record.curve = {step: loss for step, loss in record.curve.items() if step <= trainer.step}
    on_step(trainer.step)
    if trainer.step == 0:
        trainer.before = record.curve[0] = trainer.evaluate()
        _write_record(folder, run, record)
    try:
        for report in trainer.steps():
            on_step(report.step)
            if report.step in experiment.evaluated:
                record.curve[report.step] = trainer.evaluate()
                _write_record(folder, run, record)
            if is_stopped():
                save_checkpoint(path, trainer.checkpoint(), trainer.run)
                return record
            if report.step % trainer.config.checkpoint_every == 0:
                save_checkpoint(path, trainer.last_good, trainer.run)
    except DivergedError as error:
        record.failure = str(error)
        record.curve = {k: loss for k, loss in record.curve.items() if math.isfinite(loss.total)}
    record.retreats = trainer.guard.retreats
    if not record.failure:
        _probe(trainer, record)
        save_model(trainer, path, record.curve[trainer.step])
    record.done = True
    _write_record(folder, run, record)
    delete_checkpoints(path)
    return record


def _probe(trainer: Trainer, record: Record) -> None:
    """Ask the finished network what its loss does not tell."""
    network = trainer.network.eval()
    loss = held_out_loss(trainer.perceptual, trainer.held_out_targets)
    record.altered = alter_photos(network, loss, trainer.held_out)
    if trainer.config.norm == "batch":
        twin = with_image_statistics(network)
        record.image_statistics = measure(twin, loss, trainer.held_out)


def _record_path(folder: Path, run: Run) -> Path:
    return folder / f"{run.name}.json"


def _write_record(folder: Path, run: Run, record: Record) -> None:
    _write_json(_record_path(folder, run), asdict(record))


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StylizeError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise StylizeError(f"cannot read {path}: it holds no JSON object")
    return values
