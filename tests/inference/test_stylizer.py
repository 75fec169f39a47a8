"""The library: every kind of picture comes back as its own kind."""

from __future__ import annotations

import pickle
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import stylize
from stylize.devices import place
from stylize.errors import StylizeError, UsageError
from stylize.inference.stylizer import Stylizer
from stylize.inference.torch_engine import TorchEngine
from stylize.model_file import read_model
from stylize.networks.transformer import TransformerNet
from tests.conftest import Trained, make_picture


@pytest.fixture(scope="module")
def stylizer(trained: Trained) -> Stylizer:
    return stylize.load(trained.instance, device="cpu", precision="fp32")


def test_every_kind_comes_back_as_its_kind(stylizer: Stylizer) -> None:
    pixels = make_picture(21, 34)
    out = stylizer(pixels)
    assert out.shape == pixels.shape
    assert out.dtype == np.uint8

    image = stylizer(Image.fromarray(pixels))
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), out)

    for dtype in (np.float32, np.float64, np.float16):
        floats = stylizer((pixels / 255).astype(dtype))
        assert floats.shape == pixels.shape
        assert floats.dtype == dtype
        # The float result, rounded to levels, is the uint8 one; half precision moves the input by
        # 2^-12, which the network may enlarge.
        assert np.abs(floats * 255.0 - out).max() <= (8 if dtype == np.float16 else 0.51)

    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(255).repeat(2, 1, 1, 1)
    tensor = stylizer(batch)
    assert (tensor.shape, tensor.dtype) == (batch.shape, torch.float32)
    assert not tensor.is_inference()
    assert 0 <= tensor.min() <= tensor.max() <= 1
    torch.testing.assert_close(tensor[0], tensor[1])


NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_CUDA])]
)
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_kernels_rounded_once_give_the_bits_of_those_rounded_in_every_pass(
    trained: Trained, norm: str, device: str
) -> None:
    path = getattr(trained, norm)
    model = read_model(path)
    network = TransformerNet(model.card.norm, model.card.width)
    network.load_tensors(model.tensors())
    network = place(network.eval(), torch.device(device))
    batch = torch.from_numpy(make_picture(24, 36)).permute(2, 0, 1)[None].float().div(255)
    batch = batch.to(device)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        photo = batch.contiguous(memory_format=torch.channels_last)
        wanted = network(photo).float().clamp(0, 1)
    found = stylize.load(path, device, backend="torch", precision="bf16")(batch)
    assert torch.equal(found, wanted)


def test_transparency_is_kept(stylizer: Stylizer) -> None:
    image = Image.fromarray(make_picture(16, 16)).convert("RGBA")
    image.putalpha(77)
    assert stylizer(image).getchannel("A").getextrema() == (77, 77)


