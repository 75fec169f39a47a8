"""OpenVINO against torch: the same pictures, whole and in bands, and a cache that does no harm."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import stylize
from stylize.errors import UsageError
from stylize.imaging.geometry import shrink_to
from stylize.inference import compile_cache
from stylize.inference.memory import whole_bytes
from stylize.inference.stylizer import Stylizer
from stylize.model_file import read_card, read_model, write_model
from stylize.networks.transformer import TransformerNet
from stylize.zoo import find_style, list_styles
from tests.conftest import Trained, make_picture

pytest.importorskip("openvino")

import openvino as ov

from stylize.inference import openvino_engine
from stylize.inference.openvino_engine import cpu_precisions
from stylize.inference.openvino_graph import enlarging_kernel, joined_kernel, network_graph

SHIPPED = [style.name for style in list_styles() if style.origin == "shipped"]


@pytest.fixture(scope="module", params=["instance", "batch", "grounded"])
def pair(request: pytest.FixtureRequest, trained: Trained) -> tuple[Stylizer, Stylizer]:
    model = getattr(trained, request.param)
    openvino, plain = (
        Stylizer(model, "cpu", backend=name, precision="fp32") for name in ("openvino", "torch")
    )
    return openvino, plain


@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_every_size_is_as_with_torch(
    pair: tuple[Stylizer, Stylizer], height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((height, width, 3), np.float32)
    found, expected = (one.restyle(pixels) for one in pair)
    # Sums in another order: some hundred roundings of 2^-24 on values of up to 10, enlarged by the
    # norms' 1 / deviation: 5e-6 at most of 7,130 small pictures. But in a strip of one pixel, which
    # is extended to equal rows, a plane in the middle has three or four numbers, and each instance
    # norm enlarges what rounding put between them, unless a ground tells the rows apart: of the
    # 1,390 strips that are drawn from here 6e-4 is the most, a seventh of a level of a file.
    card = pair[0].card
    strip = card.norm == "instance" and not card.ground and min(height, width) == 1
    np.testing.assert_allclose(found, expected, atol=2e-3 if strip else 2e-5, rtol=0)


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["instance", "grounded"])
def calm_pair(
    request: pytest.FixtureRequest, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Stylizer, Stylizer]:
    """The same network with numbers of about sqrt(eps) before its norms, which enlarge less."""
    card = replace(read_card(trained.instance), ground=request.param)
    tensors = load_file(trained.instance)
    for name, tensor in tensors.items():
        if name.endswith("conv.weight") and not name.startswith("out"):
            tensor *= 2.0**-7  # exact
    path = tmp_path_factory.mktemp("calm") / "calm.safetensors"
    write_model(path, card, tensors)
    openvino, plain = (
        Stylizer(path, "cpu", backend=name, precision="fp32") for name in ("openvino", "torch")
    )
    return openvino, plain


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_smallest_sizes_are_as_with_torch(
    calm_pair: tuple[Stylizer, Stylizer], height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((height, width, 3), np.float32)
    found, expected = (one.restyle(pixels) for one in calm_pair)
    assert np.ptp(expected) > 0.01 or height == width == 1  # the picture is not lost in eps
    # As above; of 5,680 small pictures 2.7e-6 is the most, strips of one pixel among them.
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


def test_levels_are_within_one(pair: tuple[Stylizer, Stylizer]) -> None:
    picture = make_picture(75, 101)
    for pixels, factor in ((picture, 1), (picture.astype(np.uint16) * 257, 257)):
        found, expected = (one.restyle(pixels).astype(int) for one in pair)
        assert np.abs(found - expected).max() <= factor


@pytest.mark.parametrize("stretch", [1.0, 2.3])
def test_the_style_that_ships_is_as_with_torch(stretch: float) -> None:
    pixels = make_picture(300, 400)
    found, expected = (
        Stylizer(device="cpu", backend=name, precision="fp32")
        .engine.restyle(pixels, None, lambda done: None, stretch)
        .astype(int)
        for name in ("openvino", "torch")
    )
    assert np.abs(found - expected).max() <= 1
    assert psnr(found, expected) > 60


def test_too_little_memory_for_the_whole_picture_streams(trained: Trained) -> None:
    pixels = make_picture(160, 120)
    whole, bands = (
        Stylizer(trained.instance, "cpu", memory, "openvino", "fp32").restyle(pixels).astype(int)
        for memory in (None, 2 << 20)
    )
    assert np.abs(whole - bands).max() <= 1


PEAK = """
import re, sys
import numpy as np
from stylize.inference.stylizer import Stylizer

