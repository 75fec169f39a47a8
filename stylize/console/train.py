"""`stylize train` as a terminal shows it; Ctrl-C is a wish to stop after the step."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer
from tqdm import tqdm

from stylize.config import TrainConfig
from stylize.console.bars import INTERRUPTED, advance, say
from stylize.errors import StylizeError
from stylize.held_out import HeldOutLoss
from stylize.imaging.files import check_file
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.safe_write import check_folder_writable, check_output
from stylize.training.trainer import Trainer
from stylize.zoo import SUFFIX

SMOOTHING = 0.95
"""Of the losses in the bar: single batches of two photos jump about."""


def run_training(
    config: TrainConfig,
    painting: Path,
    content: Path,
    output: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train, showing how it goes; write the model; say what to type next.

    Raises:
        UsageError: a missing path or an impossible setting.
        StylizeError: the output exists, or something could not be read, written or computed.
    """
    check_file(painting)
    path = output or Path(painting.stem + SUFFIX)
    check_output(path, SUFFIX, overwrite)
    check_folder_writable(path.parent)

    trainer = Trainer(config, painting, content, path.stem)
    say(
        quiet,
        f"{config.norm} norm, {len(trainer.photos)} photos, {trainer.device}, "
        f"{trainer.precision}, loss network {trainer.perceptual.name}",
    )
    with stop_on_signal() as stopped:
        before = _evaluate(trainer, "held-out before", quiet)
        _train(trainer, path, stopped, quiet)
        after = None if stopped else _evaluate(trainer, "held-out after", quiet)
        trainer.save(path, before, after)

    unreadable = trainer.sampler.unreadable
    if unreadable:
        typer.echo(f"{len(unreadable)} of {len(trainer.photos)} photos were left out:", err=True)
    for reason in sorted(unreadable.values()):
        typer.echo(f"  {reason}", err=True)
    say(quiet, f"held-out loss before: {_describe(before)}")
    if after:
        say(quiet, f"held-out loss after:  {_describe(after)}")
    typer.echo(str(path))
    say(quiet, f"Now try it:  stylize apply photo.jpg --style {_style_argument(path)}")
    if stopped:
        typer.echo(f"stopped after {trainer.step} of {config.steps} steps; saved", err=True)
        raise typer.Exit(INTERRUPTED)


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into a number in a list; a second Ctrl-C ends at once.

    Between two steps is the only place where weights, optimiser and step count agree.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _train(trainer: Trainer, path: Path, stopped: list[int], quiet: bool) -> None:
    config = trainer.config
    smooth: dict[str, float] = {}
    with tqdm(total=config.steps, unit="step", disable=quiet, file=sys.stderr) as bar:
        for report in trainer.steps():
            for name in ("content", "style", "total"):
                now = getattr(report, name)
                smooth[name] = SMOOTHING * smooth.get(name, now) + (1 - SMOOTHING) * now
            bar.set_postfix({name: f"{value:.3f}" for name, value in smooth.items()}, refresh=False)
            bar.update()
            if config.preview_every and report.step % config.preview_every == 0:
                _write_preview(trainer, path.with_suffix(".preview.png"))
            if stopped:
                break


def _write_preview(trainer: Trainer, path: Path) -> None:
    """A strip that cannot be written, on a full disk for instance, must not cost the training."""
    try:
        write_picture(path, contact_sheet(trainer.preview()))
    except StylizeError as error:
        tqdm.write(f"no preview: {error}", file=sys.stderr)


def _evaluate(trainer: Trainer, label: str, quiet: bool) -> HeldOutLoss:
    with tqdm(
        total=len(trainer.held_out), desc=label, unit="photo", disable=quiet, leave=False
    ) as bar:
        return trainer.evaluate(lambda: advance(bar))


def _describe(loss: HeldOutLoss) -> str:
    return f"{loss.total:.3f} (content {loss.content:.3f}, style {loss.style:.3f})"


def _style_argument(path: Path) -> str:
    return shlex.quote(str(path))
