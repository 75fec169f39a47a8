from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stylize.ablation.plan import Experiment, Run, experiment_config
from stylize.ablation.run import (
    IDENTITY,
    clear_folder,
    model_path,
    open_folder,
    perform,
    read_record,
)
from stylize.errors import StylizeError, UsageError
from stylize.model_file import file_sha256, read_card
from stylize.training.checkpoint import has_checkpoint
from tests.conftest import save_picture

SETTINGS: dict[str, Any] = {
    "width": 0.125, "size": 32, "style_size": 32, "held_out_photos": 2, "warmup_steps": 1,
    "checkpoint_every": 2, "preview_every": 0,
}  # fmt: skip
RUN = Run("batch", 0, 2)


@pytest.fixture
def experiment(small_perceptual: Path, photo_folder: Path, tmp_path: Path) -> Experiment:
    painting = save_picture(tmp_path / "painting.png", 40, 50, seed=99)
    flags = {"steps": 5, "perceptual": str(small_perceptual), "device": "cpu"}
    return Experiment(painting, photo_folder, experiment_config(flags, SETTINGS), seeds=1)


def changed(experiment: Experiment, **settings: Any) -> Experiment:
    return Experiment(
        experiment.painting, experiment.content, experiment.config.changed(settings), seeds=1
    )


def test_a_run_is_measured_on_the_way_and_at_the_end(
    experiment: Experiment, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    open_folder(experiment, folder)
    steps: list[int] = []
    record = perform(experiment, RUN, folder, steps.append)
    assert steps == [0, 1, 2, 3, 4, 5]
    assert sorted(record.curve) == experiment.evaluated
    assert record.done
    assert record.final == record.curve[5]
    assert record.image_statistics is not None
    assert record.image_statistics != record.final
    assert len(record.altered) == 9
    assert not has_checkpoint(model_path(folder, RUN))
    card = read_card(model_path(folder, RUN))
    assert (card.norm, card.steps, card.start) == ("batch", 5, None)
    assert card.held_out_after is not None
    assert record.final is not None
    assert card.held_out_after["total"] == record.final.total
    # Asked for again it is read, not trained.
    assert perform(experiment, RUN, folder, steps.append) == record
    assert len(steps) == 6


def test_a_stopped_run_goes_on_to_the_same_end(experiment: Experiment, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    open_folder(experiment, whole)
    expected = perform(experiment, RUN, whole)
    open_folder(experiment, parts)
    step = 0

    def note(now: int) -> None:
        nonlocal step
        step = now

    stopped = perform(experiment, RUN, parts, note, lambda: step == 3)
    assert not stopped.done
    assert stopped.final is None
    assert has_checkpoint(model_path(parts, RUN))
    steps: list[int] = []
    assert perform(experiment, RUN, parts, steps.append) == expected
    assert steps == [3, 4, 5]
    assert file_sha256(model_path(parts, RUN)) == file_sha256(model_path(whole, RUN))
    assert read_record(parts, RUN) == expected


def test_a_run_that_diverges_is_a_result(experiment: Experiment, tmp_path: Path) -> None:
    wild = changed(experiment, learning_rate=1e9, warmup_steps=0, gradient_clip=1e30)
    open_folder(wild, tmp_path / "wild")
    run = Run("none", 0, 2)
    record = perform(wild, run, tmp_path / "wild")
    assert record.done
    assert record.final is None
    assert record.retreats == 3
    assert "for the 4th time" in record.failure
    assert not model_path(tmp_path / "wild", run).exists()
    assert read_record(tmp_path / "wild", run) == record


def test_a_folder_holds_one_experiment(experiment: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    open_folder(experiment, folder)
    open_folder(experiment, folder)
    more_seeds = Experiment(experiment.painting, experiment.content, experiment.config, seeds=5)
    open_folder(more_seeds, folder)
    with pytest.raises(UsageError, match="its steps is 5, not 6; give another --output"):
        open_folder(changed(experiment, steps=6), folder)
    other = save_picture(tmp_path / "other.png")
    with pytest.raises(UsageError, match="its painting is"):
        open_folder(Experiment(other, experiment.content, experiment.config), folder)
    for text in ("{", "[]"):
        (folder / IDENTITY).write_text(text)
        with pytest.raises(StylizeError, match="cannot read"):
            open_folder(experiment, folder)


def test_only_the_runs_of_a_folder_are_cleared(experiment: Experiment, tmp_path: Path) -> None:
    open_folder(experiment, tmp_path)
    perform(experiment, RUN, tmp_path, is_stopped=lambda: True)
    assert has_checkpoint(model_path(tmp_path, RUN))
    clear_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [experiment.painting.name]


@pytest.mark.parametrize("text", ["[]", "{}", '{"curve": 3}', "no json"])
def test_a_damaged_record_is_named(text: str, experiment: Experiment, tmp_path: Path) -> None:
    open_folder(experiment, tmp_path)
    (tmp_path / f"{RUN.name}.json").write_text(text)
    with pytest.raises(StylizeError, match=RUN.name):
        read_record(tmp_path, RUN)


def test_the_identity_is_plain_json(experiment: Experiment) -> None:
    identity = experiment.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert not {"norm", "seed", "batch_size"} & set(identity)