def peak():  # getrusage's begins with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

restyle = Stylizer(sys.argv[1], "cpu", None, "openvino", sys.argv[2]).restyle
pixels = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
restyle(pixels[:64, :64])
before = peak()
restyle(pixels)
print((peak() - before) / (1080 * 1920))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its peak")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("style", ["starry_night", "starry_night_fast"])
def test_a_whole_pass_takes_the_memory_that_is_counted_on(style: str, precision: str) -> None:
    if precision not in cpu_precisions():
        pytest.skip(f"this CPU has no {precision}")
    words = [sys.executable, "-c", PEAK, style, precision]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    width = read_card(find_style(style)).width
    taken, counted = float(done.stdout), whole_bytes("openvino", precision, width)
    # More would break budgets, far less send pictures into bands for nothing.
    assert 0.7 * counted < taken <= counted


def test_a_flat_picture_stays_flat() -> None:
    stylizer = Stylizer(device="cpu", backend="openvino", precision="fp32")
    for level in (0.0, 0.3, 0.9, 1.0):
        pixels = np.full((64, 72, 3), level, np.float32)
        restyled = stylizer.engine.restyle(pixels, None, lambda done: None)
        assert np.ptp(restyled, axis=(0, 1)).max() <= 1e-6


def test_several_threads_share_one(pair: tuple[Stylizer, Stylizer]) -> None:
    stylizer = pair[0]
    pictures = [make_picture(40 + n, 50, seed=n) for n in range(6)]
    expected = [stylizer.restyle(picture) for picture in pictures]
    found: dict[int, npt.NDArray[np.uint8]] = {}

    def work(number: int) -> None:
        found[number] = stylizer.restyle(pictures[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[number], expected[number]) for number in range(6))


@pytest.mark.parametrize("photo", ["astronaut", "coffee"])
def test_reduced_precision_keeps_50_db(photo: str) -> None:
    """On a CPU torch computes bf16 by emulation where it must, so this runs everywhere."""
    data = pytest.importorskip("skimage.data")
    pixels = shrink_to(getattr(data, photo)(), 200)
    names = [("torch", "bf16")]
    names += [("openvino", name) for name in cpu_precisions() if name != "fp32"]
    expected = Stylizer(device="cpu", backend="torch", precision="fp32").restyle(pixels).astype(int)
    for backend, precision in names:
        stylizer = Stylizer(device="cpu", backend=backend, precision=precision)
        assert psnr(stylizer.restyle(pixels).astype(int), expected) >= 50, (backend, precision)
        tensor = torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255
        whole = (stylizer(tensor)[0].permute(1, 2, 0) * 255).round().int().numpy()
        assert psnr(whole, expected) >= 50, (backend, precision)
        banded = Stylizer(device="cpu", memory=3 << 20, backend=backend, precision=precision)
        bands = banded.restyle(pixels).astype(int)
        assert psnr(bands, expected) >= 50, (backend, precision, "in bands")


