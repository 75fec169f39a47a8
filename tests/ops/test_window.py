"""A window at a place that is a tensor, against slices."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stylize.ops.window import window

SIDES = st.integers(4, 20)


@given(SIDES, SIDES, st.integers(1, 3), st.data())
def test_it_is_a_slice_and_so_is_its_derivative(
    height: int, width: int, channels: int, data: st.DataObject
) -> None:
    margin = data.draw(st.integers(0, min(height, width) - 1))
    down, right = (data.draw(st.integers(0, margin)) for _ in range(2))
    picture = torch.rand(2, channels, height, width).requires_grad_()
    rows, columns = slice(down, height - margin + down), slice(right, width - margin + right)
    seen = window(picture, torch.tensor([down, right]), margin)
    assert torch.equal(seen, picture[..., rows, columns])
    assert seen.is_contiguous(memory_format=torch.channels_last)
    weight = torch.rand_like(seen)
    torch.autograd.backward((seen * weight).sum())
    expected = torch.zeros_like(picture)
    expected[..., rows, columns] = weight
    assert picture.grad is not None
    assert torch.equal(picture.grad, expected)
