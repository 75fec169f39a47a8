"""A comparison as people read it: a terminal table, one HTML file, one PNG sheet."""

from __future__ import annotations

import base64
import io

from jinja2 import Environment, PackageLoader
from PIL import Image
from rich.table import Table

import stylize
from stylize.comparison.experiment import SHOWN_SIDE, Comparison, Measured
from stylize.imaging.files import Pixels
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
            f"{measured[0].photos} photos, by the loss network {comparison.perceptual}."
        )
    lines.append(
        f"Time: median of {len(comparison.rows)} pictures of at most {SHOWN_SIDE} px, "
        f"on {comparison.device}, the models taking turns."
    )
    lines += [f"Left out {reason}." for reason in comparison.skipped.values()]
    return lines


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


def html(comparison: Comparison) -> str:
    """One self-contained page; every name in it is escaped."""
    environment = Environment(loader=PackageLoader("stylize.comparison", "."), autoescape=True)
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html.jinja").render(
        comparison=comparison,
        columns=COLUMNS,
        table=[figures(model) for model in comparison.models],
        notes=notes(comparison),
        version=stylize.__version__,
    )


def _data_uri(picture: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90, subsampling="4:4:4")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