@pytest.mark.parametrize("style", SHIPPED)
def test_every_style_keeps_50_db(style: str) -> None:
    """A twin of the engraving that was trained had 45, and does not ship."""
    data = pytest.importorskip("skimage.data")
    pixels = shrink_to(data.astronaut(), 320)
    exact = Stylizer(style, "cpu", backend="torch", precision="fp32").restyle(pixels).astype(int)
    for precision in cpu_precisions()[1:]:
        found = Stylizer(style, "cpu", backend="openvino", precision=precision).restyle(pixels)
        assert psnr(found.astype(int), exact) >= 50, precision


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.5])
def test_reduced_precision_fits_every_width(trained: Trained, width: float, tmp_path: Path) -> None:
    """OpenVINO has kernels for some numbers of channels that make something else."""
    torch.manual_seed(1)
    path = tmp_path / "wide.safetensors"
    card = replace(read_card(trained.instance), width=width)
    write_model(path, card, TransformerNet("instance", width).tensors())
    pixels = make_picture(200, 232)
    exact = Stylizer(path, "cpu", backend="torch", precision="fp32").restyle(pixels).astype(int)
    for precision in cpu_precisions()[1:]:
        found = Stylizer(path, "cpu", backend="openvino", precision=precision).restyle(pixels)
        # Random weights: 52 dB at the least at widths of 0.125 to 2; with such kernels 18 to 27.
        assert psnr(found.astype(int), exact) >= 45, precision


@pytest.mark.parametrize("style", SHIPPED)
def test_the_squares_of_instance_norm_fit_half_precision(style: str) -> None:
    """On any CPU: what the norms square is looked at in float32."""
    data = pytest.importorskip("skimage.data")
    model = read_model(find_style(style))
    graph = network_graph(model.card.plan, model.arrays)
    squares = [x for x in graph.get_ops() if x.get_type_name() == "SquaredDifference"]
    assert len(squares) == sum(stage.norm == "instance" for stage in model.card.plan.stages)
    if not squares:
        return
    graph.add_outputs([square.output(0) for square in squares])
    star = np.zeros((256, 256, 3), np.float32)
    star[100:103, 100:103] = 1.0  # 85 deviations from the mean
    look = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for picture in (data.coffee()[:256, :256].astype(np.float32) / 255, star):
        found = look(picture[None])
        largest = max(found[number].max() for number in range(1, len(found)))
        # 65,504 is the largest number; half of it, as a larger sky's star stands out more.
        assert largest < 2**15


def test_a_pass_can_be_interrupted() -> None:
    class Request:
        waits, cancelled = 0, False

        def start_async(self, inputs: object, share_inputs: bool) -> None:
            pass

        def wait_for(self, milliseconds: int) -> bool:
            self.waits += 1
            if self.waits == 2:
                raise KeyboardInterrupt
            return False

        def cancel(self) -> None:
            self.cancelled = True

        def wait(self) -> None:
            raise RuntimeError("cancelled")

    request = Request()
    with pytest.raises(KeyboardInterrupt):
        openvino_engine._infer(request, np.zeros((1, 8, 8, 3), np.float32))
    assert (request.waits, request.cancelled) == (2, True)


