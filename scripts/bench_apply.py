"""What `stylize apply` takes, against the plain way: `python scripts/bench_apply.py`.

Whole processes, JPEG to JPEG, taking turns; then the network alone; then a folder of photos against
the network's own time for them. Photos are mosaics of scikit-image's, strokes at native size.
On a GPU the network alone is also held against torch.compile. Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bench_instance_norm import copy_bandwidth
from bench_streaming import mosaic
from PIL import Image
from plain_apply import Transformer

from stylize.devices import convolving
from stylize.inference.engine import has_openvino
from stylize.inference.stylizer import Stylizer
from stylize.model_file import read_model
from stylize.networks.plan import Plan, make_plan
from stylize.zoo import DEFAULT_STYLE, find_style

PLAIN = Path(__file__).with_name("plain_apply.py")
SIZES = ((512, 512), (1920, 1080), (4000, 3000))
FAST_STYLE = f"{DEFAULT_STYLE}_fast"
"""The default style's twin of half the width."""

STREAMED = "1GB"
"""The budget with which the largest is streamed."""


def median_seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each call, all of them taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def process(words: Sequence[object], **env: str) -> None:
    """Run a Python program to its end."""
    subprocess.run(
        [sys.executable, *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | env,
    )


def backends(precision: str) -> list[str]:
    """Those that compute in it here; torch has no float16 on a CPU."""
    torchs = precision != "fp16" or torch.cuda.is_available()
    return ["torch"] * torchs + ["openvino"] * has_openvino()


def whole_processes(folder: Path, rounds: int, precision: str) -> None:
    """Print the table of whole processes."""
    weights = folder / "weights.pth"
    torch.save(read_model(find_style(DEFAULT_STYLE)).tensors(), weights)
    print("| photo | way | seconds | of the plain way |\n|---|---|---:|---:|")
    for width, height in SIZES:
        photo, out = folder / f"{width}x{height}.jpg", folder / "out.jpg"
        Image.fromarray(mosaic(height, width)).save(photo, quality=92)
        apply = ["-m", "stylize", "apply", photo, "-o", out, "--overwrite", "--quiet"]
        apply += ["--style-scale", "native", "--precision", precision]
        calls: dict[str, Callable[[], object]] = {
            "the plain way": lambda p=photo, o=out: process([PLAIN, weights, p, o]),  # type: ignore[misc]
            "stylize": lambda a=apply: process(a),  # type: ignore[misc]
            "stylize, the first run": lambda a=apply: process(  # type: ignore[misc]
                a, STYLIZE_CACHE=tempfile.mkdtemp(dir=folder)
            ),
            f"stylize --style {FAST_STYLE}": lambda a=apply: process([*a, "--style", FAST_STYLE]),  # type: ignore[misc]
        }
        if backends(precision) == ["torch", "openvino"]:
            calls["stylize --backend torch"] = lambda a=apply: process([*a, "--backend", "torch"])  # type: ignore[misc]
        if (width, height) == SIZES[-1]:
            del calls["stylize, the first run"]
            streamed = [*apply, "--memory", STREAMED]
            calls[f"stylize --memory {STREAMED}"] = lambda a=streamed: process(a)  # type: ignore[misc]
            if backends(precision) == ["torch", "openvino"]:
                calls[f"stylize --memory {STREAMED} --backend openvino"] = (
                    lambda a=streamed: process([*a, "--backend", "openvino"])  # type: ignore[misc]
                )
        for style in (DEFAULT_STYLE, FAST_STYLE):  # so that the cache is warm
            process([*apply, "--style", style])
        seconds = median_seconds(calls, rounds)
        base = seconds["the plain way"]
        for name, found in seconds.items():
            print(f"| {width}x{height} | {name} | {found:.2f} | {found / base:.2f} |", flush=True)


def network_alone(rounds: int, precision: str) -> None:
    """Print the table of the network alone at 1920x1080, levels in, levels out."""
    width, height = SIZES[1]
    pixels = mosaic(height, width)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = Transformer().eval()
    network.load_state_dict(read_model(find_style(DEFAULT_STYLE)).tensors())
    network = network.to(device)

    def plain(run: Callable[[torch.Tensor], torch.Tensor], halves: bool = False) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=halves):
            batch = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255
            return (run(batch).clamp(0, 1) * 255).round().byte().cpu()

    calls: dict[str, Callable[[], object]] = {"plain, torch eager": lambda: plain(network)}
    if device == "cuda":
        calls["plain, torch eager, TF32 off"] = lambda: in_float32(lambda: plain(network))
        compiled = torch.compile(network)
        calls["plain, torch.compile"] = lambda: plain(compiled)
        in_halves = torch.compile(copy.deepcopy(network).to(memory_format=torch.channels_last))
        calls["plain, torch.compile, bf16"] = lambda: plain(in_halves, halves=True)
    for style, backend in itertools.product((DEFAULT_STYLE, FAST_STYLE), backends(precision)):
        stylizer = Stylizer(style, backend=backend, precision=precision)
        name = f"stylize, {style}, {backend}, {stylizer.engine.precision}"
        calls[name] = lambda s=stylizer: s.restyle(pixels)  # type: ignore[misc]
    for call in calls.values():  # the first calls pay for what later ones share
        for _ in range(12 if device == "cuda" else 1):
            call()
    seconds = median_seconds(calls, rounds)
    base = seconds["plain, torch eager"]
    print("\n| network alone, 1920x1080 | seconds | times as fast |\n|---|---:|---:|")
    for name, found in seconds.items():
        print(f"| {name} | {found:.3f} | {base / found:.2f} |", flush=True)
    if device == "cuda":
        frames_a_second(pixels, rounds, precision, network, in_halves)


