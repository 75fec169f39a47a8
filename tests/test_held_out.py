"""The held-out split and the number that every table quotes."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import cast

import pytest
import torch

from stylize.errors import StylizeError
from stylize.held_out import held_out_loss, measure, split
from stylize.imaging.files import find_pictures, read_rgb
from stylize.imaging.geometry import crop_centre, resize_shorter_side, shrink_to
from stylize.imaging.tensors import to_tensor
from stylize.losses import style_targets
from stylize.networks.perceptual import load_perceptual
from tests.conftest import make_picture, save_picture


def test_every_tenth_photo_is_held_out_whatever_the_order() -> None:
    paths = [Path(f"{number:03}.jpg") for number in range(95)]
    training, held_out = split(paths[::-1])
    assert held_out == paths[::10]
    assert sorted(training + held_out) == paths
    assert split(paths[:1]) == (paths[:1], paths[:1])
    windows = cast("list[Path]", [PureWindowsPath(name) for name in ("a.jpg", "B.jpg")])
    assert split(windows)[1] == windows[1:]  # "B" before "a", as elsewhere


def test_the_number_is_the_formula(small_perceptual: Path, photo_folder: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    layers = ("relu1_2", "relu2_2", "relu3_4", "relu4_1")
    targets = style_targets(network, torch.rand(1, 3, 64, 64), layers)
    paths = find_pictures(photo_folder)[:2]

    def restyle(photo: torch.Tensor) -> torch.Tensor:
        return 1.5 - photo  # partly outside 0..1: what is measured is what a file would hold

    got = measure(restyle, held_out_loss(network, targets), paths)
    content, style = [], []
    for path in paths:
        photo = to_tensor([crop_centre(resize_shorter_side(read_rgb(path), 288), 256)])
        before = network(photo, (*layers, "relu3_1"))
        after = network((1.5 - photo).clamp(0, 1), (*layers, "relu3_1"))
        wanted = before["relu3_1"]
        content.append(((after["relu3_1"] - wanted) ** 2).mean() / (wanted**2).mean())
        total = torch.zeros(())
        for layer in layers:
            flat = after[layer][0].flatten(1)
            gram = flat @ flat.T / flat.shape[1]
            total += ((gram - targets[layer]) ** 2).mean() / (targets[layer] ** 2).mean()
        style.append(total)
    # Both sum the same float32 numbers in different orders.
    assert got.content == pytest.approx(float(sum(content) / 2), rel=1e-4)
    assert got.style == pytest.approx(float(sum(style) / 2), rel=1e-4)
    assert got.total == got.content + got.style
    assert got.photos == 2


def test_unreadable_photos_are_left_out(small_perceptual: Path, tmp_path: Path) -> None:
    network = load_perceptual(str(small_perceptual))
    loss = held_out_loss(network, style_targets(network, torch.rand(1, 3, 64, 64), ["relu1_2"]))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    good = save_picture(tmp_path / "good.png")
    calls: list[int] = []
    assert measure(lambda x: x, loss, [bad, good], lambda: calls.append(1)).photos == 1
    assert len(calls) == 2
    with pytest.raises(StylizeError, match="none of the 1 held-out photos"):
        measure(lambda x: x, loss, [bad])


def test_shrink_to_never_enlarges() -> None:
    picture = make_picture(40, 60)
    assert shrink_to(picture, 60) is picture
    assert shrink_to(picture, 30).shape == (20, 30, 3)
    assert shrink_to(make_picture(1, 90), 30).shape[0] == 1
