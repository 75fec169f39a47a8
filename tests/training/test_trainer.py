"""The trainer: the same run for the same seed, a real decrease, an honest start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stylize.config import TrainConfig
from stylize.errors import StylizeError, UsageError
from stylize.model_file import read_model
from stylize.networks.transformer import TransformerNet
from stylize.palette import colour_map, recolour
from stylize.training import forecast
from stylize.training.data import ENOUGH_PHOTOS, GENERATED
from stylize.training.forecast import seconds_left
from stylize.training.result import save_model
from stylize.training.schedule import learning_rate_factor
from stylize.training.start import TRIALS, load_start
from stylize.training.trainer import Trainer
from stylize.zoo import list_styles
from tests.conftest import Trained, save_picture


@pytest.fixture
def config(small_perceptual: Path) -> TrainConfig:
    return TrainConfig(
        steps=3, size=32, style_size=48, width=0.125, perceptual=str(small_perceptual),
        device="cpu", warmup_steps=2,
    )  # fmt: skip


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    return save_picture(tmp_path / "painting.png", 60, 50, seed=99)


def train(config: TrainConfig, painting: Path, photos: Path) -> tuple[Trainer, list[float]]:
    trainer = Trainer(config, painting, photos, "test")
    return trainer, [report.total for report in trainer.steps()]


def test_equal_seeds_give_equal_files(
    config: TrainConfig, painting: Path, photo_folder: Path, tmp_path: Path
) -> None:
    files = []
    for number in range(2):
        torch.manual_seed(number)  # the caller's random state is no part of it
        before = torch.get_rng_state()
        trainer, _ = train(config, painting, photo_folder)
        assert torch.equal(torch.get_rng_state(), before)  # nor is it touched
        path = tmp_path / f"{number}.safetensors"
        save_model(trainer, path)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    other, _ = train(config.changed({"seed": 1}), painting, photo_folder)
    save_model(other, tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() != files[0]


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_falls(
    config: TrainConfig, painting: Path, photo_folder: Path, norm: str, precision: str
) -> None:
    longer = config.changed(
        {"steps": 40, "norm": norm, "precision": precision, "learning_rate": 3e-3}
    )
    _, losses = train(longer, painting, photo_folder)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_run_may_begin_from_a_trained_style(
    config: TrainConfig, painting: Path, photo_folder: Path, trained: Trained, tmp_path: Path
) -> None:
    start = config.changed({"start": str(trained.instance), "width": 0.25})
    trainer = Trainer(start, painting, photo_folder, "test")
    tensors = read_model(trained.instance).tensors()
    network = TransformerNet(width=0.25)
    network.load_tensors(tensors)
    with torch.no_grad():
        fitted = network.eval()(trainer.sampler.batch(0)).clamp(0, 1)
    assert trainer.start is not None
    assert trainer.start["recoloured"]
    network.recolour(*colour_map(fitted, trainer.loss.palette))
    wanted = network.tensors()
    assert all(torch.equal(wanted[name], t) for name, t in trainer.network.tensors().items())
    assert {name for name, t in wanted.items() if not torch.equal(tensors[name], t)} == {
        "out.conv.weight", "out.conv.bias",
    }  # fmt: skip
    card = save_model(trainer, tmp_path / "model.safetensors")
    assert card.start is not None
    assert (card.start["name"], card.start["steps"]) == ("instance", 3)
    for change in ({"norm": "batch"}, {"width": 0.5}):
        with pytest.raises(UsageError, match=r"has instance norm and width 0\.25; this run has"):
            Trainer(start.changed(change), painting, photo_folder, "test")


def test_a_start_stays_as_it_is_where_other_colours_are_no_gain(
    config: TrainConfig, painting: Path, photo_folder: Path, trained: Trained
) -> None:
    random = config.changed({"start": "none", "width": 0.25})
    trainer = Trainer(random, painting, photo_folder, "test")
    trainer.loss.palette.mean.fill_(9.0)  # far from the painting's, whose features stay
    photos = [trainer.sampler.batch(step) for step in range(TRIALS)]
    start = load_start(trainer.network, str(trained.instance), trainer.loss, photos)
    assert not start.recoloured
    tensors = read_model(trained.instance).tensors()
    assert all(torch.equal(tensors[name], t) for name, t in trainer.network.tensors().items())


def test_a_ground_is_trained_on_wherever_a_crop_may_lie_and_kept_with_the_model(
    config: TrainConfig,
    painting: Path,
    photo_folder: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"start": str(trained.instance), "width": 0.25, "ground": 0.2, "steps": 3}
    trainer = Trainer(config.changed(settings), painting, photo_folder, "test")
    places: list[tuple[int, int]] = []
    assert trainer.network.ground is not None
    ground = trainer.network.ground.forward

    def watched(picture: torch.Tensor, place: torch.Tensor, stretch: float) -> torch.Tensor:
        places.append((int(place[0]), int(place[1])))
        return ground(picture, place, stretch)

    monkeypatch.setattr(trainer.network.ground, "forward", watched)
    assert len(list(trainer.steps())) == 3
    assert places == [trainer.sampler.ground_place(step) for step in range(3)]
    save_model(trainer, tmp_path / "model.safetensors")
    model = read_model(tmp_path / "model.safetensors")
    assert model.card.ground == model.card.plan.ground == 0.2
    assert not any("ground" in name for name in model.arrays)
    # Who begins from it, or resumes, paints on the same ground without asking for it.
    settings |= {"start": str(tmp_path / "model.safetensors"), "ground": 0.0}
    later = Trainer(config.changed(settings), painting, photo_folder, "test")
    assert later.network.plan.ground == 0.2
    later.network.lay_ground(0.0)
    later._restore(trainer.checkpoint())
    assert later.network.plan.ground == 0.2


def test_without_a_start_it_begins_from_the_nearest_shipped_style(
    config: TrainConfig, painting: Path, photo_folder: Path
) -> None:
    trainer = Trainer(config.changed({"width": 1.0}), painting, photo_folder, "test")
    assert trainer.start is not None
    fitted, judged = trainer.sampler.batch(0), trainer.sampler.batch(1)

    losses = {}
    for style in list_styles():
        if (style.card().norm, style.card().width) == ("instance", 1.0):
            network = TransformerNet(ground=style.card().ground)
            network.load_tensors(read_model(style.path).tensors())
            with torch.no_grad():
                turn, shift = colour_map(network.eval()(fitted).clamp(0, 1), trainer.loss.palette)
                for recoloured in (False, True):
                    restyled = network(judged)
                    if recoloured:
                        restyled = recolour(restyled, turn, shift)
                    total = float(trainer.loss(restyled, judged).total)
                    losses[style.name, recoloured] = total
    name, recoloured = min(losses, key=lambda way: losses[way])
    assert trainer.start["name"] == name
    assert recoloured  # a painting of noise is grey in the mean, which no style that ships is
    assert trainer.start["recoloured"]
    with torch.no_grad():
        restyled = trainer.network.eval()(judged)
    # The same products in another order: sums of 2,592 are some 3e-6 off, and clamped and squared.
    assert float(trainer.loss(restyled, judged).total) == pytest.approx(
        losses[name, recoloured], rel=1e-4
    )
    half = Trainer(config.changed({"width": 0.5}), painting, photo_folder, "test")
    assert half.start is not None
    assert half.start["name"].endswith("_fast")
    for change in ({"width": 0.25}, {"start": "none", "width": 1.0}, {"norm": "none"}):
        assert Trainer(config.changed(change), painting, photo_folder, "test").start is None


def test_without_photos_generated_pictures_serve(
    config: TrainConfig, painting: Path, photo_folder: Path, tmp_path: Path
) -> None:
    trainer = Trainer(config.changed({"preview_every": 1}), painting, None, "test")
    assert (len(trainer.photos), len(trainer.sources)) == (0, GENERATED)
    assert not set(trainer.held_out) & set(trainer.sources)
    trainer.before = trainer.evaluate()
    assert len(list(trainer.steps())) == config.steps
    card = save_model(trainer, tmp_path / "model.safetensors", trainer.evaluate())
    assert (card.photos, card.generated) == (0, GENERATED)
    few = Trainer(config, painting, photo_folder, "test")
    assert len(few.photos) == 10  # of twelve; two are held out
    assert len(few.sources) == ENOUGH_PHOTOS


def test_the_time_left_counts_both_sizes(
    config: TrainConfig, painting: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = config.changed({"size": 64, "half_size_share": 0.5, "steps": 10})
    trainer = Trainer(half, painting, photo_folder, "test")
    assert seconds_left(trainer) > 0
    sides: list[int] = []

    def fixed(trainer: Trainer, step: int) -> float:
        sides.append(trainer.sampler.batch(step).shape[-1])
        return {32: 1.0, 64: 100.0}[sides[-1]]

    monkeypatch.setattr(forecast, "_seconds", fixed)
    assert seconds_left(trainer) == 505
    trainer.step = 7
    assert seconds_left(trainer) == 300
    assert sides == [32, 64, 64]


def test_a_stronger_style_pays_higher_prices(
    config: TrainConfig, painting: Path, photo_folder: Path
) -> None:
    prices = {
        "flat_weight": 2, "patch_weight": 5, "palette_weight": 6, "lattice_weight": 3,
        "edge_weight": 4,
    }  # fmt: skip
    settings = {"style_strength": 10} | prices
    loss = Trainer(config.changed(settings), painting, photo_folder, "test").loss
    assert loss.style_weight == 10
    found = [getattr(loss, name) for name in prices]
    assert found == pytest.approx([3 * weight for weight in prices.values()])
    assert (loss.content_weight, loss.gamut_weight) == (config.content_weight, config.gamut_weight)


def test_covariances_count_in_training_and_not_in_the_held_out_loss(
    config: TrainConfig, painting: Path, photo_folder: Path
) -> None:
    gram, both = (
        Trainer(config.changed({"covariance_weight": weight}), painting, photo_folder, "test")
        for weight in (0.0, 2.0)
    )
    photo = gram.sampler.batch(0)
    restyled = photo.flip(1)
    by_gram, by_both = (trainer.loss(restyled, photo) for trainer in (gram, both))
    assert by_both.style > by_gram.style
    assert by_both.content == by_gram.content
    assert gram.evaluate() == both.evaluate()


def test_a_focus_on_detail_counts_in_training_and_not_in_the_held_out_loss(
    config: TrainConfig, painting: Path, photo_folder: Path
) -> None:
    alike, focused = (
        Trainer(config.changed({"content_focus": focus}), painting, photo_folder, "test")
        for focus in (0.0, 0.9)
    )
    photo = alike.sampler.batch(0)
    found = [trainer.loss(photo.flip(1), photo) for trainer in (alike, focused)]
    assert found[0].content != found[1].content
    assert found[0].style == found[1].style
    assert alike.evaluate() == focused.evaluate()


@pytest.mark.parametrize("failing", ["stylize.training.step", "stylize.training.data"])
def test_want_of_memory_is_one_line_with_what_mends_it(
    config: TrainConfig, painting: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError if failing.endswith("step") else MemoryError

    trainer = Trainer(config, painting, photo_folder, "test")
    place = "TrainingStep.__call__" if failing.endswith("step") else "PhotoSampler.batch"
    monkeypatch.setattr(f"{failing}.{place}", fail)
    wanted = r"not enough memory for steps of 2 photos of 32 x 32 px on cpu; give a smaller --batch"
    for work in (trainer.steps(), trainer.rehearse(0, 1)):
        with pytest.raises(StylizeError, match=wanted):
            next(work)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_cannot_fit_is_refused_before_the_first_step(
    config: TrainConfig,
    painting: Path,
    photo_folder: Path,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 8 channels of the small loss network: 1930 / 8 + 460 + 61 * 8 = 1189 bytes a pixel.
    needed = 1189 * 2 * 32**2
    config = config.changed({"precision": precision})
    monkeypatch.setattr("stylize.training.memory.free_memory", lambda: needed * 4 // 5 + 4000)
    Trainer(config, painting, photo_folder, "test")
    monkeypatch.setattr("stylize.training.memory.free_memory", lambda: needed * 4 // 5 - 4000)
    with pytest.raises(StylizeError, match=r"take some 0.0 GiB.*smaller --batch-size or --size"):
        Trainer(config, painting, photo_folder, "test")


def test_want_of_memory_for_the_painting_names_its_size(
    config: TrainConfig, painting: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")

    monkeypatch.setattr("stylize.training.trainer.make_loss", fail)
    with pytest.raises(StylizeError, match=r"not enough memory for a painting.*--style-size"):
        Trainer(config, painting, photo_folder, "test")


def test_a_missing_painting_is_wrong_use(
    config: TrainConfig, tmp_path: Path, photo_folder: Path
) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Trainer(config, tmp_path / "none.png", photo_folder, "test")


def test_a_half_size_needs_crops_that_can_be_halved() -> None:
    with pytest.raises(UsageError, match="half_size_share needs a size of at least 64; it is 48"):
        TrainConfig(size=48, half_size_share=0.5)


def test_the_learning_rate_rises_then_falls() -> None:
    config = TrainConfig(steps=100, warmup_steps=10)
    factors = [learning_rate_factor(config, step) for step in range(100)]
    assert 0 < factors[0] < factors[9]
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] < 0.001
    flat = TrainConfig(steps=100, warmup_steps=0, decay="none")
    assert {learning_rate_factor(flat, step) for step in range(100)} == {1.0}
