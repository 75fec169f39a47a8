"""An experiment as people read it: a page, a table of numbers, plots, a sheet of pictures."""

from __future__ import annotations

from PIL import Image

from stylize.ablation.costs import ROUNDS, SIDE, STEPS
from stylize.ablation.plots import plots
from stylize.ablation.probes import PHOTOS, alterations
from stylize.ablation.run import Record
from stylize.ablation.summary import Results, Spread, as_csv, conclusion
from stylize.comparison.page import render
from stylize.imaging.sheet import contact_sheet

PAGE, TABLE, SHEET = "report.html", "results.csv", "sheet.png"


def sheet(results: Results) -> Image.Image:
    """Photo and pictures in rows, one column a norm."""
    rows = [[row.photo, *row.restyled] for row in results.rows]
    return contact_sheet(rows, ["photo", *_captions(results)])


def files(results: Results) -> dict[str, bytes]:
    """Everything but the sheet, by file name."""
    drawn = plots(results)
    return {
        PAGE: html(results, drawn),
        TABLE: as_csv(results).encode(),
        **drawn,
    }


def html(results: Results, drawn: dict[str, bytes]) -> bytes:
    """One self-contained page; every name in it is escaped."""
    experiment = results.experiment
    return render(
        __package__,
        "report.html.jinja",
        painting=experiment.painting.name,
        norms=experiment.norms,
        conclusion=conclusion(results),
        loss_columns=("norm", "content", "style", "total", "by each picture's statistics", "runs"),
        losses=[_loss_row(results, norm) for norm in experiment.norms],
        batch_columns=("norm", *(f"{size} a step" for size in _sizes(results))),
        batch_sizes=_batch_rows(results),
        altered_columns=(
            "contrast, brightness",
            *(f"{norm}: {what}" for norm in experiment.norms for what in ("change", "style loss")),
        ),
        altered=_altered_rows(results),
        cost_columns=("norm", "s / step", "MiB / step", "s / picture", "MiB / picture"),
        costs=[
            (norm, f"{cost.step_seconds:.3g}", f"{cost.step_bytes / 2**20:.0f}",
             f"{cost.picture_seconds:.3g}", f"{cost.picture_bytes / 2**20:.0f}")
            for norm, cost in results.costs.items()
        ],
        plots=drawn,
        rows=results.rows,
        captions=_captions(results),
        notes=notes(results),
        settings=sorted(experiment.identity().items()),
    )  # fmt: skip


def notes(results: Results) -> list[str]:
    """What the figures mean: a line each."""
    config = results.experiment.config
    measured = [record.final for record in results.records.values() if record.final]
    photos = measured[0].photos if measured else 0
    lines = [
        "All runs began from random weights and saw the same crops of the same photos in the same "
        "order; weights agree where the shapes do. Mean, and range over the seeds.",
        f"Content and style loss in normalised units (lower is better), by the loss network "
        f"{results.perceptual}, mean of {photos} held-out pictures; with batch norm by its "
        f"running statistics, unless said otherwise.",
        f"Contrast is stretched about mid-grey, within 0..1, for {min(PHOTOS, photos)} held-out "
        f"pictures; what is clipped is lost to every norm.",
        f"Time and memory on {results.device}: medians of {ROUNDS} turns of {STEPS}, the norms "
        f"taking turns, in processes of their own; batch {config.batch_size} at {config.size} px "
        f"a step, {SIDE} px a picture. Memory: the most above a process that has loaded nothing.",
    ]
    lines += [
        f"{run}: the loss ran away {record.retreats} times, and the learning rate was halved."
        for run, record in results.records.items()
        if record.retreats
    ]
    lines += [f"{run}: {r.failure}." for run, r in results.records.items() if r.failure]
    return lines


def _captions(results: Results) -> list[str]:
    return [f"norm: {norm}" for norm in results.shown]


def _loss_row(results: Results, norm: str) -> tuple[str, ...]:
    records = results.of(norm)
    if not records:
        return (norm, "-", "-", "-", "-", "0")
    return (
        norm,
        *(str(_spread(records, part)) for part in ("content", "style", "total")),
        str(results.by_image(norm) or "-"),
        str(len(records)),
    )


def _spread(records: list[Record], part: str) -> Spread:
    return Spread(tuple(getattr(record.final, part) for record in records))


def _sizes(results: Results) -> list[int]:
    return sorted({run.batch_size for run in results.experiment.sweep})


def _batch_rows(results: Results) -> list[tuple[str, ...]]:
    rows = []
    for norm in results.experiment.norms if results.experiment.sweep else ():
        finals = [str(results.final(norm, size) or "-") for size in _sizes(results)]
        rows.append((norm, *finals))
        if results.by_image(norm):
            found = [str(results.by_image(norm, size) or "-") for size in _sizes(results)]
            rows.append((f"{norm}, by each picture's statistics", *found))
    return rows


def _altered_rows(results: Results) -> list[tuple[str, ...]]:
    rows = []
    for contrast, brightness in alterations():
        cells = []
        for norm in results.experiment.norms:
            change = results.altered(norm, contrast, brightness, lambda one: one.change)
            growth = results.style_growth(norm, contrast, brightness)
            cells += [str(change or "-"), f"{growth} x" if growth else "-"]
        rows.append((f"x{contrast:g}, {brightness:+g}", *cells))
    return rows
