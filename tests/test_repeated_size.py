"""When a function is recorded, and that everybody gets a result of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from stylize.repeated_size import RepeatedSize, Run
from tests.tape import Recorder

AFTER = 4


def negative(photo: Tensor) -> Tensor:
    return 1 - photo


def test_a_size_that_comes_again_and_again_is_recorded_once() -> None:
    recorder = Recorder()
    network = RepeatedSize(negative, AFTER, record=recorder)
    for number in range(1, 2 * AFTER):
        photo = torch.rand(1, 3, 4, 5)
        assert torch.equal(network(photo), 1 - photo)
        assert recorder.replays == max(0, number - AFTER - 1)
    assert recorder.recorded == [(1, 3, 4, 5)]
    before = recorder.replays
    network(torch.rand(1, 3, 5, 4))  # the row is broken, and the memory is given back
    network(torch.rand(1, 3, 4, 5))
    assert recorder.replays == before
    network.release()
    for _ in range(AFTER + 1):
        network(torch.rand(1, 3, 4, 5))
    assert recorder.recorded == [(1, 3, 4, 5)] * 2


def test_sizes_that_change_and_large_ones_are_not_recorded() -> None:
    recorder = Recorder()
    network = RepeatedSize(negative, AFTER, most_pixels=39, record=recorder)
    for number in range(4 * AFTER):
        network(torch.rand(1, 3, 4, 5 + number % 2))
    for _ in range(2 * AFTER):
        network(torch.rand(2, 3, 4, 5))
    assert recorder.recorded == []


def test_what_cannot_be_recorded_is_computed() -> None:
    recorder = Recorder(fails=True)
    network = RepeatedSize(negative, AFTER, record=recorder)
    for _ in range(3 * AFTER):
        photo = torch.rand(1, 3, 4, 5)
        assert torch.equal(network(photo), 1 - photo)
    assert len(recorder.recorded) == 1  # and not tried again


def test_where_memory_does_not_suffice_it_is_not_tried_again() -> None:
    tried = []

    def record(run: Run, *inputs: Tensor) -> tuple[Tensor, Run | None]:
        tried.append(inputs)
        raise torch.OutOfMemoryError("out of memory")

    network = RepeatedSize(negative, 0, record=record)
    with pytest.raises(torch.OutOfMemoryError):
        network(torch.rand(1, 3, 4, 5))
    assert network(torch.ones(1, 3, 4, 5)).sum() == 0
    assert len(tried) == 1


def test_what_it_changes_changes_once_a_call() -> None:
    total = torch.zeros(1, 1)

    def add(step: Tensor, other: Tensor) -> Tensor:
        total.add_(step * other)
        return total * 1

    adding = RepeatedSize(add, 0, record=Recorder())
    found = [adding(torch.full((1, 1), float(n)), torch.full((1, 1), 2.0)).item() for n in range(5)]
    assert found == [0, 2, 6, 12, 20]


def test_threads_get_pictures_of_their_own() -> None:
    network = RepeatedSize(negative, AFTER, record=Recorder())
    photos = [torch.rand(1, 3, 40, 50) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for photo, restyled in zip(photos, pool.map(network, photos), strict=True):
            assert torch.equal(restyled, 1 - photo)
