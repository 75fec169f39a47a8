"""When a pass is captured, and that everybody gets a picture of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from stylize.inference import repeated_size
from stylize.inference.repeated_size import REPEATS, Capture, RepeatedSize, Run


class Recorder:
    """Stands in for CUDA graphs: a replay computes from the recorded memory into it."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.captured: list[torch.Size] = []
        self.replays = 0

    def __call__(self, run: Run, photo: Tensor) -> Capture:
        self.captured.append(photo.shape)
        if self.fails:
            raise RuntimeError("out of memory")
        still, restyled = photo.clone(), torch.empty_like(photo)

        def replay() -> None:
            self.replays += 1
            restyled.copy_(run(still))

        return Capture(replay, still, restyled)


def negative(photo: Tensor) -> Tensor:
    return 1 - photo


def test_a_size_that_comes_again_and_again_is_captured_once() -> None:
    recorder = Recorder()
    network = RepeatedSize(negative, recorder)
    for number in range(2 * REPEATS):
        photo = torch.rand(1, 3, 4, 5)
        assert torch.equal(network(photo), 1 - photo)
        assert recorder.replays == max(0, number + 1 - REPEATS)
    assert recorder.captured == [(1, 3, 4, 5)]
    network(torch.rand(1, 3, 5, 4))  # the row is broken, and the memory is given back
    network(torch.rand(1, 3, 4, 5))
    assert recorder.replays == REPEATS
    network.release()
    for _ in range(REPEATS + 1):
        network(torch.rand(1, 3, 4, 5))
    assert recorder.captured == [(1, 3, 4, 5)] * 2


def test_sizes_that_change_and_large_ones_are_not_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder()
    network = RepeatedSize(negative, recorder)
    for number in range(4 * REPEATS):
        network(torch.rand(1, 3, 4, 5 + number % 2))
    monkeypatch.setattr(repeated_size, "MOST_PIXELS", 39)
    for _ in range(2 * REPEATS):
        network(torch.rand(2, 3, 4, 5))
    assert recorder.captured == []


def test_what_cannot_be_captured_is_computed() -> None:
    recorder = Recorder(fails=True)
    network = RepeatedSize(negative, recorder)
    for _ in range(3 * REPEATS):
        photo = torch.rand(1, 3, 4, 5)
        assert torch.equal(network(photo), 1 - photo)
    assert len(recorder.captured) == 1  # and not tried again


def test_threads_get_pictures_of_their_own() -> None:
    network = RepeatedSize(negative, Recorder())
    photos = [torch.rand(1, 3, 40, 50) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for photo, restyled in zip(photos, pool.map(network, photos), strict=True):
            assert torch.equal(restyled, 1 - photo)
