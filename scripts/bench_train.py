"""How soon a style is learned, against the usual recipe.

    python scripts/bench_train.py --content DIR PAINTING...

Usual: random weights, Adam at 1e-3, batches of 4, 256 px, float32, torch's own instance norm and
layout. Beside it stylize from random weights, and as it is: from the nearest shipped style that was
not trained on this painting, nor began from one that was. All learn from vgg19-slim and are
measured by it on the same held-out photos; only training time counts. Prints Markdown, and writes
the curves as CSV and PNG. A second table takes the gain apart: what is ours joins the usual recipe
one by one, each time for as long as stylize took. With `--presets` instead: steps a second and
minutes of each preset, and the usual recipe's; on a GPU also of steps that are not replayed. All on
the GPU where there is one.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from plain_apply import Transformer
from torch import Tensor, nn

from stylize.config import TrainConfig
from stylize.devices import resolve_device, resolve_precision
from stylize.held_out import held_out_loss, measure, split
from stylize.imaging.files import find_pictures
from stylize.losses import PerceptualLoss, style_targets
from stylize.model_file import file_sha256
from stylize.networks.perceptual import DEFAULT_STYLE_LAYERS, load_perceptual
from stylize.presets import PRESETS, preset_settings
from stylize.training.data import PhotoSampler, load_style
from stylize.training.start import TRIALS, load_nearest
from stylize.training.trainer import Trainer
from stylize.zoo import list_styles

LOSSES_AT = (0, 10, 25, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400)
"""Steps at which the held-out loss is measured."""

HALF_SIZE_SHARE, MORE_STEPS = 0.75, 2.5
"""Tried at half the size: this part of the steps, of which so many more fit into the time."""

Evaluate = Callable[[Callable[[Tensor], Tensor]], float]
"""The held-out loss of a network."""


@dataclass
class Point:
    """Where a run stands."""

    seconds: float
    step: int
    loss: float


@dataclass
class Row:
    """A point of one way on one painting."""

    painting: str
    way: str
    point: Point


OURS, SCRATCH, USUAL = "stylize", "from random weights", "the usual recipe"
COLOURS = {OURS: "#0072b2", SCRATCH: "#56b4e9", USUAL: "#d55e00"}
"""Told apart by the colour-blind too (Okabe and Ito, 2008)."""


class Plain:
    """The usual recipe: nothing of stylize but the loss."""

    def __init__(self, config: TrainConfig, painting: Path, content: Path) -> None:
        torch.manual_seed(0)
        self.device = resolve_device(config.device)
        self.network: nn.Module = Transformer().to(self.device)
        photos, _ = split(find_pictures(content))
        self.sampler = PhotoSampler(photos, 256, 4, 0)
        perceptual = load_perceptual(config.perceptual).to(self.device)
        layers = DEFAULT_STYLE_LAYERS[perceptual.architecture]
        self.loss = PerceptualLoss(
            perceptual,
            style_targets(perceptual, load_style(painting, 512).to(self.device), layers),
            ["relu3_1"],
        )

    def steps(self) -> Iterator[None]:
        """Train for ever."""
        optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        for batch in self.sampler.batches(0, 10**9):
            photo = batch.contiguous().to(self.device)
            optimiser.zero_grad()
            total = self.loss(self.network(photo), photo).total
            torch.autograd.backward(total)
            optimiser.step()
            yield


def ours(config: TrainConfig, painting: Path, content: Path, warm: bool) -> Trainer:
    """A run of stylize, from random weights or from a style of another painting."""
    trainer = Trainer(replace(config, start="none"), painting, content, painting.stem)
    if warm:
        start = load_nearest(
            trainer.network,
            trainer.loss,
            [trainer.sampler.batch(step).to(trainer.device) for step in range(TRIALS)],
            styles_that_saw(painting),
        )
        assert start is not None
        colours = ", recoloured" if start.recoloured else ""
        print(f"{painting.stem} begins from {start.model.card.name}{colours}", flush=True)
    return trainer


def styles_that_saw(painting: Path) -> set[str]:
    """Names of the shipped styles that were trained on a painting, or began from one that was."""
    sha256 = file_sha256(painting)
    cards = [style.card() for style in list_styles() if style.origin == "shipped"]
    of_painting = {card.name for card in cards if card.style_sha256 == sha256}
    found = set()
    for card in cards:
        names, start = {card.name}, card.start
        while start:
            names.add(start["name"])
            start = start["start"]
        if names & of_painting:
            found.add(card.name)
    return found


def apart(
    config: TrainConfig, painting: Path, content: Path, evaluate: Evaluate, seconds: float
) -> Iterator[tuple[str, int, float]]:
    """From the usual recipe to stylize from random weights, each with what the one before has.

    Yields what is added, how many steps the seconds made, and the held-out loss after them.
    """
    plain = Plain(config, painting, content)
    done = after(plain.steps(), seconds)
    yield "the usual recipe", done, evaluate(plain.network.eval())
    network = replace(
        config,
        batch_size=4,
        optimiser="adam",
        decay="none",
        warmup_steps=0,
        gradient_clip=1e9,
        flat_weight=0.0,
        lattice_weight=0.0,
        edge_weight=0.0,
        gamut_weight=0.0,
    )
    batch = replace(network, batch_size=config.batch_size)
    losses = replace(
        batch,
        flat_weight=config.flat_weight,
        lattice_weight=config.lattice_weight,
        edge_weight=config.edge_weight,
        gamut_weight=config.gamut_weight,
    )
    schedule = replace(config, optimiser="adam")
    halved = replace(
        config, half_size_share=HALF_SIZE_SHARE, steps=round(config.steps * MORE_STEPS)
    )
    precision = resolve_precision(config.precision, plain.device)
    for name, settings in (
        (f"and our network, first weights and layout, {precision}", network),
        (f"and batches of {config.batch_size}", batch),
        ("and the losses for flat areas, grid, edges and gamut, clamped", losses),
        ("and warm-up, cosine and clipping", schedule),
        ("and Muon for the kernels inside", config),
        (f"and {HALF_SIZE_SHARE:.0%} of the steps at half the size", halved),
    ):
        trainer = ours(settings, painting, content, warm=False)
        done = after(trainer.steps(), seconds)
        yield name, done, evaluate(trainer.network.eval())


def after(steps: Iterator[object], seconds: float) -> int:
    """Train for so long, and say how many steps that made."""
    begin, done = time.perf_counter(), 0
    for _ in steps:
        done += 1
        if time.perf_counter() - begin >= seconds:
            break
    await_gpu()
    return done


def await_gpu() -> None:
    """Until a GPU has done what the host launched."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def curve(
    steps: Iterator[object],
    network: nn.Module,
    evaluate: Evaluate,
    until: float,
    limit: float,
) -> list[Point]:
    """Train until the held-out loss is at most `until`, or for `limit` seconds."""
    points = [Point(0.0, 0, evaluate(network.eval()))]
    seconds, done = 0.0, 0
    for target in LOSSES_AT[1:]:
        network.train()
        begin = time.perf_counter()
        taken = sum(1 for _ in islice(steps, target - done))
        await_gpu()
        seconds += time.perf_counter() - begin
        done += taken
        points.append(Point(seconds, done, evaluate(network.eval())))
        if taken < target - points[-2].step or points[-1].loss <= until or seconds > limit:
            break
    return points


