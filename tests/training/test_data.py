"""Samples: the same for the same seed, every photo once an epoch, bad files left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stylize.errors import StylizeError
from stylize.imaging.files import find_pictures
from stylize.imaging.grit import grit, soften
from stylize.imaging.tensors import to_pixels
from stylize.networks.ground import GROUND_PERIOD
from stylize.training.data import PhotoSampler, load_painting, load_style
from tests.conftest import save_picture


def test_samples_depend_on_seed_step_and_position_alone(photo_folder: Path) -> None:
    paths = find_pictures(photo_folder)
    one, two = (PhotoSampler(paths, 32, 4, seed=7) for _ in range(2))
    later = [one.sample(step, position) for step in range(5) for position in range(4)]
    for number in reversed(range(20)):  # in another order, from another sampler
        assert np.array_equal(two.sample(*divmod(number, 4)), later[number])
    other = PhotoSampler(paths, 32, 4, seed=8)
    assert not np.array_equal(other.sample(0, 0), later[0])


def test_batches_decoded_ahead_are_the_batches(photo_folder: Path) -> None:
    sampler = PhotoSampler(find_pictures(photo_folder), 32, 2, seed=0)
    batches = list(sampler.batches(3, 9))
    assert len(batches) == 6
    for step, batch in enumerate(batches, start=3):
        assert torch.equal(batch, sampler.batch(step))
    assert batches[0].shape == (2, 3, 32, 32)
    assert batches[0].is_contiguous(memory_format=torch.channels_last)
    assert 0 <= batches[0].min() <= batches[0].max() <= 1


def test_an_epoch_shows_every_photo_once(tmp_path: Path) -> None:
    paths = []
    for number in range(6):  # each a colour of its own, so that a crop tells whose it is
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(path)
        paths.append(path)
    sampler = PhotoSampler(paths, 32, 2, seed=1)
    reds = [
        int(sampler.sample(step, position)[0, 0, 0]) for step in range(6) for position in (0, 1)
    ]
    assert Counter(reds[:6]) == Counter(reds[6:]) == {number * 40: 1 for number in range(6)}
    assert reds[:6] != reds[6:]  # shuffled anew


def test_unreadable_photos_are_replaced_and_named(tmp_path: Path) -> None:
    good = save_picture(tmp_path / "good.png")
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a picture")
    sampler = PhotoSampler([bad, good], 32, 2, seed=0)
    assert sampler.batch(0).shape == (2, 3, 32, 32)
    assert list(sampler.unreadable) == [bad]
    assert "no readable picture" in sampler.unreadable[bad]
    with pytest.raises(StylizeError, match="none of the 1 photos"):
        PhotoSampler([bad], 32, 2, seed=0).batch(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 7)])
def test_photos_of_any_size_give_crops(tmp_path: Path, size: tuple[int, int]) -> None:
    sampler = PhotoSampler([save_picture(tmp_path / "odd.png", *size)], 48, 2, seed=0)
    assert sampler.batch(0).shape == (2, 3, 48, 48)


def test_the_first_steps_may_have_half_the_size(photo_folder: Path) -> None:
    paths = find_pictures(photo_folder)
    sampler = PhotoSampler(paths, 64, 2, seed=0, half_size_steps=3)
    assert [batch.shape[-1] for batch in sampler.batches(1, 5)] == [32, 32, 64, 64]
    # The same photo, place and flip as at the whole size: only the resampling differs.
    whole = PhotoSampler(paths, 64, 2, seed=0).sample(2, 1).astype(float)
    averaged = whole.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    half = sampler.sample(2, 1)
    assert np.corrcoef(averaged.ravel(), half.ravel())[0, 1] > 0.9


def test_the_painting_keeps_its_proportions(tmp_path: Path) -> None:
    painting = load_style(save_picture(tmp_path / "painting.png", 100, 150), 64)
    assert painting.shape == (1, 3, 64, 96)


def test_a_gritty_scan_is_softened_before_it_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "painting.png"
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    plain, soft = load_painting(path, 64), to_pixels(load_style(path, 64, 0.04))[0]
    assert grit(plain) > 0.04
    assert np.array_equal(soft, soften(plain, 0.04))
    assert np.array_equal(to_pixels(load_style(path, 64))[0], plain)


def test_of_a_scroll_the_middle_is_taken(tmp_path: Path) -> None:
    for turned in (False, True):
        pixels = np.zeros((4, 100, 3), np.uint8)
        pixels[:, 40:60] = 255
        scroll = pixels.swapaxes(0, 1) if turned else pixels
        Image.fromarray(np.ascontiguousarray(scroll)).save(tmp_path / "scroll.png")
        painting = load_style(tmp_path / "scroll.png", 8)
        assert painting.shape[2:] == ((64, 8) if turned else (8, 64))
        along = painting.mean((0, 1, 3 if turned else 2))
        assert torch.allclose(along, along.flip(0), atol=1e-6)
        assert along[[0, 32]].tolist() == [0, 1]


def test_shifts_are_those_of_the_seed_and_step(photo_folder: Path) -> None:
    paths = find_pictures(photo_folder)
    one, two = (PhotoSampler(paths, 32, 2, seed=3) for _ in range(2))
    shifts = [one.shift(step) for step in range(300)]
    assert shifts[::-1] == [two.shift(step) for step in reversed(range(300))]
    assert {down for down, _ in shifts} == {right for _, right in shifts} == set(range(8))
    places = [one.ground_place(step) for step in range(300)]
    assert places == [two.ground_place(step) for step in range(300)]
    assert len(set(places)) == 300  # of 4e10
    assert all(0 <= row < GROUND_PERIOD > column >= 0 for row, column in places)
