"""What a CUDA graph does, on a CPU: operators are noted down with the memory they read and write.

A replay calls the same operators on the same tensors, so whatever was a Python number while it was
recorded stays that number, and whatever lies elsewhere by then is not seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stylize.repeated_size import Run

WAITING = {
    torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.lift_fresh,
}  # fmt: skip
"""Operators that on a GPU wait for it, or bring something from the host, which nothing replays."""


def tensors_of(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operator down, and at its end undoes what was changed: recording runs nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in WAITING:
            raise RuntimeError(f"{func.name()} cannot be recorded")
        # Batch norm's schema does not say that it moves the running statistics.
        if func._schema.is_mutable or "batch_norm" in func.name():
            for one in tensors_of([args, kwargs]):
                at = one.untyped_storage().data_ptr()
                if at not in self._own and at not in self._before:
                    self._before[at] = one, one.clone()
        result = func(*args, **kwargs)
        given = {one.untyped_storage().data_ptr() for one in tensors_of([args, kwargs])}
        self._own |= {
            one.untyped_storage().data_ptr() for one in tensors_of(result)
        } - given - self._before.keys()  # fmt: skip
        self.calls.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        with torch.no_grad():
            for one, before in self._before.values():
                one.copy_(before)

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.calls:
                given = {one.untyped_storage().data_ptr() for one in tensors_of([args, kwargs])}
                again = func(*args, **kwargs)
                for kept, new in zip(tensors_of(result), tensors_of(again), strict=True):
                    if kept.untyped_storage().data_ptr() not in given:  # no view of what there was
                        kept.copy_(new)


class Recorder:
    """Stands in for `stylize.repeated_size.record`, and counts.

    Attributes:
        fails: whether nothing can be recorded.
        recorded: sizes of the first inputs.
        replays: how many there were.
    """

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.recorded: list[torch.Size] = []
        self.replays = 0

    def __call__(self, run: Run, *inputs: Tensor) -> tuple[Tensor, Run | None]:
        self.recorded.append(inputs[0].shape)
        still = [one.clone(memory_format=torch.preserve_format) for one in inputs]
        first = run(*still)
        if self.fails:
            return first, None
        tape = Tape()
        with tape:
            result = run(*still)
        tape.undo()

        def again(*inputs: Tensor) -> Tensor:
            self.replays += 1
            for kept, one in zip(still, inputs, strict=True):
                kept.copy_(one)
            tape.replay()
            return result

        return first, again
