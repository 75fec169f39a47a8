"""What several tests need: generated pictures, a small loss network, the real command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from safetensors.torch import load_file, save_file

from stylize.imaging.files import Pixels
from stylize.model_file import read_card, write_model
from stylize.networks.perceptual import CONVOLUTIONS
from tests.command import call

if not torch.cuda.is_available():
    # Before anything imports Triton: kernels then run on the CPU, statement by statement.
    os.environ["TRITON_INTERPRET"] = "1"
torch.set_num_threads(1)  # tests run in two processes on two cores
# Not the user's; every run of the tests compiles anew what it uses first.
os.environ["STYLIZE_CACHE"] = CACHE = tempfile.mkdtemp(prefix="stylize-test-cache-")


def pytest_unconfigure() -> None:
    """Each of the processes that test has a cache of its own, and takes it along."""
    shutil.rmtree(CACHE, ignore_errors=True)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = (
    SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
)  # fmt: skip
"""sRGB with the primaries of red and blue exchanged: a red pixel of it is seen as blue."""


def make_picture(height: int, width: int, seed: int = 0) -> Pixels:
    """A picture with gradients, edges and texture, (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(2 * np.pi * (random.uniform(1, 5) * x + random.uniform(1, 5) * y + c)) for c in
             range(3)]  # fmt: skip
    picture = np.stack(waves, -1) * 0.4 + 0.5
    picture[(x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.04] = random.uniform(0, 1, 3)
    picture += random.normal(0, 0.03, picture.shape)
    pixels: Pixels = (picture.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def save_picture(path: Path, height: int = 80, width: int = 96, seed: int = 0) -> Path:
    """Write `make_picture` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_picture(height, width, seed)).save(path)
    return path


@pytest.fixture(scope="session")
def small_perceptual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VGG-19 up to relu4_1 with random weights and an eighth of the usual widths."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    channels, index = 3, 0
    for width, count in zip((8, 16, 32, 64), (*CONVOLUTIONS["vgg19"][:3], 1), strict=True):
        for _ in range(count):
            scale = (2 / (9 * channels)) ** 0.5  # He: activations keep their size
            weight = torch.randn(width, channels, 3, 3, generator=generator) * scale
            tensors[f"features.{index}.weight"] = weight
            tensors[f"features.{index}.bias"] = torch.zeros(width)
            channels, index = width, index + 2
        index += 1
    path = tmp_path_factory.mktemp("perceptual") / "tiny-vgg.safetensors"
    save_file(tensors, path, {"architecture": "vgg19", "padding_mode": "reflect"})
    return path


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        save_picture(folder / ("a" if number % 2 else "b") / f"{number:02}.png", seed=number)
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """The command line as a user has it: `run("apply", photo)` in a process of its own."""

    def run(
        *words: object, cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return call([*map(str, words)], cwd, environment)

    return run


class Trained:
    """Two tiny models as the command line trains them, and one of them on a ground."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instance = folder / "instance.safetensors"
        self.batch = folder / "batch.safetensors"
        self.grounded = folder / "grounded.safetensors"
        self.outputs: dict[str, subprocess.CompletedProcess[str]] = {}


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, run: Run, photo_folder: Path, small_perceptual: Path
) -> Trained:
    """Trained for 3 steps at 64 px on generated pictures, instance norm and batch norm."""
    folder = tmp_path_factory.mktemp("trained")
    painting = save_picture(folder / "painting.png", 90, 70, seed=99)
    models = Trained(folder)
    for norm, path in (("instance", models.instance), ("batch", models.batch)):
        models.outputs[norm] = run(
            "train", "--style", painting, "--content", photo_folder, "--config", f"{norm}_norm",
            "--steps", 3, "--size", 64, "--style-size", 64, "--perceptual", small_perceptual,
            "--set", "width=0.25", "--device", "cpu", "--preview-every", 2, "--output", path,
            # Bounds of tests were derived with these two's weights, not with what presets choose.
            "--style-strength", 10, "--set", "covariance_weight=0", "--set", "ground=0",
        )  # fmt: skip
    card = replace(read_card(models.instance), name="grounded", ground=0.2)
    write_model(models.grounded, card, load_file(models.instance))
    return models


def without_pictures(page: str) -> str:
    """A page less the letters of its pictures, which spell every short word now and then."""
    return re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", page)


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on stderr that begins with the program's name; nothing on stdout."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("stylize: ")
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""
