"""An experiment in numbers: means and ranges over seeds, a table of everything, three sentences."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from stylize.ablation.costs import Cost
from stylize.ablation.plan import Experiment, Run
from stylize.ablation.probes import CONTRASTS, Altered
from stylize.ablation.run import Record
from stylize.comparison.experiment import Row
from stylize.held_out import HeldOutLoss

COLUMNS = (
    "measurement", "norm", "seed", "batch_size", "step", "contrast", "brightness",
    "content", "style", "total", "change",
    "step_seconds", "step_bytes", "picture_seconds", "picture_bytes",
)  # fmt: skip
"""Of the CSV file; a row leaves empty what its measurement has not."""


@dataclass(frozen=True)
class Spread:
    """Values of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of all values."""
        return sum(self.values) / len(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} ({min(self.values):.3g} to {max(self.values):.3g})"

    def below(self, other: Spread) -> int:
        """In how many seeds this is lower; both have the same seeds in the same order."""
        return sum(a < b for a, b in zip(self.values, other.values, strict=True))


def shown_runs(experiment: Experiment, records: Mapping[Run, Record]) -> list[Run]:
    """The runs of the first seed that came to their end: one of each norm, to be looked at."""
    first = [run for run in experiment.main if run.seed == experiment.config.seed]
    return [run for run in first if records[run].final]


@dataclass(frozen=True)
class Results:
    """All that a report shows."""

    experiment: Experiment
    records: dict[Run, Record]
    costs: dict[str, Cost]
    rows: list[Row]
    """Photos, and what the `shown_runs` make of them."""
    perceptual: str
    device: str

    @property
    def shown(self) -> list[str]:
        """Norms of the rows' pictures."""
        return [run.norm for run in shown_runs(self.experiment, self.records)]

    def of(self, norm: str, batch_size: int | None = None) -> list[Record]:
        """The finished runs of a norm, by seed: the main ones, or those of the batch sweep."""
        experiment = self.experiment
        runs = experiment.main if batch_size is None else experiment.sweep
        return [
            self.records[run]
            for run in runs
            if run.norm == norm
            and (batch_size is None or run.batch_size == batch_size)
            and self.records[run].final
        ]

    def final(self, norm: str, batch_size: int | None = None) -> Spread | None:
        """Held-out loss after the last step; None where no run came so far."""
        totals = [record.final.total for record in self.of(norm, batch_size) if record.final]
        return Spread(tuple(totals)) if totals else None

    def by_image(self, norm: str, batch_size: int | None = None) -> Spread | None:
        """The same by the statistics of each picture; None where the norm has no others."""
        found = [record.image_statistics for record in self.of(norm, batch_size)]
        totals = [loss.total for loss in found if loss]
        return Spread(tuple(totals)) if totals else None

    def altered(
        self, norm: str, contrast: float, brightness: float, value: Callable[[Altered], float]
    ) -> Spread | None:
        """Something of the altered photos, over the seeds."""
        found = [
            value(one)
            for record in self.of(norm)
            for one in record.altered
            if (one.contrast, one.brightness) == (contrast, brightness)
        ]
        return Spread(tuple(found)) if found else None

    def style_growth(self, norm: str, contrast: float, brightness: float) -> Spread | None:
        """Style loss of altered photos, in parts of that of the same photos unaltered."""
        now = self.altered(norm, contrast, brightness, lambda one: one.style)
        usual = self.altered(norm, 1.0, 0.0, lambda one: one.style)
        if now is None or usual is None:
            return None
        return Spread(tuple(a / b for a, b in zip(now.values, usual.values, strict=True)))


def conclusion(results: Results) -> list[str]:
    """What the experiment shows, in three sentences: losses, robustness, price."""
    norms = results.experiment.norms
    finals: dict[str, Spread] = {n: final for n in norms if (final := results.final(n))}
    if not finals:
        return ["No run came to its end."]
    return [_losses(results, finals), _robustness(results, list(finals)), _price(results, finals)]


def _losses(results: Results, finals: dict[str, Spread]) -> str:
    experiment = results.experiment
    parts = [f"{final} with {_called(norm)}" for norm, final in finals.items()]
    text = f"After {experiment.config.steps} steps the held-out loss is {_list(parts)}"
    ranked = sorted(finals, key=lambda norm: finals[norm].mean)
    for better, worse in pairwise(ranked):
        low, high = finals[better], finals[worse]
        text += f"; {_called(better)} ends {1 - low.mean / high.mean:.0%} below {_called(worse)}"
        if len(low.values) == len(high.values):
            text += f", in {low.below(high)} of {len(low.values)} seeds"
    failed = sum(bool(results.records[run].failure) for run in experiment.runs)
    return text + (f"; {failed} of {len(experiment.runs)} runs diverged." if failed else ".")


def _robustness(results: Results, norms: list[str]) -> str:
    low = CONTRASTS[0]
    changes = {n: results.altered(n, low, 0.0, lambda one: one.change) for n in norms}
    growths = {n: results.style_growth(n, low, 0.0) for n in norms}
    changed = _list([f"{changes[n]} with {_called(n)}" for n in norms])
    grown = _list([str(growths[n]) for n in norms])
    return (
        f"Given a photo at {low:g} of its contrast, the picture changes by a root mean square of "
        f"{changed} (levels of 255), and its style loss becomes {grown} times what it was."
    )


def _price(results: Results, finals: dict[str, Spread]) -> str:
    first = next(iter(finals))
    costs = {norm: results.costs[norm] for norm in finals if norm in results.costs}
    parts = []
    if len(costs) > 1 and first in costs:
        others = [norm for norm in costs if norm != first]
        steps = [f"{costs[n].step_seconds / costs[first].step_seconds:.2f}" for n in others]
        pictures = [
            f"{costs[n].picture_seconds / costs[first].picture_seconds:.2f}" for n in others
        ]
        names = _list([_called(norm) for norm in others])
        parts.append(
            f"In parts of {_called(first)}'s time a step takes {_list(steps)} with {names}, and "
            f"a picture {_list(pictures)}"
        )
    if by_image := results.by_image("batch"):
        parts.append(
            f"batch norm, asked to use the statistics of each picture as instance norm does, has "
            f"a held-out loss of {by_image} instead of {finals['batch']}"
        )
    text = "; ".join(parts) or "Nothing was compared in time"
    return text[0].upper() + text[1:] + "."


def _called(norm: str) -> str:
    return "no norm" if norm == "none" else f"{norm} norm"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def as_csv(results: Results) -> str:
    """Every number of an experiment, a row each, below COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(results))
    return text.getvalue()


def _csv_rows(results: Results) -> Iterator[dict[str, object]]:
    for run, record in results.records.items():
        row: dict[str, object] = asdict(run)
        for step, loss in sorted(record.curve.items()):
            yield {"measurement": "held_out", **row, "step": step, **_losses_of(loss)}
        if record.image_statistics:
            yield {"measurement": "image_statistics", **row, **_losses_of(record.image_statistics)}
        for one in record.altered:
            yield {"measurement": "altered", **row, **asdict(one), "total": one.content + one.style}
    for norm, cost in results.costs.items():
        yield {"measurement": "cost", "norm": norm, **asdict(cost)}


def _losses_of(loss: HeldOutLoss) -> dict[str, object]:
    return {"content": loss.content, "style": loss.style, "total": loss.total}
