"""The layers against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stylize.networks.layers import BatchNorm2d, InstanceNorm2d, extend_edges


@pytest.mark.parametrize("affine", [False, True])
def test_instance_norm_equals_torchs(affine: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = InstanceNorm2d(5, affine=affine), nn.InstanceNorm2d(5, affine=affine)
    if affine:
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())  # checkpoints of either load into the other
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 17, 13) * 3 + 2
    # Two float32 routes to values up to about 10: a few ulps of 1e-6 each.
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    ours.train()
    trained = ours(x)
    assert torch.equal(trained, ours.eval()(x))  # no running statistics
    assert isinstance(ours, nn.InstanceNorm2d)


def test_relu_and_residual_follow_in_that_order() -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6)
    for layer, plain in (
        (InstanceNorm2d(4, affine=True, relu=True), nn.InstanceNorm2d(4, affine=True)),
        (BatchNorm2d(4, relu=True), nn.BatchNorm2d(4)),
    ):
        torch.testing.assert_close(layer(x, residual), torch.relu(plain(x)) + residual)


def test_extend_edges_repeats_the_last_row_and_column() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 2, 8)
    extended = extend_edges(picture)
    assert torch.equal(extended[0, 0, :2], picture[0, 0])  # 8 px suffice; fewer become 16
    assert torch.equal(extended[0, 0, 2:], picture[0, 0, 1:].expand(14, 8))
    assert torch.equal(extend_edges(picture.mT), extended.mT)
    assert extend_edges(extended) is extended


def test_old_checkpoints_with_running_statistics_load() -> None:
    old = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    nn.init.normal_(old.weight)
    ours = InstanceNorm2d(4, affine=True)
    ours.load_state_dict(old.state_dict())
    assert torch.equal(ours.weight, old.weight)


def test_a_picture_without_a_batch_is_taken_as_torch_takes_it() -> None:
    x, residual = torch.randn(4, 6, 6), torch.randn(4, 6, 6)
    expected = nn.InstanceNorm2d(4)(x) + residual
    torch.testing.assert_close(InstanceNorm2d(4)(x, residual), expected)
