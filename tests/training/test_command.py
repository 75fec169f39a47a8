"""`stylize train` as people use it, in processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from stylize.config import TrainConfig
from stylize.console import train as console
from stylize.errors import StylizeError
from stylize.held_out import HeldOutLoss
from stylize.model_file import file_sha256, read_card, write_model
from stylize.training.checkpoint import Checkpoint, has_checkpoint
from stylize.training.step import TrainingStep
from stylize.training.trainer import Trainer
from tests.conftest import (
    Run,
    Trained,
    assert_one_line,
    save_picture,
)

Learn = Callable[..., None]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_file_carries_everything(trained: Trained, norm: str) -> None:
    done = trained.outputs[norm]
    path = getattr(trained, norm)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    assert f"stylize apply photo.jpg --style {path}" in done.stderr
    card = read_card(path)
    assert card.norm == norm
    assert (card.steps, card.width, card.photos) == (3, 0.25, 10)
    assert card.style_image == "painting.png"
    assert card.style_sha256 == file_sha256(trained.folder / "painting.png")
    assert card.perceptual["name"] == "tiny-vgg"
    assert card.settings["size"] == 64
    assert card.held_out_before is not None
    assert card.held_out_after is not None
    assert card.held_out_after["photos"] == 2
    assert str(trained.folder) not in path.read_bytes().decode("latin-1")


def test_the_preview_shows_photos_over_results(trained: Trained) -> None:
    with Image.open(trained.folder / "instance.preview.png") as strip:
        assert strip.size[0] > 2 * 256
        assert strip.size[1] > 2 * 256


def test_it_says_that_it_begins_in_the_painting_s_colours(
    run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
) -> None:
    painting = tmp_path / "night.png"
    Image.effect_noise((60, 50), 20).point(lambda level: level // 8).save(painting)
    done = run(
        "train", "--style", painting, "--steps", 1, "--size", 32, "--style-size", 48,
        "--perceptual", small_perceptual, "--set", f"start={trained.instance}", "--set",
        "width=0.25", "--device", "cpu", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = "from instance in the painting's colours"
    assert words in done.stderr
    assert words in run("styles", tmp_path / "night.safetensors").stdout


def test_without_photos_and_with_logs(run: Run, tmp_path: Path, small_perceptual: Path) -> None:
    pytest.importorskip("tensorboard")
    painting = save_picture(tmp_path / "painting.png", 60, 50)
    done = run(
        "train", "--style", painting, "--steps", 2, "--size", 32, "--style-size", 48,
        "--perceptual", small_perceptual, "--set", "width=0.125", "--device", "cpu",
        "--log-dir", tmp_path / "logs", "--set", "style_grit=0.001", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in (
        "256 generated pictures", "begins from random weights", "about 1 min",
        "more than 0.001, and is smoothed along its strokes",
    ):  # fmt: skip
        assert words in done.stderr
    assert read_card(tmp_path / "painting.safetensors").photos == 0
    (log,) = (tmp_path / "logs").iterdir()
    assert log.stat().st_size > 100


def test_ctrl_c_ends_with_a_usable_model(
    trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "stopped.safetensors"
    words = [
        "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
        "--steps", 100000, "--size", 32, "--style-size", 32, "--set", "width=0.125",
        "--perceptual", small_perceptual, "--output", path, "--preview-every", 1,
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "stylize", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "stopped.preview.png").exists():  # the first step is done
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == f"{path}\n"
    assert "of 100000 steps; saved" in err
    assert "Traceback" not in err
    card = read_card(path)
    assert 1 <= card.steps < 100000
    assert card.held_out_after is None
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    assert run("apply", photo, "--style", path).returncode == 0


def test_unreadable_photos_are_named_at_the_end(
    trained: Trained, small_perceptual: Path, tmp_path: Path, run: Run
) -> None:
    for number in range(3):
        save_picture(tmp_path / "photos" / f"{number}.png", 40, 40, number)
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    done = run(
        "train", "--style", trained.folder / "painting.png", "--content", tmp_path / "photos",
        "--steps", 50, "--size", 32, "--style-size", 32, "--set", "width=0.125", "--quiet",
        "--perceptual", small_perceptual, "--preview-every", 0, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "painting.safetensors\n"
    # 0.png, the first by name, is held out; 100 samples show every photo and generated picture.
    lines = done.stderr.splitlines()
    assert lines[0] == "1 of 3 photos were left out:"
    assert lines[1].startswith(f"  {tmp_path / 'photos' / 'bad.jpg'} is no readable picture")
    assert len(lines) == 2


def test_bad_input_is_one_line(
    trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
) -> None:
    painting = trained.folder / "painting.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("text")
    good = {"--style": painting, "--content": photo_folder, "--perceptual": small_perceptual}
    cases: list[tuple[dict[str, object], int, str]] = [
        ({"--style": tmp_path / "none.jpg"}, 2, "no such file"),
        ({"--style": "https://example.org/a.jpg"}, 2, "is a URL; save it first"),
        ({"--style": tmp_path / "empty"}, 2, "is a folder"),
        ({"--style": tmp_path / "text.jpg"}, 1, "no readable picture"),
        ({"--content": tmp_path / "empty"}, 2, "no pictures in"),
        ({"--content": tmp_path / "none"}, 2, "no such folder"),
        ({"--perceptual": "vgg17"}, 2, "vgg16, vgg19"),
        ({"--perceptual": tmp_path / "text.jpg"}, 1, "no readable safetensors"),
        ({"--config": "batchnorm"}, 2, "there are batch_norm"),
        ({"--set": "norm=layer"}, 2, "one of instance, batch, none"),
        ({"--set": "setps=3"}, 2, "did you mean steps?"),
        ({"--set": "style_layers=relu9_1"}, 2, "no layer 'relu9_1'"),
        ({"--steps": 0}, 2, "at least 1"),
        ({"--device": "gpu"}, 2, "give auto, cpu"),
        ({"--output": tmp_path / "model.pth"}, 2, "must end in .safetensors"),
        ({"--output": trained.instance}, 1, "exists; give --overwrite"),
    ]
    for change, code, message in cases:
        words = [word for pair in (good | change).items() for word in pair]
        assert_one_line(run("train", *words, cwd=tmp_path), code, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text.jpg"]


@pytest.fixture
def learn(small_perceptual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learn:
    """`stylize train` in this process: 12 steps, three photos, a painting; all of `tmp_path`."""
    painting = save_picture(tmp_path / "painting.png", 60, 50, seed=99)
    for number in range(3):
        save_picture(tmp_path / "photos" / f"{number}.png", 40, 40, number)
    monkeypatch.setattr(console, "show_library_messages", lambda quiet: None)
    config = TrainConfig(
        steps=12, size=32, style_size=32, width=0.125, perceptual=str(small_perceptual),
        device="cpu", start="none", checkpoint_every=10, preview_every=0,
    )  # fmt: skip

    def learn(path: Path, resume: bool = False) -> None:
        content = tmp_path / "photos"
        console.run_training(config, painting, content, path, None, resume, False, quiet=True)

    return learn


def test_files_that_are_gone_by_the_end_do_not_cost_the_training(
    learn: Learn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a drive that is taken out: the painting, and every photo."""
    sha256 = file_sha256(tmp_path / "painting.png")
    evaluate = Trainer.evaluate

    def then_they_are_gone(trainer: Trainer, *rest: Any) -> HeldOutLoss:
        found = evaluate(trainer, *rest)
        (tmp_path / "painting.png").unlink()
        shutil.rmtree(tmp_path / "photos")
        return found

    monkeypatch.setattr(Trainer, "evaluate", then_they_are_gone)
    path = tmp_path / "model.safetensors"
    learn(path)
    out, err = capsys.readouterr()
    assert out == f"{path}\n"
    assert "no held-out loss: none of the 1 held-out photos could be read" in err
    card = read_card(path)
    assert (card.steps, card.style_sha256) == (12, sha256)
    assert card.held_out_before is not None
    assert card.held_out_after is None
    assert not has_checkpoint(path)


