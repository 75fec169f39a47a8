"""What moves the weights: Muon for the kernels inside the network, Adam for all else."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.optimizer import ParamsT

from stylize.networks.transformer import TransformerNet

KERNEL_RATE = 3.0
"""Muon's step size in parts of the learning rate. A norm behind a kernel undoes its scale, so that
large steps do no harm: docs/training.md has what was tried."""

REST_RATE = 0.1
"""Adam's beside Muon. The first and the last kernel and the norms' parameters decide over colours,
and shake the picture where they move as fast as Adam alone wants it."""

RMS = 0.2
"""Root mean square of a step of Muon in parts of its step size, as Adam's steps have it."""


class Muon(Optimizer):
    """Momentum whose steps are orthogonal matrices (Jordan et al. 2024), for kernels.

    A kernel (C', C, k, k) is taken as the matrix (C', k k C), so that every direction in which its
    outputs may change moves by as much, those that Adam hardly moves included. torch's own takes
    matrices alone; here kernels of one shape also go through the iteration together.

    Args:
        kernels: parameters of four dimensions, or groups of them.
        lr: the step size; see `RMS`. A tensor () where it is to change between replays.
        momentum: how much of the mean gradient so far is kept, 0 to 1; Nesterov's.
        dtype: in which the iteration computes; bfloat16 suffices.
    """

    def __init__(
        self,
        kernels: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for kernel in group["params"]:
                if kernel.grad is not None:
                    alike[kernel.shape].append(kernel)
            for kernels in alike.values():
                directions = [self._direction(kernel, group["momentum"]) for kernel in kernels]
                steps = orthogonal(torch.stack(directions).to(group["dtype"])).to(kernels[0].dtype)
                steps *= group["lr"] * (RMS * math.sqrt(max(steps.shape[1:])))
                for kernel, step in zip(kernels, steps, strict=True):
                    rows, columns = kernel.shape[2:]
                    kernel.sub_(step.unflatten(1, (rows, columns, -1)).permute(0, 3, 1, 2))

    def _direction(self, kernel: Tensor, momentum: float) -> Tensor:
        """Where Nesterov's momentum points to: (C', k k C)."""
        state = self.state[kernel]
        if not state:
            state["mean"] = torch.zeros_like(kernel)
        assert kernel.grad is not None
        mean: Tensor = state["mean"].lerp_(kernel.grad, 1 - momentum)
        # In channels_last, which training has, these are the numbers as they lie.
        return kernel.grad.lerp(mean, momentum).permute(0, 2, 3, 1).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns) -> nearly the nearest matrices whose rows (or columns) are orthonormal.

    Newton and Schulz's iteration with Jordan's coefficients: after five rounds singular values lie
    between 0.7 and 1.2, unless they were below 0.001 of the matrix's norm, which a step does not
    mind. A matrix of zeros stays one.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    for _ in range(5):
        gram = x @ x.mT
        change = torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        x = torch.baddbmm(x, change, x, beta=3.4445)
    return x.mT if tall else x


def make_optimisers(
    network: TransformerNet,
    kind: Literal["muon", "adam"],
    lr: float,
    dtype: torch.dtype,
    recorded: bool = False,
) -> tuple[Optimizer, ...]:
    """The optimisers of a run: each group keeps its highest step size as `initial_lr`.

    Args:
        kind: "adam" moves everything by Adam at `lr`.
        lr: the learning rate, of which both take their parts.
        dtype: in which Muon computes.
        recorded: whether steps are recorded and replayed: everything that changes from one to the
            next is then a tensor on the network's device.
    """
    adam = partial(Adam, fused=True, capturable=True) if recorded else Adam
    optimisers: tuple[Optimizer, ...]
    if kind == "adam":
        optimisers = (adam(network.parameters(), lr),)
    else:
        inner = {f"{stage.name}.conv.weight" for stage in network.plan.stages[1:-1]}
        named = list(network.named_parameters())
        kernels = [parameter for name, parameter in named if name in inner]
        rest = [parameter for name, parameter in named if name not in inner]
        optimisers = Muon(kernels, lr * KERNEL_RATE, dtype=dtype), adam(rest, lr * REST_RATE)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
            if recorded:
                group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return optimisers


def set_rates(optimisers: Sequence[Optimizer], factor: float) -> None:
    """Take steps of this part of the highest size from now on."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            rate = group["initial_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
