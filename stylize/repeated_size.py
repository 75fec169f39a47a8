"""A function of tensors on a GPU, quicker for sizes that keep coming.

A pass of a network is some eighty launches, a step of training some 1,200, and the host takes
longer over them than the GPU. Recorded as a CUDA graph they are one launch.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

import torch
from torch import Tensor

Run = Callable[..., Tensor]
Record = Callable[..., tuple[Tensor, Run | None]]

LOG = logging.getLogger("stylize")


def record(run: Run, *inputs: Tensor) -> tuple[Tensor, Run | None]:
    """Run a function once, and record it as a CUDA graph, which runs nothing.

    Args:
        run: a function of tensors that neither waits for the GPU nor reads what changes on the
            host; what it changes on the GPU, weights say, it must find at the same place again.
        inputs: on one CUDA device.

    Returns:
        What `run` gave, and what now stands in for it: a function of inputs of the same sizes,
        whose result its next call overwrites. None where something cannot be recorded, or memory
        does not suffice.
    """
    with torch.cuda.device(inputs[0].device):
        still = [one.clone(memory_format=torch.preserve_format) for one in inputs]
        # On the stream that is recorded, so that what a library sets up for a stream is set up.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        usual = torch.cuda.current_stream()
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            first = run(*still)
        usual.wait_stream(stream)
        first.record_stream(usual)
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local": what other threads ask of the GPU meanwhile is no fault of this one's.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = run(*still)
        except RuntimeError as error:
            LOG.debug("no CUDA graph: %s", error)
            return first, None

    def again(*inputs: Tensor) -> Tensor:
        for kept, one in zip(still, inputs, strict=True):
            kept.copy_(one)
        graph.replay()
        return result

    return first, again


class RepeatedSize:
    """Runs a function; what comes at one size again and again is recorded, then replayed.

    Several threads may call it at once, all on the device's default stream.

    Args:
        run: as for `record`; the first of its tensors is (N, C, H, W). One size is the same sizes
            and types of all.
        after: calls of one size in a row before it is recorded; infinity: it never is.
        most_pixels: N * H * W that are recorded at the most.
        record: see there.
    """

    def __init__(
        self, run: Run, after: float, most_pixels: float = math.inf, record: Record = record
    ) -> None:
        self._run, self._record = run, record
        self._after, self._most_pixels = after, most_pixels
        self._lock = threading.Lock()
        self._sizes: list[tuple[torch.Size, torch.dtype]] = []
        self._times = 0
        self._again: Run | None = None
        self._can = True

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What `run` gives, a tensor of the caller's own."""
        with self._lock:
            self._count(inputs)
            if self._again is not None:
                return self._again(*inputs).clone()
            small = inputs[0][:, 0].numel() <= self._most_pixels
            if self._can and small and self._times > self._after:
                self._can = False  # should it fail
                first, self._again = self._record(self._run, *inputs)
                self._can = self._again is not None
                return first
        return self._run(*inputs)

    def release(self) -> None:
        """Give back the memory of what was recorded; and what it changed may lie elsewhere now."""
        with self._lock:
            self._sizes, self._again = [], None

    def _count(self, inputs: tuple[Tensor, ...]) -> None:
        sizes = [(one.shape, one.dtype) for one in inputs]
        if sizes != self._sizes:
            self._sizes, self._times, self._again = sizes, 0, None
        self._times += 1