def test_a_pass_interrupted_as_it_begins_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it not, it would go on to read a picture whose memory was given back: a crash."""
    begun: list[ov.InferRequest] = []
    start = ov.InferRequest.start_async

    def start_async(self: ov.InferRequest, *arguments: object, **named: object) -> None:
        start(self, *arguments, **named)
        begun.append(self)
        raise KeyboardInterrupt  # as Python raises it behind a call

    monkeypatch.setattr(ov.InferRequest, "start_async", start_async)
    stylizer = Stylizer("starry_night", backend="openvino", precision="fp32")
    with pytest.raises(KeyboardInterrupt):
        stylizer(make_picture(600, 600))
    with contextlib.suppress(RuntimeError):  # that it was cancelled
        assert begun[0].wait_for(0)  # waiting no millisecond, it is known to have ended


def psnr(found: npt.NDArray[np.int_], expected: npt.NDArray[np.int_]) -> float:
    squares = float(np.square(found - expected).mean())
    return 10 * math.log10(255**2 / squares) if squares else math.inf


def test_what_does_not_fit_is_refused(trained: Trained) -> None:
    cases = [
        ({"backend": "tensorflow"}, "give auto, torch, openvino"),
        ({"backend": "openvino", "device": "cuda"}, "give --backend torch"),
        ({"backend": "openvino", "precision": "fp8"}, "does not compute in fp8"),
        ({"backend": "torch", "precision": "fp8", "device": "cpu"}, "precision 'fp8'"),
        ({"backend": "torch", "precision": "fp16", "device": "cpu"}, "fp16 needs a GPU"),
    ]
    for words, message in cases:
        with pytest.raises(UsageError, match=message):
            stylize.load(trained.instance, **words)  # type: ignore[arg-type]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STYLIZE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_compiled_network_is_kept_and_used(cache: Path, trained: Trained) -> None:
    pixels = make_picture(30, 40)
    first = Stylizer(trained.instance, backend="openvino").restyle(pixels)
    (entry,) = cache.iterdir()
    before = entry.read_bytes()
    assert np.array_equal(Stylizer(trained.instance, backend="openvino").restyle(pixels), first)
    assert entry.read_bytes() == before
    Stylizer(trained.batch, backend="openvino")
    assert len(list(cache.iterdir())) == 2


def test_it_takes_no_more_threads_than_the_process_has_cpus(
    cache: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "thread_limit", lambda: 1)
    for _ in range(2):  # compiled, and from the cache
        engine = Stylizer(trained.instance, backend="openvino").engine
        assert isinstance(engine, openvino_engine.OpenVINOEngine)
        assert engine._network.get_property("INFERENCE_NUM_THREADS") == 1
        assert engine._network.get_property("ENABLE_CPU_PINNING") is False
    assert len(list(cache.iterdir())) == 1


def test_a_damaged_cache_is_made_anew(cache: Path, trained: Trained) -> None:
    pixels = make_picture(30, 40)
    first = Stylizer(trained.instance, backend="openvino").restyle(pixels)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    for damage in (b"", whole[:1000], whole[:5000] + b"x" + whole[5001:]):
        entry.write_bytes(damage)
        found = Stylizer(trained.instance, backend="openvino").restyle(pixels)
        assert np.array_equal(found, first)
        assert compile_cache.load(entry.stem) is not None


def test_an_impossible_cache_is_none(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("STYLIZE_CACHE", str(tmp_path / "file" / "cache"))
    Stylizer(trained.instance, backend="openvino").restyle(make_picture(9, 9))


def test_the_cache_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 1000)
    for number in range(9):
        compile_cache.store(f"{number}", bytes(300))
        compile_cache.load("0")  # used all the time, so it stays
    kept = sorted(path.stem for path in cache.iterdir())
    assert kept == ["0", "7", "8"] or kept == ["0", "8"]
    assert compile_cache.load("0") == bytes(300)


@given(seed=st.integers(0, 99))
@settings(deadline=None)
def test_rewritten_kernels_give_the_same(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, 6, 8, generator=random, dtype=torch.float64)
    weight = torch.randn(3, 4, 3, 3, generator=random)
    enlarged = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = torch.nn.functional.conv2d(enlarged, weight.double())
    kernel = torch.from_numpy(enlarging_kernel(weight.numpy())).double()
    found = torch.nn.functional.conv_transpose2d(x, kernel, stride=2, padding=2)
    # Kernel values are sums of up to four in single precision.
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    expected = torch.nn.functional.conv2d(x, weight.double())  # (1, 3, 4, 6)
    for together in (2, 3):
        joined = torch.from_numpy(joined_kernel(weight.numpy(), together)).double()
        found = torch.nn.functional.conv2d(x, joined, stride=(1, together))  # (1, 3 n, 4, 6 / n)
        found = found.reshape(1, together, 3, 4, -1).permute(0, 2, 3, 4, 1).flatten(3)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_the_last_layer_gives_the_same_however_many_pixels_it_makes_together(
    trained: Trained,
) -> None:
    """Half precisions have 4; they are on few CPUs, and this is on all."""
    model = read_model(trained.instance)
    photo = np.random.default_rng(0).random((1, 47, 37, 3), np.float32)
    core, settings = ov.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    found = []
    for together in (2, 4):
        graph = network_graph(model.card.plan, model.arrays, together)
        found.append(core.compile_model(graph, "CPU", settings)([photo])[0].copy())
    assert found[0].shape == (1, 48, 40, 3)
    # The same products in another order: as between backends.
    np.testing.assert_allclose(found[0], found[1], atol=2e-5, rtol=0)
