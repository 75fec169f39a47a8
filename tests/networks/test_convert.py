"""Conversion of other people's models: equal outputs and gradients, nothing else disturbed."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from stylize.networks.convert import convert_instance_norm
from stylize.networks.layers import InstanceNorm2d


class ResnetBlock(nn.Module):
    """As in CycleGAN's generator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
            nn.ReLU(True), nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv_block(x)
        return y


def cyclegan() -> nn.Module:
    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.InstanceNorm2d(8), nn.ReLU(True),
        nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16), nn.ReLU(True), ResnetBlock(16),
        nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(8), nn.ReLU(True),
        nn.ReflectionPad2d(3), nn.Conv2d(8, 3, 7), nn.Tanh(),
    )  # fmt: skip


class UNet(nn.Module):
    """As in pix2pix: LeakyReLU going down, ReLU going up, joined by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 8, 4, 2, 1)
        self.down2 = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.InstanceNorm2d(16, affine=True)
        )
        self.up2 = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.InstanceNorm2d(8, affine=True)
        )
        self.up1 = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        y: Tensor = self.up1(torch.cat([one, self.up2(self.down2(one))], 1))
        return y


def super_resolution() -> nn.Module:
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        head=nn.Conv2d(3, 8, 3, padding=1),
        body=nn.Conv2d(8, 8, 3, padding=1, bias=False),
        norm=nn.InstanceNorm2d(8, affine=True),
        act=nn.ReLU(),
        tail=nn.Conv2d(8, 12, 3, padding=1),
        shuffle=nn.PixelShuffle(2),
    )
    return nn.Sequential(stages)


@pytest.mark.parametrize(
    ("build", "norms", "fused"), [(cyclegan, 5, 4), (UNet, 2, 0), (super_resolution, 1, 1)]
)
def test_outputs_and_gradients_are_equal(build: type[nn.Module], norms: int, fused: int) -> None:
    torch.manual_seed(0)
    model = build().double()
    ours = copy.deepcopy(model)
    assert convert_instance_norm(ours) == norms
    layers = [module for module in ours.modules() if isinstance(module, InstanceNorm2d)]
    assert len(layers) == norms
    assert sum(layer.relu for layer in layers) == fused
    assert ours.state_dict().keys() == model.state_dict().keys()
    results = []
    for network in (model, ours):
        x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)).double()
        x.requires_grad_()
        y = network(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in network.parameters())])
    for expected, got in zip(*results, strict=True):
        # float64 through a dozen layers; a convolution's bias before a norm has a gradient of
        # rounding errors alone, hence the absolute part.
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_what_is_shared_or_watched_is_not_fused() -> None:
    relu = nn.ReLU()
    shared = nn.Sequential(nn.InstanceNorm2d(4), relu, nn.InstanceNorm2d(4), relu)
    assert convert_instance_norm(shared) == 2
    assert shared[1] is relu
    twice = nn.Conv2d(4, 4, 1)
    apart = nn.Sequential(twice, nn.InstanceNorm2d(4), twice, nn.ReLU())
    x = torch.randn(1, 4, 8, 8)
    expected = apart(x)
    assert convert_instance_norm(apart) == 1
    torch.testing.assert_close(apart(x), expected)
    watched = nn.Sequential(nn.InstanceNorm2d(4), nn.ReLU())
    seen: list[Tensor] = []
    watched[0].register_forward_hook(lambda module, args, output: seen.append(output))
    assert convert_instance_norm(watched) == 1
    assert isinstance(watched[1], nn.ReLU)
    watched(torch.randn(1, 4, 4, 4))
    assert seen[0].min() < 0


def test_optimisers_keep_their_parameters_and_running_statistics_stay() -> None:
    model = nn.Sequential(
        nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4, track_running_stats=True)
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    assert convert_instance_norm(model) == 1
    assert type(model[1]) is nn.InstanceNorm2d
    model(torch.randn(2, 4, 4, 4)).square().sum().backward()
    optimiser.step()
    assert not torch.equal(optimiser.param_groups[0]["params"][0], torch.ones(4))  # it has moved
    assert optimiser.param_groups[0]["params"][0] is model[0].weight
    assert convert_instance_norm(model) == 0


def test_a_single_layer_is_converted_itself() -> None:
    layer = nn.InstanceNorm2d(4)
    assert convert_instance_norm(layer) == 1
    assert isinstance(layer, InstanceNorm2d)
