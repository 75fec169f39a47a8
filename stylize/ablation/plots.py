"""An experiment as curves; matplotlib draws them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from stylize.ablation.probes import BRIGHTNESSES, CONTRASTS, Altered
from stylize.ablation.summary import Results, Spread
from stylize.held_out import HeldOutLoss

COLOURS = {"instance": "#0072b2", "batch": "#d55e00", "none": "#666666"}
"""Told apart by the colour-blind too (Okabe and Ito, 2008)."""

MARKERS = {"instance": "o", "batch": "s", "none": "^"}


def plots(results: Results) -> dict[str, bytes]:
    """PNG files by name."""
    figures = {"curves.png": _curves(results), "robustness.png": _robustness(results)}
    if results.experiment.sweep:
        figures["batch-sizes.png"] = _batch_sizes(results)
    return {name: _png(figure) for name, figure in figures.items()}


def _curves(results: Results) -> Figure:
    """Content, style and total loss against steps, and against time."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    parts: list[tuple[str, Callable[[HeldOutLoss], float]]] = [
        ("content", lambda loss: loss.content),
        ("style", lambda loss: loss.style),
        ("total", lambda loss: loss.total),
    ]
    for column, (name, value) in enumerate(parts):
        for norm in results.experiment.norms:
            records = results.of(norm)
            if not records:
                continue
            steps = sorted(records[0].curve)[1:]  # before the first step all are far off
            spreads = [Spread(tuple(value(r.curve[step]) for r in records)) for step in steps]
            _line(axes[0, column], steps, spreads, norm)
            if norm in results.costs:
                seconds = [step * results.costs[norm].step_seconds for step in steps]
                _line(axes[1, column], seconds, spreads, norm)
        axes[0, column].set_title(f"held-out {name} loss")
        axes[0, column].set_xlabel("steps")
        axes[1, column].set_xlabel(f"seconds of training on {results.device}")
        for row in axes:
            _log_scale(row[column])
            row[column].grid(alpha=0.3, which="both")
    _legend(figure, axes[0, 0])
    return figure


def _robustness(results: Results) -> Figure:
    """How much pictures and their style loss follow the photo's contrast and brightness."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    sides: list[tuple[str, Sequence[float], Callable[[float], tuple[float, float]]]] = [
        ("contrast of the photo, times", CONTRASTS, lambda level: (level, 0.0)),
        ("brightness added to the photo", BRIGHTNESSES, lambda level: (1.0, level)),
    ]

    def change(one: Altered) -> float:
        return one.change

    for column, (label, levels, alteration) in enumerate(sides):
        for norm in results.experiment.norms:
            changes = [results.altered(norm, *alteration(level), change) for level in levels]
            growths = [results.style_growth(norm, *alteration(level)) for level in levels]
            for row, found in enumerate((changes, growths)):
                _line(axes[row, column], levels, [one for one in found if one], norm)
        for row in axes:
            row[column].set_xlabel(label)
            row[column].grid(alpha=0.3)
    axes[0, 0].set_ylabel("change of the picture, RMS of 255 levels")
    axes[1, 0].set_ylabel("style loss, times the unaltered photo's")
    _legend(figure, axes[0, 0])
    return figure


def _batch_sizes(results: Results) -> Figure:
    """Final losses by batch size."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    sizes = sorted({run.batch_size for run in results.experiment.sweep})
    for norm in results.experiment.norms:
        for find, dashed in ((results.final, False), (results.by_image, True)):
            found = [(size, spread) for size in sizes if (spread := find(norm, size))]
            if found:
                at, spreads = zip(*found, strict=True)
                _line(axes, at, spreads, norm, dashed)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("photos a step")
    axes.set_ylabel(f"held-out loss after {results.experiment.config.steps} steps")
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    return figure


def _line(
    axes: Axes, at: Sequence[float], spreads: Sequence[Spread], norm: str, dashed: bool = False
) -> None:
    """A line of means in a band of ranges; a norm without values has none."""
    if len(spreads) < len(at):
        return
    label = f"{norm}, by each picture's statistics" if dashed else norm
    colour, style = COLOURS[norm], "--" if dashed else "-"
    means = [spread.mean for spread in spreads]
    axes.plot(at, means, style, color=colour, marker=MARKERS[norm], markersize=4, label=label)
    lows, highs = ([limit(s.values) for s in spreads] for limit in (min, max))
    axes.fill_between(at, lows, highs, color=colour, alpha=0.2, linewidth=0)


def _log_scale(axes: Axes) -> None:
    """Losses on a logarithmic axis, with as many plain numbers beside it as can be read."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 10 * low else range(1, 10)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes) -> None:
    """What the lines of `axes` are, above the figure, where it covers none of them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:  # matplotlib warns of an empty one
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Without the version's name: the same numbers give the same file.
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
