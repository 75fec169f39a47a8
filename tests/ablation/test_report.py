from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from stylize.ablation import report
from stylize.ablation.costs import Cost
from stylize.ablation.plan import Experiment, Run, experiment_config
from stylize.ablation.plots import plots
from stylize.ablation.probes import Altered, alterations
from stylize.ablation.run import Record
from stylize.ablation.summary import COLUMNS, Results, as_csv, conclusion
from stylize.comparison.experiment import Row
from stylize.held_out import HeldOutLoss
from tests.conftest import make_picture, save_picture, without_pictures

LEVELS = {"instance": 0.5, "batch": 0.6, "none": 1.0}


def make_record(run: Run) -> Record:
    """Losses that follow from norm, seed and batch size, so that means and ranges are known."""
    end = LEVELS[run.norm] + 0.1 * run.seed - 0.01 * (run.batch_size - 2)
    curve = {
        step: HeldOutLoss(end / 4 * scale, end * 3 / 4 * scale, 5)
        for step, scale in ((0, 4.0), (50, 2.0), (100, 1.0))
    }
    altered = [Altered(c, b, 0.1, 1 / c, abs(c - 1) + abs(b)) for c, b in alterations()]
    by_image = HeldOutLoss(0.1, 0.2 + 0.1 * run.seed, 5) if run.norm == "batch" else None
    return Record(curve, 0, "", True, by_image, altered)


@pytest.fixture
def results(small_perceptual: Path, tmp_path: Path) -> Results:
    painting = save_picture(tmp_path / "<b>&.png")
    config = experiment_config({"steps": 100, "perceptual": str(small_perceptual)}, {})
    experiment = Experiment(painting, None, config, seeds=3, batch_sizes=(1,))
    costs = {
        norm: Cost(step, 2**20, picture, 2**20)
        for norm, step, picture in (("instance", 2.0, 0.4), ("batch", 1.8, 0.3), ("none", 1.5, 0.2))
    }
    return Results(
        experiment,
        {run: make_record(run) for run in experiment.runs},
        costs,
        [Row("<i>.png", make_picture(20, 30), [make_picture(20, 30, n) for n in range(3)])],
        "tiny-vgg",
        "cpu",
    )


def test_three_sentences_with_numbers_and_spread(results: Results) -> None:
    losses, robustness, price = conclusion(results)
    assert losses == (
        "After 100 steps the held-out loss is 0.6 (0.5 to 0.7) with instance norm, 0.7 (0.6 to "
        "0.8) with batch norm and 1.1 (1 to 1.2) with no norm; instance norm ends 14% below batch "
        "norm, in 3 of 3 seeds; batch norm ends 36% below no norm, in 3 of 3 seeds."
    )
    assert "at 0.25 of its contrast" in robustness
    assert "0.75 (0.75 to 0.75) with instance norm" in robustness
    assert "becomes 4 (4 to 4), 4 (4 to 4) and 4 (4 to 4) times" in robustness
    assert price == (
        "In parts of instance norm's time a step takes 0.90 and 0.75 with batch norm and no norm, "
        "and a picture 0.75 and 0.50; batch norm, asked to use the statistics of each picture as "
        "instance norm does, has a held-out loss of 0.4 (0.3 to 0.5) instead of 0.7 (0.6 to 0.8)."
    )


def test_a_run_that_diverged_is_counted_and_not_averaged(results: Results) -> None:
    run = Run("none", 1, 2)
    results.records[run] = dataclasses.replace(
        results.records[run], curve={}, failure="the loss is nan", image_statistics=None
    )
    assert results.final("none") is not None
    assert str(results.final("none")) == "1.1 (1 to 1.2)"
    losses = conclusion(results)[0]
    assert losses.endswith("; 1 of 12 runs diverged.")
    assert "below no norm" in losses
    assert "of 2 seeds" not in losses  # not the same seeds, so not paired
    assert f"{run}: the loss is nan." in report.notes(results)


def test_nothing_finished_is_said(results: Results) -> None:
    for run in results.records:
        results.records[run] = Record()
    empty = dataclasses.replace(results, costs={}, rows=[])
    assert conclusion(empty) == ["No run came to its end."]
    assert set(report.files(empty)) == {
        "report.html", "results.csv", "curves.png", "robustness.png", "batch-sizes.png",
    }  # fmt: skip


def test_every_number_is_in_the_table(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert tuple(rows[0]) == COLUMNS
    kinds = [row["measurement"] for row in rows]
    runs = 9 + 3  # three seeds of three norms; one more batch size of each
    assert kinds.count("held_out") == runs * 3
    assert kinds.count("altered") == runs * 9
    assert kinds.count("image_statistics") == runs // 3
    assert kinds.count("cost") == 3
    last = next(row for row in rows if row["step"] == "100")
    assert float(last["total"]) == pytest.approx(0.5)
    assert (last["norm"], last["seed"], last["batch_size"], last["change"]) == (
        "instance", "0", "2", "",
    )  # fmt: skip


def test_the_page_stands_alone_and_escapes_names(results: Results) -> None:
    page = report.html(results, plots(results)).decode()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.png" in page
    assert "&lt;i&gt;.png" in page
    assert "http" not in without_pictures(page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 3
    assert page.count("data:image/jpeg;base64,") == 4
    for sentence in conclusion(results):
        assert sentence.replace("'", "&#39;") in page


def test_plots_are_pictures_and_the_same_again(results: Results) -> None:
    drawn = plots(results)
    assert set(drawn) == {"curves.png", "robustness.png", "batch-sizes.png"}
    for data in drawn.values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG"
            assert image.size[0] >= 600
    assert plots(results) == drawn


def test_the_sheet_has_a_column_for_each_norm(results: Results) -> None:
    assert report.sheet(results).size[0] > 4 * 30
