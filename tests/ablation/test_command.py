"""The real command: a tiny experiment from beginning to end, stopped and gone on with."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from stylize.ablation.plan import Experiment, experiment_config
from stylize.console.ablate import run_ablation
from stylize.errors import StylizeError
from tests.conftest import Run, assert_one_line, save_picture

WORDS = (
    "--size", "32", "--device", "cpu", "--set", "width=0.125", "--set", "style_size=32",
    "--set", "held_out_photos=2", "--set", "checkpoint_every=2",
)  # fmt: skip


def test_from_beginning_to_end(
    run: Run, photo_folder: Path, small_perceptual: Path, tmp_path: Path
) -> None:
    painting = save_picture(tmp_path / "painting.png", 40, 50, seed=99)
    words = [
        "ablate", "--style", painting, "--content", photo_folder, "--perceptual", small_perceptual,
        "--norms", "batch", "--seeds", 1, "--output", tmp_path / "out", *WORDS,
    ]  # fmt: skip
    done = run(*words, "--steps", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'out' / 'report.html'}\n"
    assert "After 3 steps the held-out loss is" in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "experiment.json", "batch-seed0-batch2.json", "batch-seed0-batch2.safetensors",
        "report.html", "results.csv", "curves.png", "robustness.png", "sheet.png",
    }  # fmt: skip
    table = (tmp_path / "out" / "results.csv").read_text()
    rows = csv.DictReader(io.StringIO(table))
    cost = next(row for row in rows if row["measurement"] == "cost")
    assert 0 < float(cost["step_seconds"]) < 60
    assert 0 < float(cost["picture_seconds"]) < 60
    # At the least the weights: 27 thousand numbers at an eighth of the width.
    assert float(cost["step_bytes"]) > 100_000
    assert float(cost["picture_bytes"]) > 100_000
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size[0] > 2 * 80
    assert_one_line(run(*words, "--steps", 4), 2, "holds another experiment: its steps is 3, not 4")


def test_stopped_it_goes_on(photo_folder: Path, small_perceptual: Path, tmp_path: Path) -> None:
    painting = save_picture(tmp_path / "painting.png", 40, 50, seed=99)
    words = [
        sys.executable, "-m", "stylize", "ablate", "--style", str(painting),
        "--content", str(photo_folder), "--perceptual", str(small_perceptual),
        "--norms", "none", "--seeds", "1", "--steps", "5000", *WORDS,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    folder = tmp_path / "ablation" / "none-seed0-batch2.checkpoints"
    deadline = time.monotonic() + 120
    while not folder.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert b"stopped; the same command goes on" in errors
    assert any(folder.iterdir())


def test_bad_input_is_one_line(run: Run, tmp_path: Path) -> None:
    painting = save_picture(tmp_path / "painting.png")
    words = ("ablate", "--style", painting)
    assert_one_line(run("ablate", "--style", tmp_path / "no.png"), 2, "no such file")
    assert_one_line(run(*words, "--norms", "layer"), 2, "norm 'layer'")
    assert_one_line(run(*words, "--content", tmp_path / "no"), 2, "no such folder")


def test_without_matplotlib_it_says_so_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painting = save_picture(tmp_path / "painting.png")
    experiment = Experiment(painting, None, experiment_config({}, {}))
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    for name in ("plots", "report"):
        monkeypatch.delitem(sys.modules, f"stylize.ablation.{name}", raising=False)
    monkeypatch.delattr("stylize.ablation.report", raising=False)
    with pytest.raises(StylizeError, match=r"pip install 'stylize\[ablation\]'"):
        run_ablation(experiment, tmp_path / "out", overwrite=False, quiet=True)
    assert not (tmp_path / "out").exists()
