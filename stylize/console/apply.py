"""`stylize apply` as a terminal shows it: one bar on stderr, the results' names on stdout."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from PIL import Image
from tqdm import tqdm

from stylize.console.bars import make_bar, say, show_library_messages
from stylize.errors import INTERRUPTED, StylizeError
from stylize.free_memory import free_memory
from stylize.inference.batch import Job, plan_jobs
from stylize.inference.engine import better_in_bands, choose_backend
from stylize.inference.memory import parse_memory
from stylize.inference.pipeline import Outcome, run_jobs
from stylize.inference.restyle import Look
from stylize.model_file import read_card
from stylize.zoo import find_styles

if TYPE_CHECKING:
    from stylize.inference.stylizer import Stylizer

BAR_DELAY = 1.5
"""Seconds a restyling must take before a bar is worth a look."""

FEW = 8
"""Photos whose sizes are looked up, to see which backend is done first."""

_BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


@dataclass(frozen=True)
class Means:
    """What a restyling may use, as the command line says it."""

    device: str
    backend: str
    precision: str
    memory: str | None
    max_megapixels: float


def run_apply(
    photos: Sequence[str],
    styles: Sequence[str],
    output: str | None,
    look: Look,
    means: Means,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Restyle photos.

    Raises:
        UsageError: a missing path, an unknown style, an option out of its range.
        StylizeError: a photo could not be restyled.
    """
    show_library_messages(quiet)
    budget = None if means.memory is None else parse_memory(means.memory)
    models = find_styles(styles)
    for model in models.values():
        read_card(model)  # a damaged one is better known before an hour of work
    plan = plan_jobs(photos, list(models), output, overwrite)
    _say_left_out(plan.existing, plan.own_results, quiet)
    if not plan.jobs:
        return
    # This process reads only what it was told to; `read_photo` has a limit of its own.
    Image.MAX_IMAGE_PIXELS = None

    backend = _choose_backend(means, look, budget, models, plan.jobs)

    def load(model: Path) -> Stylizer:
        if backend == "openvino":
            _import_openvino()
        from stylize.inference.stylizer import Stylizer

        return Stylizer(model, means.device, budget, backend, means.precision)

    failures: list[Outcome] = []
    count, done = len(plan.jobs), 0
    what = "photos" if len(models) == 1 else "pictures"
    with make_bar(quiet, total=count, leave=False, delay=BAR_DELAY, bar_format=_BAR) as bar:

        def report(restyled: float) -> None:
            name = plan.jobs[0].name
            description = Path(name).name if count == 1 else f"{int(restyled)}/{count}"
            bar.set_description_str(description, refresh=False)
            bar.update(min(restyled, count) - bar.n)

        try:
            for style, group in itertools.groupby(plan.jobs, attrgetter("style")):
                first = done
                for outcome in run_jobs(
                    partial(load, models[style]),
                    list(group),
                    look,
                    means.max_megapixels,
                    lambda restyled, first=first: report(first + restyled),  # type: ignore[misc]
                ):
                    done += 1
                    if outcome.error:
                        failures.append(outcome)
                    elif outcome.job.target:
                        _print(str(outcome.job.target), bar)
        except KeyboardInterrupt:
            bar.close()
            written = done - len(failures)
            typer.echo(f"stylize: stopped; {written} of {count} {what} are done", err=True)
            raise typer.Exit(INTERRUPTED) from None
    _say_failures(failures, count, what)


def _import_openvino() -> None:
    """OpenVINO without its converter of other people's models, which takes a tenth of the time that
    a small photo does, and which it gets along without.
    """
    converter = "openvino.tools.ovc"
    if converter not in sys.modules:
        sys.modules[converter] = None  # type: ignore[assignment] # not to be found, for now
        try:
            importlib.import_module("openvino")
        finally:
            del sys.modules[converter]


def _choose_backend(
    means: Means,
    look: Look,
    budget: int | None,
    models: Mapping[str, Path],
    jobs: Sequence[Job],
) -> str:
    """The backend for these photos, by the sizes of the first few."""
    if means.backend != "auto":
        return choose_backend(means.backend, means.device).backend
    sizes = []
    for job in jobs[:FEW]:
        with contextlib.suppress(Exception):  # an unreadable one is reported when its turn comes
            if job.source is not None:
                with Image.open(job.source) as photo:
                    width, height = photo.size
                sizes.append(look.sides(height, width))
    megapixels = sum(height * width for height, width in sizes) / 1e6
    plan, free = read_card(models[jobs[0].style]).plan, free_memory()

    def any_in_bands(precision: str) -> bool:
        return any(better_in_bands(precision, plan, sides, budget, free) for sides in sizes)

    def bands() -> bool:
        # What float32 restyles whole any other precision does, and OpenVINO need not be asked.
        return any_in_bands("fp32") and any_in_bands(_precision(means))

    few = len(jobs) <= FEW
    pixels = megapixels if few else None
    return choose_backend("auto", means.device, pixels, bands, means.precision).backend


def _precision(means: Means) -> str:
    """In which precision OpenVINO would compute."""
    _import_openvino()
    from stylize.inference.openvino_engine import resolve_precision

    return resolve_precision(means.precision)


def _print(text: str, bar: tqdm[NoReturn]) -> None:
    """A result's name; past the bar where one is shown, which `tqdm.write` would make appear."""
    if bar.disable or bar.last_print_t < bar.start_t + BAR_DELAY:
        typer.echo(text)
    else:
        tqdm.write(text, file=sys.stdout)


def _say_left_out(existing: int, own_results: int, quiet: bool) -> None:
    if existing:
        say(quiet, f"{existing} skipped: their results exist; --overwrite makes them anew")
    if own_results:
        say(quiet, f"{own_results} skipped: results of stylize itself")


def _say_failures(failures: list[Outcome], count: int, what: str) -> None:
    """A line for each photo that failed, once for all styles; at the end, of several, how many.

    Raises:
        StylizeError: there are failures.
    """
    if not failures:
        return
    if count == 1 and failures[0].error:
        raise failures[0].error
    lines = []  # not a table: a terminal's width must not cut names off
    for failure in failures:
        reason = str(failure.error).removeprefix(failure.job.name).removeprefix(":").strip()
        lines.append(f"{failure.job.name}: {reason}")
    typer.echo("\n".join(dict.fromkeys(lines)), err=True)
    raise StylizeError(f"{len(failures)} of {count} {what} could not be restyled")
