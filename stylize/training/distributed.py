"""Several processes that train one network, as torchrun starts them.

    torchrun --nproc-per-node 4 -m stylize train --style starry.jpg --content photos/

Each takes its own part of every batch; gradients are averaged by torch's DistributedDataParallel,
and batch norm takes its statistics from all parts (`stylize.networks.layers.BatchNorm2d`).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stylize.errors import UsageError

GRACE = 0.2
"""Seconds between parting and the process's end. Gloo's threads give back the last tensors after
all have been told that they are there; one that is kept waiting until the interpreter ends aborts
the process (2 of 25 runs of a test on a busy machine; none of 38 since). Torch has no join."""


@dataclass(frozen=True)
class World:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process measures, speaks and writes for all."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """The mean over all processes; no number where one of them has none."""
        return float(self.average(torch.tensor(value, dtype=torch.float64)))

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, of its device and type."""
        if self.size == 1:
            return tensor
        total = tensor.to(_device(), copy=True)
        distributed.all_reduce(total)
        return (total / self.size).to(tensor.device)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self.mean(float(flag)) > 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network as it is called in training: its gradients come out averaged."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def leave(self) -> None:
        """Wait for the others, and part."""
        if self.size > 1:
            distributed.barrier()
            distributed.destroy_process_group()
            time.sleep(GRACE)


def join_world(device: str) -> World:
    """Join the processes that torchrun started; without it this one is alone.

    Args:
        device: what training was asked for; unless "cpu", each takes the GPU of its local rank,
            where there are GPUs.

    Raises:
        UsageError: there are GPUs, but fewer than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return World()
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= count:
            raise UsageError(
                f"torchrun started more processes here than there are GPUs, {count}; "
                f"give it --nproc-per-node {count}, or stylize --device cpu"
            )
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    return World(int(os.environ["RANK"]), size)


def _device() -> str:
    """Where what is exchanged must lie."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
