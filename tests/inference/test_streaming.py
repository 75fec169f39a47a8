"""Pictures in bands: the same as the whole-picture pass, whatever the bands and the size."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.errors import StylizeError
from stylize.inference import torch_backend
from stylize.inference.backend import Backend, BandMemoryError, Moments, Tile
from stylize.inference.memory import Cut
from stylize.inference.streaming import Streamer
from stylize.inference.torch_backend import TorchBackend
from stylize.inference.torch_bf16_backend import TorchBf16Backend
from stylize.networks.plan import NORMS, Norm, Stage
from stylize.networks.transformer import TransformerNet
from tests.conftest import make_picture

CPU = torch.device("cpu")

Floats = npt.NDArray[Any]


@cache
def network(norm: Norm) -> TransformerNet:
    """A narrow network whose norms have learned something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = TransformerNet(norm, width=0.25, ground=0.2)
        for name, parameter in made.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        made.train()
        with torch.no_grad():  # running statistics
            for _ in range(30):
                made(torch.rand(2, 3, 24, 24))
    return made.eval()


def whole(norm: Norm, pixels: Floats) -> Floats:
    return restyle_whole(network(norm), pixels)


def restyle_whole(net: TransformerNet, pixels: Floats) -> Floats:
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        found: Floats = net(batch).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return found


@cache
def double_network(norm: Norm) -> TransformerNet:
    return copy.deepcopy(network(norm)).double()


def exact(norm: Norm, pixels: Floats) -> Floats:
    """The whole picture in double precision: what both passes in single precision round."""
    return restyle_whole(double_network(norm), pixels.astype(np.float64))


def streamed(
    norm: Norm,
    pixels: npt.NDArray[Any],
    rows: int = 16,
    full: bool = True,
    on_disk: bool = False,
    finest: int = 2,
    backend: Backend | str = "torch",
) -> npt.NDArray[Any]:
    net = network(norm)
    norms = {name: t.double().numpy() for name, t in net.tensors().items() if ".norm." in name}
    cut = Cut(rows, full, on_disk, finest)
    with torch.inference_mode():
        made = make_backend(backend, norm) if isinstance(backend, str) else backend
        return Streamer(net.plan, norms, made, cut).restyle(pixels)


def make_backend(name: str, norm: Norm) -> Backend:
    if name == "openvino":
        return long_lived_openvino_backend(norm)
    net = network(norm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_backend, "register_floats", lambda *_: TORCH_FLOATS[name])
        patch.setattr(torch_backend, "LEAST_CHANNELS", 1)
        return TorchBackend(net.plan, net.tensors(), CPU)


@cache
def long_lived_openvino_backend(norm: Norm) -> Backend:
    """One for all tests: what it compiles takes longer than all that is then computed with it."""
    made = make_openvino_backend(norm)
    made._kept = 10_000
    backend: Backend = made
    return backend


def make_openvino_backend(norm: Norm) -> Any:
    openvino = pytest.importorskip("openvino")
    from stylize.inference.openvino_backend import OpenVINOBackend

    net, core = network(norm), openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    arrays = {key: tensor.detach().numpy() for key, tensor in net.tensors().items()}
    return OpenVINOBackend(
        net.plan, arrays, lambda graph, exact: core.compile_model(graph, "CPU", settings)
    )