def in_float32(run: Callable[[], object]) -> object:
    """Call a function whose convolutions on a GPU are not to round to TF32, as torch lets them."""
    with convolving(torch.device("cuda"), "fp32"):
        return run()


def least_work(plan: Plan, height: int, width: int) -> tuple[float, float]:
    """(floating point operations, numbers moved) that a pass must at the least.

    Moved: what each convolution reads and makes, and for its norm two more reads and a write.
    """
    operations = moved = 0.0
    for stage in plan.stages:
        read = stage.in_channels * height * width
        height, width = stage.output_side(height), stage.output_side(width)
        made = stage.out_channels * height * width
        operations += 2 * made * stage.in_channels * stage.kernel**2
        moved += read + made * (1 if stage.norm == "none" else 4)
    return operations, moved


def frames_a_second(
    pixels: npt.NDArray[np.uint8],
    rounds: int,
    precision: str,
    network: Callable[[torch.Tensor], torch.Tensor],
    in_halves: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Print how fast a GPU restyles pictures that lie there, and how near that is to its bounds.

    Beside it `network`, the plain one, and `in_halves`, the same compiled, in bfloat16.
    """
    height, width = pixels.shape[:2]
    stylizer = Stylizer(device="cuda", precision=precision)
    batch = torch.from_numpy(pixels).cuda().permute(2, 0, 1)[None] / 255
    halves = 1 if stylizer.engine.precision in ("fp32", "tf32") else 2
    side, dtype = 8192, torch.float32 if halves == 1 else torch.bfloat16
    square = torch.rand(side, side, device="cuda").to(dtype)
    frames = 20  # the first ten are launched one by one, those of the next rounds replayed

    def restyle() -> None:
        for _ in range(frames):
            stylizer(batch)
        torch.cuda.synchronize()

    def restyle_plainly(run: Callable[[torch.Tensor], torch.Tensor], halves: bool) -> None:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=halves):
            for _ in range(frames):
                run(batch)
        torch.cuda.synchronize()

    def multiply() -> None:
        square @ square
        torch.cuda.synchronize()

    others: dict[str, Callable[[], object]] = {
        "torch eager": lambda: restyle_plainly(network, False),
        "torch eager, TF32 off": lambda: in_float32(lambda: restyle_plainly(network, False)),
        "torch.compile in bf16": lambda: restyle_plainly(in_halves, True),
    }
    ways = {"frames": restyle, "product": multiply, **others}
    median_seconds(ways, 1)
    seconds = median_seconds(ways, max(rounds, 5))
    frame = seconds["frames"] / frames
    operations, moved = least_work(make_plan(), height, width)
    arithmetic = operations / (2 * side**3 / seconds["product"])
    traffic = moved * 4 / halves / copy_bandwidth()
    print(
        f"\n{width}x{height} in {stylizer.engine.precision}, on the GPU from first to last: "
        f"{1 / frame:.0f} frames a second ("
        + ", ".join(f"{frames / seconds[way]:.0f} by {way}" for way in others)
        + f"); arithmetic alone would take {arithmetic / frame:.0%} of "
        f"that time (at the rate of a product of {side}x{side}), traffic alone "
        f"{traffic / frame:.0%} (at the rate of a copy)"
    )


def folder_of_photos(folder: Path, count: int, precision: str) -> None:
    """Print what a folder takes beside the network's own time for the same pixels."""
    random = np.random.default_rng(0)
    photos = folder / "photos"
    photos.mkdir()
    pictures = []
    for number in range(count):
        height, width = random.integers(850, 1250, 2)
        pictures.append(mosaic(int(height), int(width), number))
        Image.fromarray(pictures[-1]).save(photos / f"{number:03}.jpg", quality=92)
    words = ["-m", "stylize", "apply", photos, "-o", folder / "out", "--quiet"]
    words += ["--style-scale", "native", "--precision", precision]
    stylizer = Stylizer(precision=precision)
    stylizer.restyle(pictures[0])
    # A few at a time, in turns, would warm and cool the caches of both alike; but a folder is one
    # process, so the network's own time is taken half before and half behind it.
    half = count // 2
    start = time.perf_counter()
    for picture in pictures[:half]:
        stylizer.restyle(picture)
    alone = time.perf_counter() - start
    start = time.perf_counter()
    process(words)
    together = time.perf_counter() - start
    start = time.perf_counter()
    for picture in pictures[half:]:
        stylizer.restyle(picture)
    alone += time.perf_counter() - start
    megapixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures) / 1e6
    print(
        f"\n{count} photos of {megapixels / count:.2f} megapixels on average: {together:.1f} s, "
        f"{together / alone:.2f} of the network's own time ({alone:.1f} s)"
    )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--photos", type=int, default=100, help="in the folder; 0 for none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole_processes(folder, arguments.rounds, arguments.precision)
        network_alone(arguments.rounds, arguments.precision)
        if arguments.photos:
            folder_of_photos(folder, arguments.photos, arguments.precision)


if __name__ == "__main__":
    main()
