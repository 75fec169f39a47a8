"""`stylize train` as a terminal shows it; Ctrl-C is a wish to stop after the step."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer
from tqdm import tqdm

from stylize.config import TrainConfig
from stylize.console.bars import (
    advance,
    make_bar,
    say,
    show_library_messages,
    stop_on_signal,
)
from stylize.console.styles import describe_start
from stylize.errors import INTERRUPTED, StylizeError
from stylize.held_out import HeldOutLoss
from stylize.imaging.files import Pixels
from stylize.imaging.grit import grit
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.safe_write import check_folder_writable, make_folder
from stylize.training.checkpoint import (
    delete_checkpoints,
    folder_of,
    has_checkpoint,
    save_checkpoint,
)
from stylize.training.data import load_painting
from stylize.training.distributed import join_world
from stylize.training.forecast import seconds_left
from stylize.training.result import preview, save_model
from stylize.training.start import NEAREST
from stylize.training.trainer import Trainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PHOTOS_DO_BETTER = "--content FOLDER of photos does a little better (0.257 against 0.266)"
"""Held-out losses after 90 steps: docs/training.md."""

SMOOTHING = 0.95
"""Of the losses in the bar: single batches of two photos jump about."""


def run_training(
    config: TrainConfig,
    painting: Path,
    content: Path | None,
    path: Path,
    log_dir: Path | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train, showing how it goes; write the model; say what to type next.

    Raises:
        UsageError: no picture in `content`, or an impossible setting.
        StylizeError: something could not be read, written or computed.
    """
    check_folder_writable(path.parent)
    if has_checkpoint(path) and not (resume or overwrite):
        raise StylizeError(
            f"{folder_of(path)} holds a run that was not finished; --resume goes on with it, "
            f"--overwrite begins anew"
        )
    show_library_messages(quiet)
    log = None if log_dir is None else open_log(log_dir)
    world = join_world(config.device)
    trainer = Trainer(config, painting, content, path.stem, path if resume else None, world)
    with stop_on_signal() as stopped:
        if not world.leads:
            _train(trainer, path, stopped, None, quiet=True)
            world.leave()
            return
        if not resume:
            delete_checkpoints(path)
        _introduce(trainer, quiet)
        if trainer.step == 0:
            trainer.before = _evaluate(trainer, "held-out before", quiet)
        was_stopped = _train(trainer, path, stopped, log, quiet)
        if log is not None:
            log.close()
        after = None if was_stopped else _evaluate_after(trainer, quiet)
        save_model(trainer, path, after)
        if was_stopped:
            save_checkpoint(path, trainer.checkpoint(), trainer.run)
        else:
            delete_checkpoints(path)
        world.leave()

    _conclude(trainer, path, after, quiet)
    if was_stopped:
        typer.echo(
            f"stopped after {trainer.step} of {config.steps} steps; saved, and --resume goes on",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)


