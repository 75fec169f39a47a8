from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stylize.ablation.probes import alter, alter_photos, alterations, with_image_statistics
from stylize.held_out import STYLE_SIZE, held_out_loss
from stylize.losses import style_targets
from stylize.networks.perceptual import DEFAULT_STYLE_LAYERS, load_perceptual
from stylize.networks.plan import Norm
from stylize.networks.transformer import TransformerNet
from stylize.training.data import load_style
from tests.conftest import save_picture


def make_network(norm: Norm) -> TransformerNet:
    torch.manual_seed(0)
    return TransformerNet(norm, width=0.125)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_instance_norm_divides_contrast_and_brightness_out(norm: Norm) -> None:
    network = make_network(norm).eval()
    photo = 0.4 + 0.2 * torch.rand(1, 3, 32, 40)  # nothing of it is clipped
    with torch.inference_mode():
        difference = network(alter(photo, 2.0, 0.05)) - network(photo)
    # Exactly, but for eps = 1e-5 beside a variance and float32: the photo's variance of
    # 0.2^2 / 12 times some 240 weights of variance 2 / 243 is about 0.007, of which eps is 1 in
    # 700, and the change of it half of that, in the first layer alone.
    largest = float(difference.abs().max())
    assert (largest < 5e-3) == (norm == "instance")


def test_pictures_by_their_own_statistics_are_those_of_training_mode() -> None:
    network = make_network("batch")
    with torch.inference_mode():
        for _ in range(3):
            network(torch.rand(2, 3, 24, 24))  # running statistics of something
    photo = torch.rand(1, 3, 20, 28)
    twin = with_image_statistics(network)
    with torch.inference_mode():
        expected = network.train()(photo)
        running = network.eval()(photo)
        found = twin(photo)
    # Another order of the same sums, in float32, of values around 1, through 16 layers.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - running).abs().max() > 1e-2


def test_altered_photos_begin_with_the_unaltered(small_perceptual: Path, tmp_path: Path) -> None:
    photos = [save_picture(tmp_path / f"{number}.png", seed=number) for number in range(3)]
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    perceptual = load_perceptual(str(small_perceptual))
    painting = load_style(save_picture(tmp_path / "painting.png", seed=9), STYLE_SIZE // 8)
    layers = DEFAULT_STYLE_LAYERS[perceptual.architecture]
    loss = held_out_loss(perceptual, style_targets(perceptual, painting, layers))
    count = 0

    def on_picture() -> None:
        nonlocal count
        count += 1

    found = alter_photos(make_network("none").eval(), loss, [broken, *photos], on_picture)
    assert [(one.contrast, one.brightness) for one in found] == alterations()
    assert len(set(alterations())) == len(alterations()) == 9
    assert found[0].change == 0
    assert all(one.change > 0 for one in found[1:])
    assert all(one.content > 0 and one.style > 0 for one in found)
    assert count == 9 * 3
