"""Presets and shipped configs: every value is one that training takes."""

from __future__ import annotations

import re

import pytest

from stylize.config import TrainConfig, load_config, resolve
from stylize.presets import PRESETS, preset_settings
from tests.conftest import Run


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_longer_presets_take_more_steps(device: str) -> None:
    configs = [TrainConfig().changed(preset_settings(preset, device)) for preset in PRESETS]
    steps = [config.steps for config in configs]
    assert steps == sorted(set(steps))
    assert all(config.warmup_steps * 4 <= config.steps for config in configs)
    assert all(config.covariance_weight > 0 and config.ground > 0 for config in configs)
    assert all(config.content_focus > 0 for config in configs)


@pytest.mark.parametrize("name", ["johnson2016", "ulyanov2016"])
def test_the_papers_recipes_are_complete(name: str) -> None:
    layers = [("preset", preset_settings("standard", "cpu")), ("config", load_config(name))]
    config, _ = resolve(layers)  # as the command lays them
    assert config.covariance_weight == config.ground == config.content_focus == 0
    assert config.loss_units == "paper"
    assert config.start == "none"
    assert config.perceptual == "vgg16"


def test_gram_matrices_undoes_what_presets_choose_of_the_losses() -> None:
    preset = preset_settings("standard", "cpu")
    config, _ = resolve([("preset", preset), ("config", load_config("gram_matrices"))])
    lengths = {"steps", "warmup_steps", "held_out_photos", "preview_every"}
    assert config == TrainConfig().changed({name: preset[name] for name in lengths})


def test_a_dry_run_says_where_each_value_comes_from(run: Run) -> None:
    done = run(
        "train", "--style", "any.jpg", "--dry-run", "--preset", "quick", "--config", "batch_norm",
        "--set", "tv_weight=0.5", "--steps", 7, "--from-scratch", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(lines) == set(TrainConfig().as_dict())
    for name, value, origin in [
        ("norm", '"batch"', "config batch_norm"),
        ("tv_weight", "0.5", "--set"),
        ("steps", "7", "--steps"),
        ("start", '"none"', "--from-scratch"),
        ("warmup_steps", "10", "preset quick on cpu"),
        ("ground", "0.25", "preset quick on cpu"),
        ("seed", "0", "default"),
    ]:
        assert value in lines[name]
        assert lines[name].endswith(origin)
    words = ("train", "--style", "any.jpg", "--dry-run", "--from-scratch")
    said = run(*words, "--set", "learning_rate=2e-3", "--set", "start=udnie").stdout
    assert re.search(r"^learning_rate +0\.002 +--set$", said, re.M)  # said by hand, it stays
    assert re.search(r'^start +"none" +--from-scratch$', said, re.M)
