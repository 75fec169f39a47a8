"""Long jobs as a terminal shows them: bars on stderr, results on stdout, Ctrl-C a wish to stop."""

from __future__ import annotations

import math
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer
from rich.console import Console
from tqdm import tqdm

from stylize.comparison import report
from stylize.comparison.experiment import compare_models
from stylize.config import TrainConfig
from stylize.errors import StylizeError, UsageError
from stylize.held_out import HeldOutLoss, split
from stylize.imaging.files import check_file, find_pictures
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.inference.stylizer import Stylizer
from stylize.safe_write import atomic_file, check_folder_writable, make_folder
from stylize.training.trainer import Trainer
from stylize.zoo import SUFFIX

SMOOTHING = 0.95
"""Of the losses in the bar: single batches of two photos jump about."""

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""


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
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} must end in {SUFFIX}")
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}")
    if path.exists() and not overwrite:
        raise StylizeError(f"{path} exists; give --overwrite to replace it, or another --output")
    check_folder_writable(path.parent)

    trainer = Trainer(config, painting, content, path.stem)
    _say(
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
    _say(quiet, f"held-out loss before: {_describe(before)}")
    if after:
        _say(quiet, f"held-out loss after:  {_describe(after)}")
    typer.echo(str(path))
    _say(quiet, f"Now try it:  stylize apply photo.jpg --style {_style_argument(path)}")
    if stopped:
        typer.echo(f"stopped after {trainer.step} of {config.steps} steps; saved", err=True)
        raise typer.Exit(INTERRUPTED)


def run_comparison(
    models: list[Path],
    photos: Path,
    output: Path,
    perceptual: str | None,
    held_out: bool,
    limit: int,
    rows: int,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Compare two models on a folder of photos; print the table, write report and sheet.

    Raises:
        UsageError: a missing path, or an unknown loss network or device.
        StylizeError: an output exists, or something could not be read or written.
    """
    paths = find_pictures(photos)
    if held_out:
        paths = split(paths)[1]
    paths = paths[:: math.ceil(len(paths) / limit)]
    page, picture = output / "report.html", output / "sheet.png"
    for path in (page, picture):
        if path.exists() and not overwrite:
            raise StylizeError(
                f"{path} exists; give --overwrite to replace it, or another --output"
            )

    stylizers = [Stylizer(model, device) for model in models]
    with tqdm(desc="comparing", unit="photo", disable=quiet, leave=False) as bar:
        comparison = compare_models(
            stylizers, _labels(models), paths, perceptual, rows, lambda: _advance(bar)
        )
    make_folder(output)
    with atomic_file(page) as temporary:
        temporary.write_text(report.html(comparison), encoding="utf-8")
    write_picture(picture, report.sheet(comparison))
    Console().print(report.terminal_table(comparison))
    for note in report.notes(comparison):
        _say(quiet, note)
    typer.echo(str(page))
    typer.echo(str(picture))


def _labels(models: list[Path]) -> list[str]:
    """File names without their ending; with a letter in front where they are the same."""
    stems = [model.stem for model in models]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{letter}: {stem}" for letter, stem in zip("AB", stems, strict=True)]


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
        return trainer.evaluate(lambda: _advance(bar))


def _advance(bar: tqdm[NoReturn]) -> None:
    bar.update()


def _describe(loss: HeldOutLoss) -> str:
    return f"{loss.total:.3f} (content {loss.content:.3f}, style {loss.style:.3f})"


def _style_argument(path: Path) -> str:
    return shlex.quote(str(path))


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        typer.echo(text, err=True)
