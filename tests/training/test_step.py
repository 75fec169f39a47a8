"""A recorded step against one that is computed: the same bits, whatever changes in between."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylize.config import TrainConfig
from stylize.repeated_size import RepeatedSize, Run
from stylize.training import trainer as training
from stylize.training.distributed import World
from stylize.training.guard import AstrayError, Guard
from stylize.training.optimiser import make_optimisers
from stylize.training.step import TrainingStep, can_record
from stylize.training.trainer import Trainer
from tests.conftest import save_picture
from tests.tape import Recorder


@pytest.fixture
def config(small_perceptual: Path) -> TrainConfig:
    return TrainConfig(
        steps=8, size=64, half_size_share=0.5, style_size=48, width=0.125, ground=0.1,
        covariance_weight=0.3, content_focus=0.9, patch_weight=5.0, palette_weight=7.0,
        start="none", device="cpu", perceptual=str(small_perceptual),
        warmup_steps=2, checkpoint_every=2, learning_rate=1e-2,
    )  # fmt: skip


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "painting.png", 60, 50, seed=99)


def train(config: TrainConfig, painting: Path, photos: Path) -> tuple[list[Any], dict[str, Any]]:
    """The reports of a run, and everything that it ends with."""
    trainer = Trainer(config, painting, photos, "test")
    assert trainer.recorded
    reports = list(trainer.steps())
    checkpoint = trainer.checkpoint()
    return reports, checkpoint.tensors | {"tint": trainer.loss.tint, "state": checkpoint.state}


@pytest.mark.parametrize("goes_astray", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bf16", "norm": "batch"},
        {"optimiser": "adam", "norm": "none", "gamut_weight": 0.0},
    ],
)
def test_replayed_steps_give_the_bits_of_computed_ones(
    config: TrainConfig,
    painting: Path,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    goes_astray: bool,
) -> None:
    config = config.changed(settings)
    monkeypatch.setattr(training, "can_record", lambda *whatever: True)
    check = Guard.check_gradient

    norms: list[float] = []

    def fails_once(guard: Guard, norm: float) -> None:
        norms.append(norm)
        if goes_astray and len(norms) == 7:
            raise AstrayError("for once")
        check(guard, norm)

    monkeypatch.setattr(Guard, "check_gradient", fails_once)
    recorder = Recorder()

    class Replaying(RepeatedSize):
        def __init__(self, run: Run, after: float) -> None:
            super().__init__(run, after, record=recorder)

    monkeypatch.setattr(training, "RepeatedSize", Replaying)
    reports, replayed = train(config, painting, photo_folder)
    # The first is of copies, of which a step is computed and one replayed.
    assert [size[-1] for size in recorder.recorded] == [64, 32, 64] + goes_astray * [64]
    assert recorder.replays == 1 + len(reports) + goes_astray - len(recorder.recorded[1:])

    norms.clear()
    recorder.fails = True
    expected, computed = train(config, painting, photo_folder)
    assert reports == expected
    assert replayed.pop("state") == computed.pop("state")
    assert replayed.keys() == computed.keys()
    assert all(torch.equal(replayed[name], tensor) for name, tensor in computed.items())
    assert any(name.endswith(".step") for name in computed)  # Adam's count


@pytest.mark.parametrize("old", ["photos", "rate"])
def test_a_graph_that_replays_something_else_is_found_out(
    config: TrainConfig,
    painting: Path,
    photo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    old: str,
) -> None:
    expected = [report.total for report in Trainer(config, painting, photo_folder, "a").steps()]
    monkeypatch.setattr(training, "can_record", lambda *whatever: True)

    class Wrong(Recorder):
        def __call__(self, run: Run, *inputs: Tensor) -> tuple[Tensor, Run | None]:
            first, again = super().__call__(run, *inputs)
            assert again is not None
            assert isinstance(run, TrainingStep)
            stale = [one.clone() for one in inputs]
            rates = [group["lr"] for one in run.optimisers for group in one.param_groups]
            then = [rate.clone() for rate in rates]

            def replay(*new: Tensor) -> Tensor:
                if old == "photos":
                    return again(*stale)
                for rate, before in zip(rates, then, strict=True):
                    rate.copy_(before)
                return again(*new)

            return first, replay

    class Replaying(RepeatedSize):
        def __init__(self, run: Run, after: float) -> None:
            super().__init__(run, after, record=Wrong())

    monkeypatch.setattr(training, "RepeatedSize", Replaying)
    trainer = Trainer(config, painting, photo_folder, "a")
    assert trainer.recorded
    found = [report.total for report in trainer.steps()]
    assert not trainer.recorded
    assert "replayed steps are not what computed ones are" in caplog.text
    assert found == pytest.approx(expected, rel=1e-2)  # fused Adam rounds otherwise


def test_a_step_takes_nothing_from_the_host(
    config: TrainConfig, painting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The "meta" device computes nothing, but refuses the host's tensors, and to be read there."""
    monkeypatch.setattr(torch, "autocast", lambda *whatever, **more: nullcontext())  # knows it not
    trainer = Trainer(config.changed({"tv_weight": 0.1}), painting, None, "test")
    meta = torch.device("meta")
    network, loss = trainer.network.to(meta), trainer.loss.to(meta)
    optimisers = make_optimisers(network, "muon", 1e-3, torch.float32)
    step = TrainingStep(network, loss, optimisers, trainer.scaler, "fp32", 1.0, World())
    photo, places = torch.empty(2, 3, 64, 64, device=meta), torch.zeros(2, 2, device=meta).long()
    assert step(photo, places).device == meta
    with pytest.raises(RuntimeError, match="meta tensor"):
        step(photo, places.cpu())


def test_what_waits_for_the_gpu_is_not_recorded() -> None:
    cuda = torch.device("cuda")
    assert can_record(cuda, "bf16", World())
    assert can_record(cuda, "fp32", World())
    assert not can_record(cuda, "fp16", World())
    assert not can_record(cuda, "bf16", World(0, 2))
    assert not can_record(torch.device("cpu"), "bf16", World())
    with pytest.raises(RuntimeError, match="cannot be recorded"):  # nor would the tape
        Recorder()(lambda x: x * x.sum().item(), torch.ones(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimiser", ["muon", "adam"])
def test_a_gpu_replays_its_steps(
    config: TrainConfig, painting: Path, photo_folder: Path, optimiser: str
) -> None:
    config = config.changed({"device": "cuda", "precision": "fp32", "optimiser": optimiser})
    totals = []
    for cuda_graph in (True, False):
        trainer = Trainer(
            config.changed({"cuda_graph": cuda_graph}), painting, photo_folder, "test"
        )
        totals.append([report.total for report in trainer.steps()])
        assert trainer.recorded == cuda_graph
        if cuda_graph:
            assert trainer._take_step._again is not None
    # Adam fused rounds in another order; eight steps enlarge that.
    assert totals[0] == pytest.approx(totals[1], rel=1e-2)