def open_log(folder: Path) -> SummaryWriter:
    """Logs for TensorBoard.

    Raises:
        StylizeError: TensorBoard is not installed, or the folder cannot be written to.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise StylizeError(
            "TensorBoard is not installed; pip install 'stylize[tensorboard]'"
        ) from error
    make_folder(folder)
    return SummaryWriter(str(folder))


def _introduce(trainer: Trainer, quiet: bool) -> None:
    """What is trained on, from where, and for how long."""
    if quiet:
        return
    config, count = trainer.config, len(trainer.photos)
    generated = len(trainer.sources) - count
    if not count:
        say(quiet, f"{generated} generated pictures, for want of photos; {PHOTOS_DO_BETTER}")
    elif generated:
        say(quiet, f"{count} photos are few: {generated} generated pictures are mixed in")
    most = config.style_grit
    if most and (scan := grit(load_painting(trainer.painting, config.style_size))) > most:
        say(
            quiet,
            f"the painting has a grit of {scan:.3f}, more than {most:g}, and is smoothed along its "
            f"strokes; --set style_grit=0 learns it as it is",
        )
    say(
        quiet,
        f"{config.norm} norm from {describe_start(trainer.start)}, "
        f"{count or generated} {'photos' if count else 'pictures'}, {trainer.device}, "
        f"{trainer.precision}, loss network {trainer.perceptual.name}",
    )
    if config.start == NEAREST and not trainer.start:
        say(
            quiet,
            f"no shipped style has {config.norm} norm and width {config.width:g}, so it begins "
            f"from random weights, which takes some five times as many steps",
        )
    left = config.steps - trainer.step
    minutes = seconds_left(trainer) / 60
    done = f", from step {trainer.step}" if trainer.step else ""
    say(quiet, f"{left} steps{done}, about {max(1, round(minutes))} min")


def _conclude(trainer: Trainer, path: Path, after: HeldOutLoss | None, quiet: bool) -> None:
    unreadable = trainer.sampler.unreadable
    if unreadable:
        typer.echo(f"{len(unreadable)} of {len(trainer.photos)} photos were left out:", err=True)
    for reason in sorted(unreadable.values()):
        typer.echo(f"  {reason}", err=True)
    if trainer.before:
        say(quiet, f"held-out loss before: {_describe(trainer.before)}")
    if after:
        say(quiet, f"held-out loss after:  {_describe(after)}")
    if fault := _fault(preview(trainer)[1]):
        typer.echo(f"stylize: {fault}; more steps or a lower style_strength may mend it", err=True)
    typer.echo(str(path))
    say(quiet, f"Now try it:  stylize apply photo.jpg --style {_style_argument(path)}")


def _train(
    trainer: Trainer, path: Path, stopped: list[int], log: SummaryWriter | None, quiet: bool
) -> bool:
    """All steps, or as many as go until one of the processes is told to stop: whether one was."""
    config, leads = trainer.config, trainer.world.leads
    smooth: dict[str, float] = {}
    with make_bar(quiet, total=config.steps, initial=trainer.step, unit="step") as bar:
        for report in trainer.steps():
            for name in ("content", "style", "total"):
                now = getattr(report, name)
                smooth[name] = SMOOTHING * smooth.get(name, now) + (1 - SMOOTHING) * now
                if log is not None:
                    log.add_scalar(f"loss/{name}", now, report.step)
            bar.set_postfix({name: f"{value:.3f}" for name, value in smooth.items()}, refresh=False)
            bar.update(report.step - bar.n)  # backwards where the run went back
            if trainer.world.any(bool(stopped)):
                return True
            if not leads:
                continue
            if report.step == config.steps:
                _save_last_checkpoint(trainer, path)
            elif report.step % config.checkpoint_every == 0:
                save_checkpoint(path, trainer.last_good, trainer.run)
            if config.preview_every and report.step % config.preview_every == 0:
                _write_preview(trainer, path.with_suffix(".preview.png"))
    return False


def _save_last_checkpoint(trainer: Trainer, path: Path) -> None:
    """For what is left to do may fail, or be killed. That it cannot be written must not cost the
    training: the model is smaller, and may have room.
    """
    try:
        save_checkpoint(path, trainer.checkpoint(), trainer.run)
    except StylizeError as error:
        tqdm.write(f"no checkpoint: {error}", file=sys.stderr)


def _write_preview(trainer: Trainer, path: Path) -> None:
    """A strip that cannot be written, on a full disk for instance, must not cost the training."""
    try:
        write_picture(path, contact_sheet(preview(trainer)))
    except StylizeError as error:
        tqdm.write(f"no preview: {error}", file=sys.stderr)


def _evaluate_after(trainer: Trainer, quiet: bool) -> HeldOutLoss | None:
    """Photos that are gone by now must not cost the training."""
    try:
        return _evaluate(trainer, "held-out after", quiet)
    except StylizeError as error:
        typer.echo(f"stylize: no held-out loss: {error}", err=True)
        return None


def _evaluate(trainer: Trainer, label: str, quiet: bool) -> HeldOutLoss:
    with make_bar(quiet, total=len(trainer.held_out), desc=label, unit="photo", leave=False) as bar:
        return trainer.evaluate(lambda: advance(bar))


def _describe(loss: HeldOutLoss) -> str:
    return f"{loss.total:.3f} (content {loss.content:.3f}, style {loss.style:.3f})"


def _fault(pictures: list[Pixels]) -> str:
    """What is plainly wrong with restyled pictures, or nothing."""
    ranges = [picture.max(axis=(0, 1)) - picture.min(axis=(0, 1)) for picture in pictures]
    if not ranges or int(np.max(ranges)) > 2:
        return ""
    mean = np.mean([picture.mean(axis=(0, 1)) for picture in pictures], axis=0)
    red, green, blue = (round(float(level)) for level in mean)
    colour = "black" if max(red, green, blue) < 4 else f"one colour ({red}, {green}, {blue})"
    return f"every picture comes out {colour}"


def _style_argument(path: Path) -> str:
    return shlex.quote(str(path))
