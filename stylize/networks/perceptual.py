"""The loss network: VGG features by their usual layer names (relu1_2 ... relu5_4)."""

from __future__ import annotations

import hashlib
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stylize.errors import StylizeError, UsageError
from stylize.ops.extend import extend
from stylize.paths import shipped_loss_network

Architecture = Literal["vgg16", "vgg19"]
CONVOLUTIONS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions of 3x3 in each block; a 2x2 maximum pooling stands between blocks.
Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, configurations D and E."""

DEFAULT_CONTENT_LAYERS: dict[str, tuple[str, ...]] = {"vgg16": ("relu2_2",), "vgg19": ("relu3_1",)}
DEFAULT_STYLE_LAYERS: dict[str, tuple[str, ...]] = {
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3"),  # Johnson et al. 2016
    "vgg19": ("relu1_2", "relu2_2", "relu3_4", "relu4_1"),
}

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SLIM = "vgg19-slim"
"""The loss network that ships: VGG-19 up to relu4_1 at a quarter of its widths."""

MAX_CHANNELS = 1024
"""Twice VGG's widest layer; a file that claims more is not one of ours."""


def layer_names(architecture: Architecture) -> tuple[str, ...]:
    """The names of all layers that `PerceptualNet` can give, shallow to deep."""
    return tuple(
        f"relu{block}_{conv}"
        for block, count in enumerate(CONVOLUTIONS[architecture], start=1)
        for conv in range(1, count + 1)
    )