def random_picture(height: int, width: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


# With a store in single precision the two differ by the rounding of sums in another order: some
# hundred operations of 2^-24 each, on values of up to 10, enlarged by the norms' 1 / deviation.
SINGLE = 2e-5
# In half precision every stored value is rounded by 2^-11 of itself, and so is the running sum of
# five blocks; random weights on noise make more of it than trained ones do.
HALF = 1 / 255


TORCH_FLOATS = {"torch": 0, "torch for AVX2": 8, "torch for AVX-512": 16}
"""torch's ways of computing convolutions, whichever this CPU takes: floats of a register."""

BACKENDS = (*TORCH_FLOATS, "openvino")


PICTURES_AND_BANDS: dict[str, st.SearchStrategy[Any]] = {
    "height": st.integers(1, 45),
    "width": st.integers(1, 45),
    "rows": st.integers(1, 48),
    "finest": st.sampled_from([1, 2]),
    "seed": st.integers(0, 9),
}


def check_bands(
    norm: Norm, backend: str, height: int, width: int, rows: int, finest: int, seed: int
) -> None:
    pixels = random_picture(height, width, seed)
    expected = exact(norm, pixels)
    made = make_backend(backend, norm)
    found = streamed(norm, pixels, rows, finest=finest, backend=made)
    np.testing.assert_allclose(found, expected, atol=SINGLE, rtol=0)
    half = streamed(norm, pixels, rows, full=False, finest=finest, backend=made)
    np.testing.assert_allclose(half, expected, atol=HALF, rtol=0)


@pytest.mark.parametrize("backend", TORCH_FLOATS)
@pytest.mark.parametrize("norm", NORMS)
@given(**PICTURES_AND_BANDS)
@settings(max_examples=25, deadline=None)
def test_bands_give_the_whole_pictures_result(norm: Norm, backend: str, **drawn: int) -> None:
    check_bands(norm, backend, **drawn)


@pytest.mark.parametrize("norm", NORMS)
# Bands cut rows. Each width compiles dozens of convolutions; every remainder of both: below.
@given(**PICTURES_AND_BANDS | {"width": st.sampled_from([1, 6, 19, 45])})
@settings(max_examples=25, deadline=None)
def test_openvinos_bands_give_the_whole_pictures_result(norm: Norm, **drawn: int) -> None:
    check_bands(norm, "openvino", **drawn)


@pytest.mark.parametrize(
    ("backend", "height", "width"),
    [("torch", height, width) for height in range(28, 36) for width in range(28, 36)]
    + [
        (other, height, width)
        for other in ("torch for AVX2", "openvino")
        for height in range(28, 32)
        for width in range(28, 32)
    ],
)
def test_every_remainder_of_both_sides(backend: str, height: int, width: int) -> None:
    pixels = random_picture(height, width)
    expected = whole("instance", pixels)
    for finest in (1, 2):
        found = streamed("instance", pixels, 8, finest=finest, backend=backend)
        np.testing.assert_allclose(found, expected, atol=SINGLE, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 500)])
def test_extreme_shapes(shape: tuple[int, int], backend: str) -> None:
    pixels = random_picture(*shape)
    for norm in NORMS:
        found = streamed(norm, pixels, 4, backend=backend)
        np.testing.assert_allclose(found, whole(norm, pixels), atol=SINGLE, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_levels_are_within_one_of_the_whole_picture(backend: str) -> None:
    pixels = make_picture(90, 130)
    expected = np.rint(whole("instance", pixels.astype(np.float32) / 255) * 255)
    for full, finest in itertools.product((True, False), (1, 2)):
        found = streamed("instance", pixels, 16, full, finest=finest, backend=backend)
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_sixteen_bits_in_sixteen_bits_out() -> None:
    pixels = make_picture(40, 30).astype(np.uint16) * 257 + 100
    found = streamed("instance", pixels)
    assert found.dtype == np.uint16
    expected = whole("instance", pixels.astype(np.float32) / 65535) * 65535
    assert np.abs(found.astype(float) - expected).max() <= 65535 * SINGLE + 0.5
    assert np.unique(found).size > 256


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flat_picture_stays_flat(backend: str) -> None:
    """White paper: every plane is constant, and half precision must not turn that into noise."""
    for level, finest in itertools.product((0.0, 0.9, 1.0), (1, 2)):
        pixels = np.full((40, 52, 3), level, np.float32)
        found = streamed("instance", pixels, 8, full=False, finest=finest, backend=backend)
        np.testing.assert_allclose(found, whole("instance", pixels), atol=HALF, rtol=0)
        assert np.ptp(found.astype(float), axis=(0, 1)).max() <= 1 / 255


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dark_beginning_does_not_spoil_the_rest(backend: str) -> None:
    """The first band, around whose mean all is stored, is nothing like the others."""
    pixels = random_picture(64, 40) * 0.1 + 0.9
    pixels[:4] = 0
    expected = whole("instance", pixels)
    for finest in (1, 2):
        found = streamed("instance", pixels, 4, full=False, finest=finest, backend=backend)
        np.testing.assert_allclose(found, expected, atol=HALF, rtol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(64, 40), (33, 45), (5, 90)])
def test_bands_of_bfloat16(norm: Norm, shape: tuple[int, int]) -> None:
    net, pixels = network(norm), random_picture(*shape)
    backend = TorchBf16Backend(net.plan, net.tensors(), CPU, torch.bfloat16)
    expected = exact(norm, pixels)
    cuts = itertools.product((3, 16, 64), (True, False), (1, 2))  # rows, on disk, finest
    found = [
        streamed(norm, pixels, rows, on_disk=on_disk, finest=finest, backend=backend)
        for rows, on_disk, finest in cuts
    ]
    signal = expected.var()
    for one in found:
        # 2^-9 of each value, at each of 16 stages, of random weights on noise: a hundredth and more
        # in all. float32's bands, whose convolutions alone are rounded, are as far off.
        assert np.square(one - expected).mean() <= 1e-3 * signal
        # Where nothing is measured, which pieces it is measured in cannot matter.
        spread = np.square(one - found[0]).mean() / signal
        assert spread <= (1e-3 if norm == "instance" else 1e-12)


