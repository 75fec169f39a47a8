"""A comparison as people read it: a terminal table, one HTML file, one PNG sheet."""

from __future__ import annotations

from PIL import Image
from rich.table import Table

from stylize.comparison.experiment import SHOWN_SIDE, Comparison, Measured
from stylize.comparison.page import render
from stylize.imaging.sheet import contact_sheet

COLUMNS = ("model", "norm", "content", "style", "total", "s / picture")


def figures(model: Measured) -> tuple[str, ...]:
    """One model's cells below COLUMNS."""
    loss = model.loss
    values = (loss.content, loss.style, loss.total) if loss else ()
    cells = tuple(f"{value:.3f}" for value in values) or ("-",) * 3
    return (model.label, model.norm, *cells, f"{model.seconds:.2f}")


def notes(comparison: Comparison) -> list[str]:
    """What the figures mean, and which are missing: a line each."""
    lines = [f"No loss for {model.label}: {model.missing}." for model in comparison.models
             if model.missing]  # fmt: skip
    measured = [model.loss for model in comparison.models if model.loss]
    if measured:
        lines.append(
            f"Content and style loss in normalised units (lower is better), mean of "
            f"{_count(measured[0].photos, 'photo')}, by the loss network {comparison.perceptual}."
        )
    if not comparison.one_painting:
        lines.append(
            "Each is measured against its own painting, as it learned it. These differ, so style "
            "losses cannot be compared."
        )
    lines.append(
        f"Time: median of {_count(len(comparison.rows), 'picture')} of at most {SHOWN_SIDE} px, "
        f"on {comparison.device}, the models taking turns."
    )
    lines += [f"Left out {reason}." for reason in comparison.skipped.values()]
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def terminal_table(comparison: Comparison) -> Table:
    """The figures for a terminal."""
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if index < 2 else "right")
    for model in comparison.models:
        table.add_row(*figures(model))
    return table


def sheet(comparison: Comparison) -> Image.Image:
    """Photo and restyled pictures in rows, one column a model."""
    labels = ["photo", *(f"{model.label} ({model.norm})" for model in comparison.models)]
    return contact_sheet([[row.photo, *row.restyled] for row in comparison.rows], labels)


def html(comparison: Comparison) -> bytes:
    """One self-contained page; every name in it is escaped."""
    return render(
        __package__,
        "report.html.jinja",
        comparison=comparison,
        columns=COLUMNS,
        figures=[figures(model) for model in comparison.models],
        notes=notes(comparison),
        captions=[f"{model.label}, {model.norm} norm" for model in comparison.models],
    )