class PerceptualNet(nn.Module):
    """VGG's convolutions, frozen, giving the activations behind any of their ReLUs.

    Args:
        weights: tensors by torchvision's names (`features.0.weight` ...), from the first layer on
            without a gap. Channel widths are read from them; the deepest layers may be missing.
        architecture: which of the two VGGs the names belong to.
        padding_mode: "zeros", as torchvision trained, or "reflect".
        name: what this network is called in cards and messages.
        sha256: of the weights' file, in hexadecimal.
        stands_for: SHA-256 of the network that it was distilled from, where it gives that one's
            activations so closely that losses by either are the same.

    Raises:
        StylizeError: where the weights do not fit together.
    """

    def __init__(
        self,
        weights: dict[str, Tensor],
        architecture: Architecture,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        name: str = "",
        sha256: str = "",
        stands_for: str = "",
    ) -> None:
        super().__init__()
        self.architecture: Architecture = architecture
        self.padding_mode = padding_mode
        self.name = name
        self.sha256 = sha256
        self.stands_for = stands_for
        self.layers = _available_layers(weights, architecture, name)
        for index, layer in self.convolution_names():
            self.register_buffer(f"{layer}_weight", weights[f"features.{index}.weight"].clone())
            self.register_buffer(f"{layer}_bias", weights[f"features.{index}.bias"].clone())
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1))

    def convolution_names(self) -> list[tuple[int, str]]:
        """(number in torchvision's `features` sequence, layer), shallow to deep."""
        return list(zip(_convolution_indices(self.architecture), self.layers, strict=False))

    def measures(self, sha256: object) -> bool:
        """Whether its losses are those of the loss network with this SHA-256."""
        return bool(sha256) and sha256 in (self.sha256, self.stands_for)

    def check_layers(self, layers: Sequence[str]) -> None:
        """Raise UsageError where one of `layers` is not to be had from this network."""
        for layer in layers:
            if layer not in self.layers:
                raise UsageError(
                    f"perceptual network {self.name!r} has no layer {layer!r}; "
                    f"it has {self.layers[0]} to {self.layers[-1]}"
                )

    def forward(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations behind the named ReLUs.

        Args:
            picture: (N, 3, H, W), RGB in 0..1.
            layers: names such as "relu3_1"; nothing deeper than the deepest is computed.

        Returns:
            {name: (N, C, H', W')}, in the order of depth.
        """
        self.check_layers(layers)
        wanted = set(layers)
        features: dict[str, Tensor] = {}
        x = (picture - self.get_buffer("mean")) / self.get_buffer("std")
        for layer in self.layers:
            if len(features) == len(wanted):
                break
            if layer.endswith("_1") and layer != "relu1_1":
                x = F.max_pool2d(x, 2, ceil_mode=True)  # ceil: a side of 1 px stays 1
            x = F.relu(self.convolve(x, layer))
            if layer in wanted:
                features[layer] = x
        return features

    def convolve(self, x: Tensor, layer: str) -> Tensor:
        """A layer's convolution of (N, C, H, W), before its ReLU."""
        padding = 1
        if self.padding_mode == "reflect":
            # Reflection by 1 needs 2 px; a side of 1 is repeated, which is its reflection.
            large = min(x.shape[-2:]) > 1
            x, padding = extend(x, 1) if large else F.pad(x, [1, 1, 1, 1], mode="replicate"), 0
        weight, bias = self.get_buffer(f"{layer}_weight"), self.get_buffer(f"{layer}_bias")
        return F.conv2d(x, weight, bias, padding=padding)


def load_perceptual(name_or_path: str) -> PerceptualNet:
    """Load a loss network: torchvision's by name, or any file of the same key names.

    Args:
        name_or_path: "vgg19-slim", which ships; "vgg16", "vgg19" (torchvision's cache, or a
            download of about 550 MB); or the path of a safetensors file with `features.*` keys,
            whose widths may be narrower. Its metadata may say `architecture` (default vgg19),
            `padding_mode` (default zeros) and `stands_for`.

    Raises:
        UsageError: no such name or file.
        StylizeError: the file is not one, or the download failed.
    """
    if name_or_path in CONVOLUTIONS:
        return _load_torchvision(name_or_path)
    packaged = shipped_loss_network(name_or_path)
    path = packaged if packaged.is_file() else Path(name_or_path)
    if not path.exists():
        raise UsageError(
            f"perceptual network {name_or_path!r}: no such file, and not one of "
            f"{', '.join((SLIM, *CONVOLUTIONS))}"
        )
    return _load_file(path)


def _load_file(path: Path) -> PerceptualNet:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = [key for key in file.keys() if key.startswith("features.")]  # noqa: SIM118
            for key in keys:
                shape = file.get_slice(key).get_shape()
                if max(shape, default=0) > MAX_CHANNELS:
                    raise StylizeError(f"{path}: {key} is {shape}, wider than any VGG")
            weights = {key: file.get_tensor(key).float() for key in keys}
    except (SafetensorError, OSError) as error:
        raise StylizeError(f"{path} is no readable safetensors file: {error}") from error
    architecture = metadata.get("architecture", "vgg19")
    padding_mode = metadata.get("padding_mode", "zeros")
    if architecture not in ("vgg16", "vgg19") or padding_mode not in ("zeros", "reflect"):
        raise StylizeError(
            f"{path}: its metadata says architecture {architecture!r} and padding_mode "
            f"{padding_mode!r}; known are vgg16, vgg19 and zeros, reflect"
        )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    stands_for = metadata.get("stands_for", "")
    return PerceptualNet(weights, architecture, padding_mode, path.stem, sha256, stands_for)


def _load_torchvision(name: str) -> PerceptualNet:
    from torchvision import models  # 2 s of start-up, wanted by nobody else

    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        tensors = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise StylizeError(
            f"the weights of {name} could not be downloaded ({error}); fetch {weights.url} on "
            f"another machine and put it into {cache}, or give --perceptual FILE.safetensors"
        ) from error
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    sha256 = hashlib.sha256(cached.read_bytes()).hexdigest()
    architecture: Architecture = "vgg16" if name == "vgg16" else "vgg19"
    return PerceptualNet(tensors, architecture, "zeros", name, sha256)


def _convolution_indices(architecture: Architecture) -> list[int]:
    """The numbers of VGG's convolutions in torchvision's `features` sequence."""
    indices, index = [], 0
    for count in CONVOLUTIONS[architecture]:
        for _ in range(count):
            indices.append(index)
            index += 2  # a convolution and its ReLU
        index += 1  # the pooling
    return indices


def _available_layers(
    weights: dict[str, Tensor], architecture: Architecture, name: str
) -> tuple[str, ...]:
    """The layers that `weights` hold without a gap, after checking that the widths chain."""
    layers, channels = [], 3
    for layer, index in zip(
        layer_names(architecture), _convolution_indices(architecture), strict=True
    ):
        weight = weights.get(f"features.{index}.weight")
        bias = weights.get(f"features.{index}.bias")
        if weight is None or bias is None:
            break
        if weight.shape[1:] != (channels, 3, 3) or bias.shape != weight.shape[:1]:
            raise StylizeError(
                f"perceptual network {name!r}: features.{index}.weight is {tuple(weight.shape)}; "
                f"{architecture} wants (C, {channels}, 3, 3) there and a bias of (C,)"
            )
        channels = weight.shape[0]
        layers.append(layer)
    if not layers:
        raise StylizeError(f"perceptual network {name!r} holds no features.0.weight and bias")
    return tuple(layers)
