"""VGG features by name, and what a file must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stylize.errors import StylizeError, UsageError
from stylize.imaging.geometry import shrink_to
from stylize.imaging.tensors import to_tensor
from stylize.networks.perceptual import (
    DEFAULT_CONTENT_LAYERS,
    DEFAULT_STYLE_LAYERS,
    SLIM,
    PerceptualNet,
    layer_names,
    load_perceptual,
)
from stylize.paths import shipped_loss_network

ROOT = Path(__file__).parents[2]


def test_layers_have_their_usual_names() -> None:
    assert layer_names("vgg16")[:5] == ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1")
    assert len(layer_names("vgg16")) == 13
    assert len(layer_names("vgg19")) == 16


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_features_are_those_of_a_plain_sequence(small_perceptual: Path, padding: str) -> None:
    """The same weights in the nn.Sequential that torchvision builds."""
    weights = load_file(small_perceptual)
    layers: list[nn.Module] = []
    wanted_at = {}
    names = iter(layer_names("vgg19"))
    index, channels = 0, 3
    while f"features.{index}.weight" in weights:
        weight = weights[f"features.{index}.weight"]
        conv = nn.Conv2d(channels, weight.shape[0], 3, padding=1, padding_mode=padding)  # type: ignore[arg-type]
        conv.weight.data, conv.bias.data = weight, weights[f"features.{index}.bias"]  # type: ignore[union-attr]
        layers += [conv, nn.ReLU()]
        wanted_at[next(names)] = len(layers)
        channels, index = weight.shape[0], index + 2
        if f"features.{index}.weight" not in weights:
            layers.append(nn.MaxPool2d(2))
            index += 1
    picture = torch.rand(2, 3, 32, 48)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    network = PerceptualNet(weights, "vgg19", padding)  # type: ignore[arg-type]
    features = network(picture, ["relu1_2", "relu3_1", "relu4_1"])
    assert list(features) == ["relu1_2", "relu3_1", "relu4_1"]
    for name, got in features.items():
        expected = nn.Sequential(*layers[: wanted_at[name]])((picture - mean) / std)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 1), (17, 33)])
def test_any_size_has_features(small_perceptual: Path, size: tuple[int, int]) -> None:
    network = load_perceptual(str(small_perceptual))
    features = network(torch.rand(1, 3, *size), ["relu4_1"])["relu4_1"]
    assert features.shape[1] == 64
    assert features.numel()


def test_an_unknown_layer_is_named(small_perceptual: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    with pytest.raises(UsageError, match="no layer 'relu9_9'; it has relu1_1 to relu4_1"):
        network(torch.rand(1, 3, 8, 8), ["relu9_9"])


def test_a_distilled_network_measures_for_its_teacher_too(
    small_perceptual: Path, tmp_path: Path
) -> None:
    teacher = load_perceptual(str(small_perceptual))
    path = tmp_path / "student.safetensors"
    metadata = {"architecture": "vgg19", "stands_for": teacher.sha256}
    save_file(load_file(small_perceptual), path, metadata)
    student = load_perceptual(str(path))
    assert student.sha256 != teacher.sha256
    assert all(map(student.measures, (student.sha256, teacher.sha256)))
    assert teacher.measures(teacher.sha256)
    assert not any(map(teacher.measures, (student.sha256, "", None)))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file, and not one of vgg19-slim, vgg16, vgg19"):
        load_perceptual("vgg17")
    path = tmp_path / "text.safetensors"
    path.write_text("not a model")
    with pytest.raises(StylizeError, match="no readable safetensors"):
        load_perceptual(str(path))
    save_file(
        {"features.0.weight": torch.zeros(4, 5, 3, 3), "features.0.bias": torch.zeros(4)}, path
    )
    with pytest.raises(StylizeError, match=r"wants \(C, 3, 3, 3\)"):
        load_perceptual(str(path))
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(StylizeError, match=r"holds no features\.0"):
        load_perceptual(str(path))
    save_file({"features.0.weight": torch.zeros(2000, 3, 3, 3)}, path)
    with pytest.raises(StylizeError, match="wider than any VGG"):
        load_perceptual(str(path))


def test_a_failed_download_says_what_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(StylizeError, match=r"no route to host.*--perceptual FILE"):
        load_perceptual("vgg16")


def test_torchvisions_weights_are_read_from_its_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_perceptual: Path
) -> None:
    """A narrow VGG stands in for the 550 MB file; only the hash check is left out."""
    from torchvision.models import VGG19_Weights

    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    weights = load_file(small_perceptual)
    torch.save(weights, cache / VGG19_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = load_perceptual("vgg19")
    assert network.name == "vgg19"
    assert network.layers[-1] == "relu4_1"
    assert torch.equal(network.get_buffer("relu1_1_weight"), weights["features.0.weight"])


def test_the_loss_network_that_ships_is_small_and_complete() -> None:
    network = load_perceptual(SLIM)
    assert shipped_loss_network(SLIM).stat().st_size <= 4_000_000
    assert network.layers[-1] == "relu4_1"
    network.check_layers(DEFAULT_STYLE_LAYERS["vgg19"] + DEFAULT_CONTENT_LAYERS["vgg19"])
    with torch.inference_mode():
        features = network(torch.rand(1, 3, 64, 64), network.layers)
    # A channel that never fires tells nothing apart; the teacher's own number some.
    for layer, found in features.items():
        assert torch.isfinite(found).all(), layer
        assert (found.amax((0, 2, 3)) > 0).float().mean() > 0.3, layer


def test_it_answers_as_its_teacher_does() -> None:
    teacher_file = ROOT.parent / "shared" / "perceptual" / "vgg19-distilled-16x.safetensors"
    if not teacher_file.exists():
        pytest.skip(f"needs {teacher_file.name}, which is not part of this project")
    data = pytest.importorskip("skimage.data")
    teacher, student = load_perceptual(str(teacher_file)), load_perceptual(SLIM)
    photo = to_tensor([shrink_to(data.coffee(), 256)])
    with torch.inference_mode():
        wanted, found = (one(photo, student.layers) for one in (teacher, student))
    assert student.measures(teacher.sha256)
    for layer in student.layers:
        missed = (found[layer] - wanted[layer]).square().mean() / wanted[layer].square().mean()
        # 0.001 on the photos it was distilled on, changed; only what stands for another may miss
        # a hundredth at most (scripts/distil_perceptual.py).
        assert missed < 0.01, layer
