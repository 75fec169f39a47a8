"""What is found of a GPU, without one and without torch."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stylize.devices import resolve_device
from stylize.errors import UsageError
from stylize.gpu import Gpu, find_gpu, look_for_gpu


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    look_for_gpu.cache_clear()
    yield
    look_for_gpu.cache_clear()


class Driver:
    """As `ctypes.CDLL("libcuda.so.1")`: numbers come through pointers, and 0 is success."""

    def __init__(
        self, devices: int = 1, version: int = 13000, fails: int = 0, capability: int = 75
    ) -> None:
        self.devices, self.version, self.fails = devices, version, fails
        self.capability = capability

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.fails

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number + 7
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: int) -> int:  # noqa: N802
        assert device == 7
        value._obj.value = divmod(self.capability, 10)[number - 75]
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = self.version
        return 0


Install = Callable[[Driver | None, str | None], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Pretend that there are such a driver, and a torch that says so of itself."""

    def pretend(driver: Driver | None, version: str | None) -> None:
        def load(name: str) -> Driver:
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver

        spec = importlib.machinery.ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: version and spec)
        (tmp_path / "version.py").write_text(version or "")

    return pretend


BUILT = (
    "from typing import Optional\n__version__ = '2.14.1'\ncuda: Optional[str] = {}\nhip = None\n"
)


@pytest.mark.parametrize(
    ("driver", "version", "expected"),
    [
        (None, BUILT.format("'13.0'"), Gpu()),
        (Driver(devices=0), BUILT.format("'13.0'"), Gpu()),
        (Driver(fails=100), BUILT.format("'13.0'"), Gpu()),
        (Driver(), BUILT.format("'13.0'"), Gpu("NVIDIA GPU")),
        (Driver(version=12020), BUILT.format("'12.8'"), Gpu("NVIDIA GPU")),  # of one first number
        (Driver(version=13000), "cuda = '12.8'\n", Gpu("NVIDIA GPU")),
        (Driver(), "no such line", Gpu("NVIDIA GPU")),
        (Driver(version=0, capability=0), BUILT.format("'13.0'"), Gpu("NVIDIA GPU")),  # unknown
        (Driver(), BUILT.format("None"), Gpu("NVIDIA GPU", "this torch is built without CUDA")),
        (
            Driver(version=12080),
            BUILT.format("'13.0'"),
            Gpu("NVIDIA GPU", "its driver knows CUDA 12.8, and this torch wants 13: update"),
        ),
        (Driver(), None, Gpu("NVIDIA GPU", "torch is not installed")),
        (
            Driver(capability=61),
            BUILT.format("'13.0'"),
            Gpu("NVIDIA GPU", "its compute capability is 6.1, and this torch wants 7.5"),
        ),
        (Driver(capability=61), BUILT.format("'12.6'"), Gpu("NVIDIA GPU")),  # torch will see
    ],
)
def test_what_torch_can_compute_on(
    install: Install, driver: Driver | None, version: str | None, expected: Gpu
) -> None:
    install(driver, version)
    found = look_for_gpu()
    assert found.name == expected.name
    assert found.unusable.startswith(expected.unusable)
    assert bool(found.unusable) == bool(expected.unusable)
    assert find_gpu() == ("" if expected.unusable else expected.name)


def test_this_torch_is_understood() -> None:
    """Whatever it says of itself, the words are those that are looked for."""
    path = Path(torch.__file__).with_name("version.py")
    from stylize.gpu import _TORCHS_CUDA

    found = _TORCHS_CUDA.search(path.read_text("utf-8"))
    assert found
    assert found[1] == (torch.version.cuda.split(".")[0] if torch.version.cuda else None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_who_asks_for_a_gpu_is_told_why_there_is_none(install: Install) -> None:
    install(Driver(version=12080), BUILT.format("'13.0'"))
    with pytest.raises(UsageError, match=r"no device 'cuda' \(its driver knows CUDA 12.8, and"):
        resolve_device("cuda")
    install(None, None)
    look_for_gpu.cache_clear()
    with pytest.raises(UsageError, match="no device 'cuda'; --device cpu always works"):
        resolve_device("cuda")
