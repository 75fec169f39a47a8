"""The torch engine on a GPU, against the CPU's float32: pytest -m gpu, on such a machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from stylize.inference import torch_engine
from stylize.inference.stylizer import Stylizer
from stylize.inference.torch_engine import REPEATS
from tests.conftest import make_picture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def levels() -> tuple[np.ndarray, np.ndarray]:
    """A photo, and what the shipped style makes of it on the CPU in float32."""
    photo = pytest.importorskip("skimage.data").coffee()
    return photo, Stylizer(device="cpu", backend="torch", precision="fp32").restyle(photo)


@pytest.mark.parametrize(
    ("precision", "decibels"), [("fp32", 60), ("tf32", 55), ("bf16", 50), ("fp16", 50)]
)
@pytest.mark.parametrize("memory", [None, 60 << 20])
def test_every_precision_whole_and_in_bands(
    levels: tuple[np.ndarray, np.ndarray],
    precision: str,
    decibels: float,
    memory: int | None,
) -> None:
    photo, expected = levels
    found = Stylizer(device="cuda", precision=precision, memory=memory).restyle(photo)
    error = np.abs(found.astype(int) - expected)
    assert 10 * np.log10(255**2 / np.square(error).mean()) >= decibels
    if precision == "fp32":
        assert error.max() <= 1


def test_a_stretched_ground_is_as_on_the_cpu() -> None:
    photo = make_picture(200, 300)
    found, expected = (
        Stylizer(device=device, backend="torch", precision="fp32")
        .engine.restyle(photo, None, lambda done: None, 2.3)
        .astype(int)
        for device in ("cuda", "cpu")
    )
    assert np.abs(found - expected).max() <= 1


def test_a_replayed_pass_gives_the_same_levels() -> None:
    stylizer = Stylizer(device="cuda")
    pictures = [make_picture(90, 120, seed=n) for n in range(2 * REPEATS)]
    replayed = [stylizer.restyle(picture) for picture in pictures]
    for picture, found in zip(pictures, replayed, strict=True):
        stylizer.restyle(make_picture(40, 40))  # another size between: nothing is replayed
        assert np.array_equal(stylizer.restyle(picture), found)


def test_threads_share_a_replayed_pass() -> None:
    stylizer = Stylizer(device="cuda")
    pictures = [make_picture(90, 120, seed=n) for n in range(3)]
    alone = [stylizer.restyle(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(stylizer.restyle, pictures * 20))
    for number, found in enumerate(together):
        assert np.array_equal(found, alone[number % 3])


def test_what_torch_keeps_of_earlier_pictures_counts_as_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_engine, "free_memory", lambda: 1 << 60)  # the host's, never fewer
    engine = Stylizer(device="cuda", precision="fp32").engine
    before = engine._free()  # type: ignore[attr-defined]
    engine.restyle(make_picture(1000, 1500), None, lambda done: None)
    # 1.2 GB for the pass in float32; what stays is cuDNN's and the kernels', far below.
    assert engine._free() > before - (400 << 20)  # type: ignore[attr-defined]