def draw(rows: Sequence[Row], path: Path) -> None:
    """Held-out loss against time, a panel a painting."""
    paintings = list(dict.fromkeys(row.painting for row in rows))
    figure = Figure(figsize=(4.2 * len(paintings), 3.6), layout="constrained")
    panels = figure.subplots(1, len(paintings), squeeze=False, sharey=True)[0]
    for panel, painting in zip(panels, paintings, strict=True):
        for way, colour in COLOURS.items():
            points = [row.point for row in rows if (row.painting, row.way) == (painting, way)]
            seconds, losses = [p.seconds for p in points], [p.loss for p in points]
            panel.plot(seconds, losses, color=colour, marker="o", markersize=3, label=way)
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
        panel.set_title(painting)
        panel.set_xlabel("seconds of training")
    panels[0].set_ylabel("held-out loss")
    panels[0].legend()
    figure.savefig(path, dpi=110)


def reached(points: list[Point], loss: float) -> float | None:
    """Seconds until a loss was reached, between two measurements on a straight line."""
    for before, after in pairwise(points):
        if after.loss <= loss:
            part = (before.loss - loss) / (before.loss - after.loss) if after.loss < loss else 1.0
            return before.seconds + max(0.0, part) * (after.seconds - before.seconds)
    return None


def presets(painting: Path, content: Path, seconds: float = 20.0) -> None:
    """Print how fast each preset's steps are here, beside the usual recipe's."""
    device = resolve_device("auto")

    def rate(steps: Iterator[object]) -> float:
        for _ in islice(steps, 5):  # which pay for what later ones share
            pass
        await_gpu()
        begin = time.perf_counter()
        return after(steps, seconds) / (time.perf_counter() - begin)

    print(f"| on {device.type} | photos a step | steps a second | steps | minutes |")
    print("|---|---:|---:|---:|---:|")
    usual = rate(Plain(TrainConfig(), painting, content).steps())
    print(f"| {USUAL} | 4 | {usual:.2f} | | |", flush=True)
    replayed = (False, True) if device.type == "cuda" else (True,)
    for preset, graph in product(PRESETS, replayed):
        config = TrainConfig().changed(preset_settings(preset, device.type))
        # The steps themselves are those of a run without end.
        endless = replace(config, steps=10**6, cuda_graph=graph)
        found = rate(ours(endless, painting, content, warm=False).steps())
        print(
            f"| {preset}{'' if graph else ', launch by launch'} | {config.batch_size} | "
            f"{found:.2f} | {config.steps} | {config.steps / found / 60:.1f} |",
            flush=True,
        )


