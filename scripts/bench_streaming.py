"""Time and memory of large pictures by each backend, against one pass through torch.

    python scripts/bench_streaming.py                      # 12 megapixels
    python scripts/bench_streaming.py --size 11552x8656 --skip-whole     # 100 megapixels

The picture is a mosaic of scikit-image's bundled photos at their own size, flipped and shifted: an
enlargement would be too smooth to show a seam. Each measurement is a process of its own; memory is
its peak above what it holds with torch and the style loaded, before the picture is read (Linux).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stylize.imaging.files import Pixels
from stylize.imaging.tensors import to_tensor

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def mosaic(height: int, width: int, seed: int = 0) -> Pixels:
    """Real photos side by side, (height, width, 3)."""
    from skimage import data

    random = np.random.default_rng(seed)
    photos = [np.asarray(getattr(data, name)())[..., :3] for name in PHOTOS]
    picture = np.empty((height, width, 3), np.uint8)
    top = 0
    while top < height:
        left, bottom = 0, height
        while left < width:
            photo = photos[random.integers(len(photos))][:: random.choice([-1, 1]), ::-1]
            part = picture[top : top + 300, left : left + photo.shape[1]]
            part[:] = photo[: part.shape[0], : part.shape[1]]
            left += photo.shape[1]
            bottom = min(bottom, top + 300)
        top = bottom
    return picture


def resident_peak() -> int:
    """Largest resident memory of this process since `forget_peak`, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Let the peak begin anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(picture: Path, out: Path, way: str, memory: int | None, style: str) -> None:
    """In a process of its own: restyle, and print what it took."""
    import torch

    from stylize.inference.stylizer import Stylizer
    from stylize.model_file import read_model
    from stylize.networks.transformer import TransformerNet
    from stylize.zoo import find_style

    backend = "torch" if way == "whole" else way
    stylizer = Stylizer(style, "cpu", memory, backend, "fp32")
    model = read_model(find_style(style))
    network = TransformerNet(model.card.norm, model.card.width, model.card.ground).eval()
    network.load_tensors(model.tensors())
    network.to(memory_format=torch.channels_last)
    stylizer.restyle(mosaic(64, 64))
    forget_peak()
    idle = resident_peak()
    pixels = np.load(picture)
    start = time.perf_counter()
    if way == "whole":
        with torch.inference_mode():
            levels = network(to_tensor([pixels])).clamp_(0, 1).mul_(255).round_().byte()
        restyled = levels[0].permute(1, 2, 0).numpy()
    else:
        restyled = stylizer.restyle(pixels)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": resident_peak() - idle}))
    np.save(out, restyled)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description="Time and memory of large pictures.")
    parser.add_argument("--size", default="4000x3000", help="WIDTHxHEIGHT")
    parser.add_argument("--style", default="starry_night")
    parser.add_argument("--memory", type=int, nargs="*", default=[], help="budgets to try, MiB")
    parser.add_argument(
        "--backends",
        nargs="*",
        default=["torch", "openvino"],
        help="to compare; torch in bands, openvino whole where it fits",
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--skip-whole", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        picture, out, way, memory = arguments.child
        budget = int(memory) << 20 or None
        measure(Path(picture), Path(out), way, budget, arguments.style)
        return

    width, height = map(int, arguments.size.split("x"))
    ways = [] if arguments.skip_whole else [("whole", 0)]
    ways += [(name, 0) for name in arguments.backends]
    ways += [(name, memory) for name in arguments.backends for memory in arguments.memory]
    times: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    peaks: dict[tuple[str, int], float] = {}
    results: dict[tuple[str, int], Pixels] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture, out = Path(folder) / "picture.npy", Path(folder) / "out.npy"
        np.save(picture, mosaic(height, width))
        for _ in range(arguments.rounds):
            for way in ways:
                words = ["--child", str(picture), str(out), way[0], str(way[1])]
                done = subprocess.run(
                    [sys.executable, __file__, *words, "--style", arguments.style],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                found = json.loads(done.stdout)
                times[way].append(found["seconds"])
                peaks[way] = max(peaks.get(way, 0), found["peak"])
                results[way] = np.load(out)
    base = min(times[ways[0]])
    print(f"{arguments.size}, {arguments.style}\n")
    print("| way | seconds | ratio | peak memory | largest difference | PSNR |")
    print("|---|---:|---:|---:|---:|---:|")
    for way in ways:
        name = way[0] + (f", --memory {way[1]}MB" if way[1] else "")
        difference = np.abs(results[way].astype(np.int16) - results[ways[0]])
        squares = float(np.square(difference, dtype=np.float32).mean(dtype=np.float64))
        psnr = 10 * math.log10(255**2 / squares) if squares else math.inf
        print(
            f"| {name} | {min(times[way]):.1f} | {min(times[way]) / base:.2f} | "
            f"{peaks[way] / 2**30:.2f} GiB | {difference.max()}/255 | {psnr:.1f} dB |"
        )


if __name__ == "__main__":
    main()
