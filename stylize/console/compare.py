"""`stylize compare` as a terminal shows it."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from stylize.comparison import report
from stylize.comparison.experiment import compare_models
from stylize.console.bars import advance, make_bar, make_console, say
from stylize.held_out import split
from stylize.imaging.files import find_pictures
from stylize.imaging.write import write_picture
from stylize.inference.stylizer import Stylizer
from stylize.safe_write import atomic_file, check_folder_writable, check_free, make_folder


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
        check_free(path, overwrite)
    check_folder_writable(next(one for one in (output, *output.parents) if one.exists()))

    stylizers = [Stylizer(model, device) for model in models]
    with make_bar(quiet, desc="comparing", unit="photo", leave=False) as bar:
        comparison = compare_models(
            stylizers, _labels(models), paths, perceptual, rows, lambda: advance(bar)
        )
    make_folder(output)
    with atomic_file(page) as temporary:
        temporary.write_bytes(report.html(comparison))
    write_picture(picture, report.sheet(comparison))
    make_console().print(report.terminal_table(comparison))
    for note in report.notes(comparison):
        say(quiet, note)
    typer.echo(str(page))
    typer.echo(str(picture))


def _labels(models: list[Path]) -> list[str]:
    """File names without their ending; with a letter in front where they are the same."""
    stems = [model.stem for model in models]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{letter}: {stem}" for letter, stem in zip("AB", stems, strict=True)]