def main() -> None:
    """Print a table for each painting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100, help="of our runs")
    parser.add_argument("--photos", type=int, default=12, help="held-out photos measured")
    parser.add_argument("--limit", type=float, default=6.0, help="times our time, for the others")
    parser.add_argument("--csv", type=Path, default=Path("curves.csv"))
    parser.add_argument("--presets", action="store_true", help="time the presets, nothing else")
    arguments = parser.parse_args()
    if arguments.presets:
        presets(arguments.paintings[0], arguments.content)
        return
    config = TrainConfig(steps=arguments.steps, warmup_steps=10, precision="auto")
    rows: list[Row] = []
    for painting in arguments.paintings:
        held_out = split(find_pictures(arguments.content))[1][: arguments.photos]
        warm = ours(config, painting, arguments.content, warm=True)
        loss = held_out_loss(warm.perceptual, warm.held_out_targets)

        def evaluate(
            network: Callable[[Tensor], Tensor],
            loss: PerceptualLoss = loss,
            photos: list[Path] = held_out,
        ) -> float:
            return measure(network, loss, photos).total

        curves = {OURS: curve(warm.steps(), warm.network, evaluate, 0.0, 1e9)}
        goal, mine = curves[OURS][-1].loss, curves[OURS][-1].seconds
        limit = arguments.limit * mine
        long = replace(config, steps=2400)
        scratch = ours(long, painting, arguments.content, warm=False)
        curves[SCRATCH] = curve(scratch.steps(), scratch.network, evaluate, goal, limit)
        plain = Plain(config, painting, arguments.content)
        curves[USUAL] = curve(plain.steps(), plain.network, evaluate, goal, limit)
        print(f"\n| {painting.stem}, until held-out loss {goal:.3f} | a step | in all | ratio |")
        print("|---|---:|---:|---:|")
        for name, points in curves.items():
            seconds = reached(points, goal)
            each = points[-1].seconds / points[-1].step
            if seconds is None:
                last = points[-1]
                print(
                    f"| {name} | {each:.2f} | not in {last.seconds:.0f} s (then {last.loss:.3f}) | "
                    f"over {last.seconds / mine:.1f} |",
                    flush=True,
                )
            else:
                print(
                    f"| {name} | {each:.2f} | {seconds:.0f} s | {seconds / mine:.1f} |", flush=True
                )
            rows += [Row(painting.stem, name, point) for point in points]
        print(f"\n| {painting.stem}, {mine:.0f} s of | steps | held-out loss |")
        print("|---|---:|---:|")
        for name, done, found in apart(config, painting, arguments.content, evaluate, mine):
            print(f"| {name} | {done} | {found:.3f} |", flush=True)
        print(f"| and the nearest style | {curves[OURS][-1].step} | {goal:.3f} |", flush=True)
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("painting", "way", "step", "seconds", "held-out loss"))
            for row in rows:
                at = row.point
                writer.writerow(
                    (row.painting, row.way, at.step, f"{at.seconds:.1f}", f"{at.loss:.4f}")
                )
        draw(rows, arguments.csv.with_suffix(".png"))


if __name__ == "__main__":
    main()