def test_one_stylizer_serves_several_threads(stylizer: Stylizer) -> None:
    pictures = [make_picture(20 + n, 30, seed=n) for n in range(8)]
    alone = [stylizer(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(stylizer, picture) for picture in pictures * 3]
        together = [future.result() for future in futures]
    for number, picture in enumerate(together):
        assert np.array_equal(picture, alone[number % 8])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4), np.uint8), "must be"),
        (np.zeros((4, 4, 4), np.uint8), "must be"),
        (np.zeros((4, 4, 3), np.int64), "uint16 or float"),
        (np.linspace(0, 255, 48).reshape(4, 4, 3), "in 0..1, not 0 to 255"),
        (np.linspace(-1, 1, 48).reshape(4, 4, 3), "in 0..1, not -1 to 1"),
        (np.full((4, 4, 3), np.nan, np.float32), "in 0..1, not nan"),
        (torch.zeros(3, 4, 4), "N, 3, H, W"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "must be float"),
        (torch.zeros(1, 3, 0, 4), "at least one pixel"),
        (torch.full((1, 3, 4, 4), 255.0), "in 0..1, not 255 to 255"),
        ("photo.jpg", "not str"),
    ],
)
def test_other_kinds_are_refused(stylizer: Stylizer, picture: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stylizer(picture)  # type: ignore[call-overload]
    message = "not Tensor" if isinstance(picture, torch.Tensor) else message
    with pytest.raises(UsageError, match=message):
        stylizer.restyle(picture, style_scale=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_one_colour_stays_one_in_half_precision_too(trained: Trained, norm: str) -> None:
    """It is that which the network makes of it in single precision."""
    exact = stylize.load(getattr(trained, norm), device="cpu", backend="torch", precision="fp32")
    half = stylize.load(getattr(trained, norm), device="cpu", backend="torch", precision="bf16")
    for level in (0, 77, (30, 60, 200)):
        pixels = np.full((21, 34, 3), level, np.uint8)
        computed = exact.engine.restyle(pixels, None, lambda done: None)
        colour = half(pixels)[0, 0]
        assert np.abs(colour.astype(int) - computed).max() <= 1
        for picture in (half(pixels), exact(pixels), half.restyle(pixels, style_scale=2.0)):
            assert (picture == picture[0, 0]).all()
        assert np.array_equal(exact(pixels)[0, 0], colour)
        floats = half((pixels / 255).astype(np.float32))
        assert np.abs(floats * 255.0 - colour).max() <= 0.51


def test_another_order_of_bytes_is_the_same_picture(stylizer: Stylizer) -> None:
    levels = make_picture(12, 16).astype(np.uint16) * 257
    expected = stylizer(levels)
    for order in "<>":
        restyled = stylizer(levels.astype(f"{order}u2"))
        assert restyled.dtype == f"{order}u2"
        assert np.array_equal(restyled, expected)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_pickled_it_is_loaded_anew(
    trained: Trained, backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    picture = make_picture(12, 16)
    monkeypatch.chdir(trained.instance.parent)
    loaded = stylize.load(trained.instance.name, "cpu", 10**9, backend, "fp32")
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(loaded))
    assert (again.sha256, again.memory) == (loaded.sha256, 10**9)
    assert (again.engine.name, again.engine.precision) == (backend, "fp32")
    assert np.array_equal(again(picture), loaded(picture))


def test_where_one_pass_finds_no_memory_bands_do(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU of which others took memory meanwhile."""
    loaded = stylize.load(trained.instance, device="cpu", backend="torch", precision="fp32")
    assert isinstance(loaded.engine, TorchEngine)
    picture = make_picture(30, 40)
    expected = loaded(picture)

    def fail(photo: Tensor, stretch: float = 1.0) -> Tensor:
        tried.append(photo.shape)
        raise torch.OutOfMemoryError("CUDA out of memory")

    tried: list[torch.Size] = []
    monkeypatch.setattr(loaded.engine, "_first_whole", True)
    monkeypatch.setattr(loaded.engine, "_compute", fail)
    assert np.array_equal(loaded(picture), expected)
    assert tried == [(1, 3, 30, 40)]
    with pytest.raises(StylizeError, match="memory for 2 x 9 x 8 pixels on cpu; give smaller bat"):
        loaded(torch.zeros(2, 3, 8, 9))


@pytest.mark.parametrize("scale", [0, -1, 65, float("nan")])
def test_strokes_beyond_all_sizes_are_refused(stylizer: Stylizer, scale: float) -> None:
    with pytest.raises(UsageError, match=r"it must be 0\.25 to 64"):
        stylizer.restyle(make_picture(8, 8), scale)


def test_floats_of_any_precision_keep_it(stylizer: Stylizer) -> None:
    picture = make_picture(12, 16) / np.float32(255)
    expected = stylizer.restyle(picture, style_scale=0.5)
    double = stylizer.restyle(picture.astype(np.float64), style_scale=0.5)
    assert double.dtype == np.float64
    assert np.array_equal(double, expected)


def test_floats_may_leave_their_range_as_resizing_has_them(stylizer: Stylizer) -> None:
    picture = make_picture(12, 16) / np.float32(255) * 1.2 - 0.1
    restyled = stylizer(picture)
    assert restyled.dtype == np.float32
    assert restyled.min() >= 0
    assert restyled.max() <= 1


def test_batch_norm_uses_its_running_statistics(trained: Trained) -> None:
    stylizer = stylize.load(trained.batch, device="cpu", precision="fp32")
    picture = torch.rand(1, 3, 24, 24)
    other = torch.rand(1, 3, 24, 24)
    together = stylizer(torch.cat([picture, other]))
    # The same numbers in another batch size may go through another convolution kernel.
    torch.testing.assert_close(together[:1], stylizer(picture), atol=1e-5, rtol=1e-4)


def test_unknown_devices_and_styles(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no style 'stary_night'"):
        stylize.load("stary_night")
    for name, command in (("my painting.jpg", "train --style"), ("mosaic.pth", "import")):
        path = tmp_path / name
        path.touch()
        advice = re.escape(f"stylize {command} {shlex.quote(str(path))}")
        with pytest.raises(UsageError, match=advice):
            stylize.load(path)
    for device in ("gpu", "cuda:99", "xpu"):
        with pytest.raises(UsageError, match="device"):
            stylize.load(device=device)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_tensors_keep_to_the_budget(trained: Trained, backend: str) -> None:
    batch = torch.rand(2, 3, 120, 90)
    expected = Stylizer(trained.instance, "cpu", None, backend, "fp32")(batch)
    budget = 2 << 20  # bands of a few rows; a whole pass takes 330 bytes a pixel and more
    found = Stylizer(trained.instance, "cpu", budget, backend, "fp32")(batch)
    assert found.shape == batch.shape
    # Bands differ from the whole by the order of float32 sums.
    assert (found - expected).abs().max() < 1 / 255
    with pytest.raises(UsageError, match="takes at least"):
        Stylizer(trained.instance, "cpu", memory=1000, backend=backend)(batch)
