"""Time instance norm + ReLU, forward and backward, against torch's own layers: `make bench`.

The routes take turns within one process, and ratios are of medians, so that a machine whose speed
drifts still gives the same ratios. Shapes are those of the transformer network at 256 px, batch 2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.ops.instance_norm import instance_norm, instance_norm_reference

SHAPES = ((2, 32, 256, 256), (2, 64, 128, 128), (2, 128, 64, 64))

Route = Callable[[Tensor, Tensor, Tensor], Tensor]

ROUTES: dict[str, Route] = {
    "stylize": lambda x, w, b: instance_norm(x, w, b, relu=True),
    "autograd of the formula": lambda x, w, b: instance_norm_reference(x, w, b, relu=True),
    "F.instance_norm + relu": lambda x, w, b: F.relu(F.instance_norm(x, weight=w, bias=b)),
    "F.group_norm + relu": lambda x, w, b: F.relu(F.group_norm(x, x.shape[1], w, b)),
}


def measure(shape: tuple[int, ...], dtype: torch.dtype, runs: int) -> dict[str, float]:
    """Median seconds of forward and backward, by route."""
    x = torch.randn(shape).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(shape[1], requires_grad=True)
    bias = torch.zeros(shape[1], requires_grad=True)
    grad = torch.randn_like(x)
    times: dict[str, list[float]] = {name: [] for name in ROUTES}
    for number in range(runs + 2):
        for name, route in ROUTES.items():
            start = time.perf_counter()
            torch.autograd.grad(route(x, weight, bias), (x, weight, bias), grad)
            if number >= 2:  # the first rounds allocate
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print(f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads, channels_last\n")
    print(
        f"| shape | type | {' | '.join(f'{name}, ms' for name in ROUTES)} | best of torch / ours |"
    )
    print(f"|---|---|{'---:|' * (len(ROUTES) + 1)}")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            times = measure(shape, dtype, runs)
            ours, *others = times.values()
            cells = " | ".join(f"{1e3 * value:.1f}" for value in times.values())
            kind = str(dtype).removeprefix("torch.")
            print(f"| {shape} | {kind} | {cells} | {min(others[1:]) / ours:.1f} |")


if __name__ == "__main__":
    main()
