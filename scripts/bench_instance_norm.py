"""Time instance norm + ReLU + residual against torch, and print a Markdown table: `make bench`.

    python scripts/bench_instance_norm.py                  # on CUDA where there is a GPU, else CPU
    python scripts/bench_instance_norm.py --compile 64     # torch.compile beside it (CUDA; slow)
    python scripts/bench_instance_norm.py --channels 64    # a third of the CUDA table at a time

All routes take turns within one process, and what counts are ratios of medians, so that a machine
whose speed drifts still gives the same ones. On CUDA the time is the GPU's, of a captured graph,
and the host's microseconds a call stand in a column of their own; the traffic is in parts of the
bandwidth of a plain copy, measured in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stylize.ops.instance_norm import instance_norm

Route = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ours(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """This project's operator."""
    return instance_norm(x, weight, bias, relu=True, residual=residual)


def eager(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """Call torch's layers one after the other, as most networks have them."""
    return F.relu(F.instance_norm(x, weight=weight, bias=bias)) + residual


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """The same through torch's group norm with one channel a group."""
    return F.relu(F.group_norm(x, x.shape[1], weight, bias)) + residual


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    channels_last: bool
    backward: bool

    @property
    def traffic(self) -> int:
        """Bytes that a two-pass operator must move: forward x twice, residual and y; backward x and
        the gradient twice, dx.
        """
        planes = 4 + (5 if self.backward else 0)
        size = torch.empty((), dtype=self.dtype).element_size()
        n, c, h, w = self.shape
        return planes * n * c * h * w * size

    def call(self, route: Route, device: torch.device) -> Callable[[], object]:
        """The work to be timed, on inputs of its own."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        x, residual, grad = (
            torch.randn(self.shape, device=device, dtype=self.dtype).to(memory_format=layout)
            for _ in range(3)
        )
        weight = torch.ones(self.shape[1], device=device)
        bias = torch.zeros(self.shape[1], device=device)
        if route is not ours:  # torch's own wants the parameters in the input's type
            weight, bias = weight.to(self.dtype), bias.to(self.dtype)
        if not self.backward:
            return lambda: route(x, weight, bias, residual)
        inputs = [tensor.requires_grad_() for tensor in (x, weight, bias, residual)]
        return lambda: torch.autograd.grad(route(x, weight, bias, residual), inputs, grad)

    def cells(self) -> list[str]:
        """What names the row."""
        n, c, h, w = self.shape
        return [
            f"{n} x {c} x {h} x {w}",
            str(self.dtype).removeprefix("torch."),
            "channels_last" if self.channels_last else "NCHW",
            "forward + backward" if self.backward else "forward",
        ]


def cuda_seconds(call: Callable[[], object], runs: int) -> float:
    """GPU seconds a call: the median over replays of a captured graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    make: Any = torch.cuda.Event
    events = [(make(enable_timing=True), make(enable_timing=True)) for _ in range(runs)]
    for start, end in events:
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(float(start.elapsed_time(end)) for start, end in events) / 1e3


def host_seconds(call: Callable[[], object], runs: int) -> float:
    """Seconds that the host needs to enqueue a call."""
    times = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cpu_seconds(calls: list[Callable[[], object]], runs: int) -> list[float]:
    """Seconds of each call, the calls taking turns; the first two rounds allocate."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs + 2):
        for call, found in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return [statistics.median(found[2:]) for found in times]


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a copy of 2 GiB: by the driver or by a kernel.

    Whichever is faster: as a node of a graph the driver's copy was slower than operators are.
    """
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    ways: list[Callable[[], object]] = [
        lambda: target.copy_(source),
        lambda: torch.neg(source, out=target),
    ]
    return 2 * source.nbytes / min(cuda_seconds(way, 20) for way in ways)


def cpu_cases() -> Iterator[Case]:
    """The transformer network's planes at 256 px, batch 2."""
    shapes = ((2, 32, 256, 256), (2, 64, 128, 128), (2, 128, 64, 64))
    for dtype, shape, backward in itertools.product(
        (torch.float32, torch.bfloat16), shapes, (False, True)
    ):
        yield Case(shape, dtype, channels_last=True, backward=backward)


def cuda_cases(channels: Sequence[int]) -> Iterator[Case]:
    """Widths that are given, four sizes, three batches, two types, two layouts, two directions."""
    sizes = ((256, 256), (512, 512), (1080, 1920), (2160, 3840))
    free = torch.cuda.mem_get_info()[0]
    for c, (h, w), n, dtype, last, backward in itertools.product(
        channels,
        sizes,
        (1, 4, 16),
        (torch.float32, torch.bfloat16),
        (False, True),
        (False, True),
    ):
        case = Case((n, c, h, w), dtype, last, backward)
        if 4 * case.traffic < free:  # copies of layouts and saved tensors included
            yield case


def cpu_table(runs: int) -> None:
    """ours, torch's two routes, and the ratio of the better one to ours."""
    routes = {"stylize": ours, "F.instance_norm": eager, "F.group_norm": group_norm}
    print(f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads\n")
    names = " | ".join(f"{name}, ms" for name in routes)
    print(f"| shape | type | layout | | {names} | best of torch / stylize |")
    print(f"|---|---|---|---|{'---:|' * (len(routes) + 1)}")
    for case in cpu_cases():
        calls = [case.call(route, torch.device("cpu")) for route in routes.values()]
        seconds = cpu_seconds(calls, runs)
        cells = [*case.cells(), *(f"{1e3 * value:.1f}" for value in seconds)]
        print(f"| {' | '.join(cells)} | {min(seconds[1:]) / seconds[0]:.1f} |", flush=True)


def cuda_table(runs: int, to_compile: Sequence[int], channels: Sequence[int]) -> None:
    """GPU and host microseconds, bandwidth, and ratios to ours."""
    bandwidth = copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}; ")
    print(f"a copy moves {bandwidth / 1e9:.0f} GB/s\n")
    print("| shape | type | layout | | us | host us | GB/s | % of copy | eager / ours |", end="")
    print(" compile / ours |\n|---|---|---|---|---:|---:|---:|---:|---:|---:|")
    compiled = torch.compile(eager, dynamic=False)
    for case in cuda_cases(channels):
        seconds = cuda_seconds(case.call(ours, torch.device("cuda")), runs)
        host = host_seconds(case.call(ours, torch.device("cuda")), runs)
        plain = cuda_seconds(case.call(eager, torch.device("cuda")), runs)
        rate = case.traffic / seconds
        cells = [
            *case.cells(),
            f"{1e6 * seconds:.1f}",
            f"{1e6 * host:.0f}",
            f"{rate / 1e9:.0f}",
            f"{100 * rate / bandwidth:.0f}",
            f"{plain / seconds:.2f}",
        ]
        if case.shape[0] == 1 and case.shape[1] in to_compile:
            torch._dynamo.reset()
            found = cuda_seconds(case.call(compiled, torch.device("cuda")), runs)
            cells.append(f"{found / seconds:.2f}")
        else:
            cells.append("")
        print(f"| {' | '.join(cells)} |", flush=True)
        torch.cuda.empty_cache()


def main() -> None:
    """Print the table of the device there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--compile", type=int, nargs="*", default=(), help="for these widths")
    parser.add_argument("--channels", type=int, nargs="+", default=(32, 64, 128))
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        cuda_table(arguments.runs, arguments.compile, arguments.channels)
    else:
        cpu_table(arguments.runs)


if __name__ == "__main__":
    main()
