"""A network on a GPU, quicker for a size that keeps coming: one launch instead of some eighty."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]

REPEATS = 10
"""Pictures of one size in a row before it is captured, which takes several passes and stops the
GPU: worth it for a film or a service, not for the few photos of a folder."""

MOST_PIXELS = 1 << 21
"""Pixels of a batch that are captured at the most, 1920 x 1080. Above, the GPU should compute
for longer than the host launches, and a graph would only hold on to a whole pass's memory. Not
timed yet, as little as `REPEATS`."""

LOG = logging.getLogger("stylize")


@dataclass(frozen=True)
class Capture:
    """A recorded pass, with the memory that it reads and writes."""

    replay: Callable[[], None]
    photo: Tensor
    restyled: Tensor


def capture(run: Run, photo: Tensor) -> Capture:
    """Record a pass over a photo of this size as a CUDA graph.

    Raises:
        RuntimeError: the device's memory does not suffice, or something cannot be captured.
    """
    with torch.cuda.device(photo.device):
        still = photo.clone(memory_format=torch.preserve_format)
        # On the stream that is captured, so that what a library sets up for a stream is set up.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(still)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # "thread_local": what other threads ask of the GPU meanwhile is no fault of this one's.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            restyled = run(still)
    return Capture(graph.replay, still, restyled)


class RepeatedSize:
    """Runs a network; a size that comes `REPEATS` times in a row is captured, then replayed.

    Several threads may call it at once, all on the device's default stream.

    Args:
        run: (N, 3, H, W) -> the same, on a CUDA device; it must not wait for the device.
        capture: records a pass of it.
    """

    def __init__(self, run: Run, capture: Callable[[Run, Tensor], Capture] = capture) -> None:
        self._run, self._record = run, capture
        self._lock = threading.Lock()
        self._size: tuple[torch.Size, torch.dtype] | None = None
        self._times = 0
        self._capture: Capture | None = None
        self._can = True

    def __call__(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same, a tensor of the caller's own."""
        with self._lock:
            self._count(photo)
            if self._capture is not None:
                self._capture.photo.copy_(photo)
                self._capture.replay()
                return self._capture.restyled.clone()
        return self._run(photo)

    def release(self) -> None:
        """Give back the memory of what was captured."""
        with self._lock:
            self._size = self._capture = None

    def _count(self, photo: Tensor) -> None:
        size = photo.shape, photo.dtype
        if size != self._size:
            self._size, self._times, self._capture = size, 0, None
        self._times += 1
        small = photo[:, 0].numel() <= MOST_PIXELS
        if self._capture is None and self._can and small and self._times > REPEATS:
            try:
                self._capture = self._record(self._run, photo)
            except RuntimeError as error:
                self._can = False
                LOG.debug("no CUDA graph: %s", error)