def test_a_store_on_disk_changes_nothing() -> None:
    pixels = random_picture(50, 41)
    for full in (True, False):
        in_memory = streamed("instance", pixels, 8, full)
        assert np.array_equal(streamed("instance", pixels, 8, full, on_disk=True), in_memory)


class Cramped(TorchBackend):
    """Has memory for tiles up to a number of rows."""

    limit = 6

    def convolve(self, stage: Stage, tile: Tile, turned: bool) -> torch.Tensor:
        if tile.count > self.limit * stage.upsample + 2 * stage.padding:
            raise BandMemoryError
        return super().convolve(stage, tile, turned)


def test_too_little_memory_halves_the_band_and_goes_on() -> None:
    net = network("instance")
    pixels = random_picture(60, 50)
    cramped = Cramped(net.plan, net.tensors(), CPU)
    np.testing.assert_allclose(
        streamed("instance", pixels, 40, backend=cramped),
        whole("instance", pixels),
        atol=SINGLE,
        rtol=0,
    )
    cramped.limit = -9
    with pytest.raises(StylizeError, match="not enough memory for a single row"):
        streamed("instance", pixels, 40, backend=cramped)


class OnMPS(torch.Tensor):
    """A tensor that is never double, as Apple's GPUs know none, until it is on the CPU."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        if isinstance(found, torch.Tensor) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found


class MPSBackend(TorchBackend):
    def upload(self, pixels: Floats, ground: Floats | None) -> torch.Tensor:
        return super().upload(pixels, ground).as_subclass(OnMPS)


def test_what_lies_on_a_gpu_is_never_double() -> None:
    net, pixels = network("instance"), random_picture(40, 30)
    backend = MPSBackend(net.plan, net.tensors(), CPU)
    assert isinstance(backend.upload(pixels, None) + 1, OnMPS)
    found = streamed("instance", pixels, backend=backend)
    np.testing.assert_allclose(found, whole("instance", pixels), atol=SINGLE, rtol=0)
    with torch.inference_mode():
        assert isinstance(net(torch.rand(1, 3, 16, 16).as_subclass(OnMPS)), OnMPS)


def test_progress_rises_to_one() -> None:
    net = network("instance")
    tensors = net.tensors()
    norms = {name: t.double().numpy() for name, t in tensors.items() if ".norm." in name}
    seen: list[float] = []
    cut = Cut(16, True, False, finest=1)
    with torch.inference_mode():
        backend = TorchBackend(net.plan, tensors, CPU)
        Streamer(net.plan, norms, backend, cut, seen.append).restyle(make_picture(70, 40))
    assert len(seen) > len(net.plan.stages)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9), min_size=1, max_size=6
    )
)
def test_merged_moments_are_those_of_all_values(parts: list[list[float]]) -> None:
    def moments(values: npt.NDArray[np.float64]) -> Moments:
        mean = values.mean(keepdims=True)
        return Moments(values.size, mean, np.square(values - mean).sum(keepdims=True))

    arrays = [np.array(part) for part in parts]
    merged = moments(arrays[0])
    for array in arrays[1:]:
        merged = merged.merged(moments(array))
    expected = moments(np.concatenate(arrays))
    assert merged.count == expected.count
    # Double precision, sums of at most 54 values below 1e3: 54 * 1e3 * 2^-52, and its square.
    np.testing.assert_allclose(merged.mean, expected.mean, atol=1e-10)
    np.testing.assert_allclose(merged.m2, expected.m2, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(("norm", "stages"), [("instance", 2), ("batch", 16)])
def test_compiled_convolutions_are_dropped_behind_their_pass(norm: Norm, stages: int) -> None:
    pytest.importorskip("openvino")
    from stylize.inference.openvino_backend import HEIGHTS

    backend = make_openvino_backend(norm)
    compiled: list[str] = []
    compile_graph = backend._compile

    def counted(graph: Any, exact: bool) -> Any:
        compiled.append(graph.get_friendly_name())
        # Sums over a band leave float16's range.
        assert exact == (compiled[-1] in ("measure", "finish", "convert"))
        return compile_graph(graph, exact)

    backend._compile = counted
    pixels = random_picture(45, 30)
    streamed(norm, pixels, 8, backend=backend)
    assert len(backend._convolutions) <= HEIGHTS * stages
    if norm == "instance":
        assert len(compiled) > 2 * HEIGHTS * stages  # so some were dropped
    else:  # all stages take turns, and none may be dropped before the last band
        assert len(compiled) == len(backend._convolutions) + len(backend._elementwise)
