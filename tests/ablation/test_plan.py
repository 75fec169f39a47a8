from __future__ import annotations

from pathlib import Path

import pytest

from stylize.ablation.plan import (
    Experiment,
    Run,
    experiment_config,
    parse_norms,
    parse_sizes,
)
from stylize.errors import UsageError

PAINTING = Path("painting.png")


def test_runs_differ_in_norm_seed_and_batch_size_and_in_nothing_else() -> None:
    config = experiment_config({"steps": 7}, {"seed": 5, "batch_size": 2})
    experiment = Experiment(
        PAINTING, None, config, ("instance", "none"), seeds=2, batch_sizes=(4, 1, 2)
    )
    assert [str(run) for run in experiment.runs] == [
        "instance norm, seed 5, batch 2",
        "none norm, seed 5, batch 2",
        "instance norm, seed 6, batch 2",
        "none norm, seed 6, batch 2",
        "instance norm, seed 5, batch 1",
        "none norm, seed 5, batch 1",
        "instance norm, seed 5, batch 4",
        "none norm, seed 5, batch 4",
    ]
    first, *others = (experiment.settings(run).as_dict() for run in experiment.runs)
    for other in others:
        differ = {name for name in first if first[name] != other[name]}
        assert differ <= {"norm", "seed", "batch_size"}
    assert first["start"] == "none"
    assert len({run.name for run in experiment.runs}) == len(experiment.runs)


def test_without_batch_sizes_there_is_no_sweep() -> None:
    experiment = Experiment(PAINTING, None, experiment_config({}, {}), batch_sizes=(2,))
    assert experiment.sweep == []
    assert len(experiment.runs) == 9
    assert experiment.runs[0] == Run("instance", 0, 2)


@pytest.mark.parametrize(
    ("steps", "evaluated"),
    [(1, [0, 1]), (3, [0, 1, 2, 3]), (500, [0, 25, 50, 100, 200, 300, 400, 500])],
)
def test_the_first_and_the_last_step_are_evaluated(steps: int, evaluated: list[int]) -> None:
    experiment = Experiment(PAINTING, None, experiment_config({"steps": steps}, {}))
    assert experiment.evaluated == evaluated


def test_what_an_experiment_decides_itself_cannot_be_set() -> None:
    with pytest.raises(UsageError, match="--set norm: every run begins from random weights"):
        experiment_config({}, {"norm": "batch"})
    with pytest.raises(UsageError, match="no setting 'stepz'; did you mean steps"):
        experiment_config({}, {"stepz": 3})
    with pytest.raises(UsageError, match="norms are 'batch,batch'"):
        Experiment(PAINTING, None, experiment_config({}, {}), ("batch", "batch"))
    with pytest.raises(UsageError, match="norms are ''"):
        Experiment(PAINTING, None, experiment_config({}, {}), ())
    with pytest.raises(UsageError, match="seeds is 0"):
        Experiment(PAINTING, None, experiment_config({}, {}), seeds=0)
    with pytest.raises(UsageError, match=r"batch_size is 5000; it must be 1 to 4096"):
        Experiment(PAINTING, None, experiment_config({}, {}), batch_sizes=(1, 5000))
    with pytest.raises(UsageError, match=r"seed is 9223372036854775808; it must be"):
        Experiment(PAINTING, None, experiment_config({}, {"seed": 2**63 - 1}), seeds=2)


def test_lists_are_read() -> None:
    assert parse_norms(" none, instance ") == ("none", "instance")
    assert parse_sizes("1,2, 8") == (1, 2, 8)
    assert parse_sizes("") == ()
    with pytest.raises(UsageError, match="norm 'layer': give some of instance, batch, none"):
        parse_norms("instance,layer")
    with pytest.raises(UsageError, match="batch size '0'"):
        parse_sizes("1,0")
    with pytest.raises(UsageError, match="batch size '-2'"):
        parse_sizes("-2")
