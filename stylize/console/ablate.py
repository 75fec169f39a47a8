"""`stylize ablate` as a terminal shows it; stopped, the same command goes on."""

from __future__ import annotations

from pathlib import Path

import typer

from stylize.ablation.costs import ROUNDS, measure_costs
from stylize.ablation.plan import Experiment, Run
from stylize.ablation.run import (
    Record,
    clear_folder,
    model_path,
    open_folder,
    perform,
    read_record,
)
from stylize.ablation.summary import Results, conclusion, shown_runs
from stylize.comparison.experiment import restyle_rows
from stylize.console.bars import (
    advance,
    make_bar,
    say,
    show_library_messages,
    stop_on_signal,
)
from stylize.errors import INTERRUPTED, StylizeError
from stylize.imaging.write import write_picture
from stylize.inference.stylizer import Stylizer
from stylize.networks.perceptual import load_perceptual
from stylize.safe_write import atomic_file
from stylize.training.data import split_content

SHOWN = 4
"""Photos on the sheet, of those that no run saw."""


def run_ablation(experiment: Experiment, folder: Path, overwrite: bool, quiet: bool) -> None:
    """Perform an experiment, or what is left of it, and write its report.

    Raises:
        UsageError: an impossible setting, or a folder with another experiment.
        StylizeError: something could not be read or written, or matplotlib is not installed.
    """
    try:
        from stylize.ablation import report
    except ImportError as error:
        raise StylizeError(
            "matplotlib is not installed; pip install 'stylize[ablation]'"
        ) from error
    show_library_messages(quiet)
    if overwrite:
        clear_folder(folder)
    open_folder(experiment, folder)

    with stop_on_signal() as stopped:
        records = _perform_all(experiment, folder, stopped, quiet)
    if stopped:
        raise _stop(quiet)
    try:
        results = _finish(experiment, folder, records, quiet)
    except KeyboardInterrupt:
        raise _stop(quiet) from None
    for name, content in report.files(results).items():
        with atomic_file(folder / name) as temporary:
            temporary.write_bytes(content)
    write_picture(folder / report.SHEET, report.sheet(results))
    for sentence in conclusion(results):
        say(quiet, sentence)
    typer.echo(str(folder / report.PAGE))


def _stop(quiet: bool) -> typer.Exit:
    say(quiet, "stopped; the same command goes on")
    return typer.Exit(INTERRUPTED)


def _perform_all(
    experiment: Experiment, folder: Path, stopped: list[int], quiet: bool
) -> dict[Run, Record]:
    """Every run, until told to stop."""
    runs, steps = experiment.runs, experiment.config.steps
    records = {run: read_record(folder, run) for run in runs}
    done = sum(record.done for record in records.values())
    with make_bar(quiet, total=len(runs) * steps, initial=done * steps, unit="step") as bar:
        for run in runs:
            if records[run].done:
                continue
            bar.set_description(f"{run} ({done + 1} of {len(runs)})")
            first = done * steps

            def on_step(step: int, first: int = first) -> None:
                bar.update(first + step - bar.n)

            records[run] = perform(experiment, run, folder, on_step, lambda: bool(stopped))
            if stopped:
                break
            done += 1
    return records


def _finish(
    experiment: Experiment, folder: Path, records: dict[Run, Record], quiet: bool
) -> Results:
    """What needs finished networks: costs, and pictures to look at."""
    models = {run: model_path(folder, run) for run in shown_runs(experiment, records)}
    with make_bar(quiet, total=len(models) * ROUNDS, desc="time and memory", leave=False) as bar:
        costs = measure_costs(experiment, models, lambda: advance(bar))
    stylizers = [Stylizer(path, experiment.config.device) for path in models.values()]
    held_out = split_content(experiment.content, experiment.config.seed)[1]
    photos = held_out[:: max(1, len(held_out) // SHOWN)]  # none of which a run saw
    rows = restyle_rows(stylizers, photos, SHOWN)[0] if stylizers else []
    return Results(
        experiment,
        records,
        costs,
        rows,
        load_perceptual(experiment.config.perceptual).name,
        str(stylizers[0].engine.device) if stylizers else experiment.config.device,
    )