def test_a_run_that_ended_after_its_last_step_needs_no_step_again(
    learn: Learn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring and writing are left, which may fail, or be killed."""
    whole, path = tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors"
    whole.parent.mkdir()
    path.parent.mkdir()
    learn(whole)

    def fail(*whatever: Any) -> None:
        raise StylizeError("cannot write")

    with monkeypatch.context() as failing:
        failing.setattr(console, "save_model", fail)
        with pytest.raises(StylizeError, match="cannot write"):
            learn(path)
    assert not path.exists()

    def step(*whatever: Any) -> None:
        raise AssertionError("all steps were taken")

    monkeypatch.setattr(TrainingStep, "__call__", step)
    learn(path, resume=True)
    assert path.read_bytes() == whole.read_bytes()
    assert not has_checkpoint(path)


def test_a_last_checkpoint_that_cannot_be_written_does_not_cost_the_training(
    learn: Learn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a disk that has room for the model, but not for a checkpoint."""

    def save(path: Path, checkpoint: Checkpoint, run: dict[str, Any]) -> None:
        if checkpoint.state["step"] == 12:
            raise StylizeError("cannot write")

    monkeypatch.setattr(console, "save_checkpoint", save)
    learn(tmp_path / "model.safetensors")
    assert "no checkpoint: cannot write" in capsys.readouterr().err
    assert read_card(tmp_path / "model.safetensors").steps == 12


def test_a_preview_that_cannot_be_written_does_not_cost_the_training(
    trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "painting.preview.png").mkdir()
    done = run(
        "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
        "--steps", 2, "--size", 32, "--style-size", 32, "--set", "width=0.125", "--quiet",
        "--perceptual", small_perceptual, "--preview-every", 1, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no preview: ") == 2
    assert (tmp_path / "painting.safetensors").exists()


@pytest.mark.parametrize(
    ("colour", "named"),
    # Colours that bf16, which is taken where the CPU is faster in it, rounds no further.
    [([-2.0, -1.0, 0.0], "black"), ([0.25, 0.5, 0.875], "one colour (64, 128, 223)")],
)
def test_a_network_that_paints_one_colour_is_named(
    trained: Trained,
    photo_folder: Path,
    small_perceptual: Path,
    tmp_path: Path,
    run: Run,
    colour: list[float],
    named: str,
) -> None:
    tensors = load_file(trained.instance)
    tensors["out.conv.weight"] = torch.zeros_like(tensors["out.conv.weight"])
    tensors["out.conv.bias"] = torch.tensor(colour)
    write_model(tmp_path / "flat.safetensors", read_card(trained.instance), tensors)
    for start, said in ((tmp_path / "flat.safetensors", True), (trained.instance, False)):
        done = run(
            "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
            "--steps", 1, "--size", 32, "--style-size", 32, "--set", "width=0.25", "--quiet",
            "--perceptual", small_perceptual, "--set", f"start={start}", "--overwrite",
            "--set", "learning_rate=1e-9", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("every picture comes out" in done.stderr) == said
        assert (f"comes out {named}; more steps" in done.stderr) == said


def test_two_paintings_are_refused(run: Run, photo_folder: Path) -> None:
    done = run("train", "-s", "a.jpg", "-s", "b.jpg", "--content", photo_folder)
    assert_one_line(done, 2, "one model learns one painting")
