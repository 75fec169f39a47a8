"""Resume: the same bits as without an interruption, and never another run's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stylize.config import TrainConfig
from stylize.errors import StylizeError, UsageError
from stylize.training.checkpoint import (
    folder_of,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from stylize.training.result import save_model
from stylize.training.trainer import Trainer
from tests.conftest import Run, assert_one_line, save_picture


@pytest.fixture
def config(small_perceptual: Path) -> TrainConfig:
    return TrainConfig(
        steps=12, size=64, half_size_share=0.8, style_size=48, width=0.125, device="cpu",
        perceptual=str(small_perceptual), warmup_steps=2, checkpoint_every=4,
    )  # fmt: skip


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "painting.png", 60, 50, seed=99)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_gives_the_same_bits(
    config: TrainConfig, painting: Path, photo_folder: Path, tmp_path: Path, norm: str,
    precision: str,
) -> None:  # fmt: skip
    config = config.changed({"norm": norm, "precision": precision})
    path = tmp_path / "model.safetensors"
    whole = Trainer(config, painting, photo_folder, "model")
    whole.before = whole.evaluate()
    losses = [report.total for report in whole.steps()]
    save_model(whole, path)
    expected = path.read_bytes()

    first = Trainer(config, painting, photo_folder, "model")
    first.before = first.evaluate()
    for report in first.steps():
        if report.step % 4 == 0:
            save_checkpoint(path, first.last_good, first.run)
        if report.step == 10:
            break
    second = Trainer(config, painting, photo_folder, "model", resume=path)
    assert second.step == 8
    assert [report.total for report in second.steps()] == losses[8:]
    save_model(second, path)
    assert path.read_bytes() == expected


def test_killed_and_resumed_is_the_uninterrupted_run(
    run: Run, tmp_path: Path, photo_folder: Path, small_perceptual: Path
) -> None:
    painting = save_picture(tmp_path / "painting.png", 60, 50, seed=99)
    words = (
        "train", "--style", painting, "--content", photo_folder, "--steps", 60, "--size", 32,
        "--style-size", 48, "--perceptual", small_perceptual, "--set", "width=0.125", "--device",
        "cpu", "--set", "checkpoint_every=7", "--quiet", "--preview-every", 0,
    )  # fmt: skip
    assert run(*words, "-o", tmp_path / "a" / "model.safetensors").returncode == 2  # no such folder
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, killed = (tmp_path / name / "model.safetensors" for name in ("a", "b"))
    assert run(*words, "-o", whole).returncode == 0
    assert not has_checkpoint(whole)

    process = subprocess.Popen(
        [sys.executable, "-m", "stylize", *map(str, words), "-o", str(killed)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not has_checkpoint(killed):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()
    assert_one_line(run(*words, "-o", killed), 1, "--resume goes on with it")
    done = run(*words, "-o", killed, "--resume")
    assert done.returncode == 0, done.stderr
    assert killed.read_bytes() == whole.read_bytes()
    assert not folder_of(killed).exists()
    assert_one_line(run(*words, "-o", killed, "--resume"), 2, "nothing to resume")
    assert killed.read_bytes() == whole.read_bytes()


def test_only_its_own_run_is_gone_on_with(
    config: TrainConfig, painting: Path, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trainer = Trainer(config, painting, photo_folder, "model")
    for step in range(3):
        trainer.step = step
        save_checkpoint(path, trainer.checkpoint(), trainer.run)
    assert len(list(folder_of(path).iterdir())) == 2  # the last two
    assert load_checkpoint(path, trainer.run).state["step"] == 2
    for change in ({"steps": 13}, {"seed": 5}, {"norm": "batch"}):
        with pytest.raises(UsageError, match=f"another run: its {next(iter(change))} is"):
            Trainer(config.changed(change), painting, photo_folder, "model", resume=path)
    save_picture(painting, 60, 50, seed=98)
    with pytest.raises(UsageError, match="another run: its painting is"):
        Trainer(config, painting, photo_folder, "model", resume=path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    config: TrainConfig, painting: Path, photo_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trainer = Trainer(config, painting, photo_folder, "model")
    for step in (4, 8):
        trainer.step = step
        save_checkpoint(path, trainer.checkpoint(), trainer.run)
    newest, oldest = sorted(folder_of(path).iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:500])
    assert load_checkpoint(path, trainer.run).state["step"] == 4
    oldest.write_bytes(b"")
    with pytest.raises(StylizeError, match=r"no checkpoint in .* can be read"):
        load_checkpoint(path, trainer.run)
    shutil.rmtree(folder_of(path))
    with pytest.raises(UsageError, match="nothing to resume"):
        load_checkpoint(path, trainer.run)


@pytest.mark.parametrize(("when", "back"), [(6, 4), (2, 0)])
def test_a_run_that_goes_astray_goes_back_with_a_lower_rate(
    config: TrainConfig, painting: Path, photo_folder: Path, caplog: pytest.LogCaptureFixture,
    when: int, back: int,
) -> None:  # fmt: skip
    trainer = Trainer(config, painting, photo_folder, "model")
    trainer.before = before = trainer.evaluate()
    steps = []
    for report in trainer.steps():
        steps.append(report.step)
        if report.step == when and trainer.guard.retreats == 0:
            with torch.no_grad():  # as a batch that throws everything off would
                trainer.network.get_parameter("out.conv.bias").fill_(float("nan"))
    assert steps == [*range(1, when + 1), *range(back + 1, 13)]
    assert trainer.guard.rate == 0.5
    assert trainer.before == before
    assert f"the loss is nan at step {when + 1}: going back to step {back}" in caplog.text


def test_a_run_that_stays_astray_ends(
    config: TrainConfig, painting: Path, photo_folder: Path
) -> None:
    trainer = Trainer(config.changed({"checkpoint_every": 50}), painting, photo_folder, "model")
    bias = trainer.network.get_parameter("out.conv.bias")

    def train() -> None:
        for report in trainer.steps():
            if report.step == 2:
                with torch.no_grad():
                    bias.fill_(float("nan"))

    with pytest.raises(StylizeError, match="the loss is nan at step 3, for the 4th time"):
        train()
