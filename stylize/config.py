"""The settings of a training run: one frozen dataclass, and the files and words that fill it."""

from __future__ import annotations

import difflib
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from stylize.errors import StylizeError, UsageError
from stylize.networks.plan import MAX_GROUND, MAX_WIDTH, MIN_WIDTH, Norm
from stylize.paths import shipped

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

PRICE_GROWTH = 3.0
"""Factor of the prices that keep pictures clean, for a style strength of ten times as much: with
it five paintings came clean at 10, by Gram matrices."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a training run computes, and what its card says.

    Raises:
        UsageError: a value is out of its range; the message names the setting.
    """

    norm: Norm = "instance"
    """What normalises every convolution but the last: instance, batch or none."""
    width: float = 1.0
    """Multiplies all channel counts, 0.125 to 4; 1 is Johnson's network."""

    ground: float = 0.0
    """Standard deviation of the faint strokes that the network paints on, in parts of the photo's
    own, 0 to 2; presets choose. 0: that of the style that is begun from; without any, calm areas
    get one small stroke over and over."""

    steps: int = 2000
    """Optimiser steps, 1 and up."""
    batch_size: int = 2
    """Photos a step, 1 and up."""
    size: int = 256
    """Side of the square training crops in pixels, 32 to 2048."""
    half_size_share: float = 0.0
    """Part of the steps, from the first, whose crops have half that side, 0 to 1: a coarse picture
    takes a quarter of the time and less, and a style's colours and strokes are learnt on it."""
    seed: int = 0
    """Of the initial weights and of every sample, 0 and up."""
    start: str = "auto"
    """What to begin from: a style or model file of the same norm and width; none: random weights;
    auto: the shipped style that is nearest to the painting."""

    style_size: int = 512
    """Shorter side of the painting in pixels, 32 to 4096; larger means broader, softer strokes."""
    style_grit: float = 0.0
    """The grit, detail of a pixel or two, from which on the painting is smoothed along its strokes
    before it is learned, 0 to 1: specks, canvas and paper go, edges stay. Presets choose; 0: it is
    learned as it is."""
    style_strength: float = 1.0
    """How much style against content: 0 gives the photo back, more paints more boldly."""
    covariance_weight: float = 0.0
    """What the features' covariances, the brush, count in the style loss beside the Gram matrices,
    0 and up; presets choose. 0: Gram matrices alone, as in the papers, which mostly are colours."""
    content_weight: float = 1.0
    """Factor of the content loss, 0 and up."""
    content_focus: float = 0.0
    """How much less a place counts in it where the photo is flat, 0 to 1; presets choose. 0: all
    places alike, as in the papers, and small faces lose their features to the strokes."""
    tv_weight: float = 0.0
    """Factor of the total variation, 0 and up; a little removes high-frequency noise."""
    flat_weight: float = 20.0
    """Factor of the total variation where the photo is flat, 0 and up; 0 lets the network fill calm
    areas with fine hatching. This and the next four are prices at a style strength of 1, and grow
    with it (`price_factor`)."""
    patch_weight: float = 0.0
    """Factor of the colours of areas that the photo does not ask for, 0 and up; presets choose. 0
    lets the network set patches of the painting's colours into calm areas, as they come."""
    palette_weight: float = 0.0
    """Factor of the mean square by which colours leave the painting's, 0 and up; presets choose. 0
    lets the photo's own colours, and those of the style that was begun from, tint a drawing."""
    lattice_weight: float = 50.0
    """Factor of the energy of patterns locked to the network's 4 px lattice, 0 and up; 0 lets the
    network fake fine texture with a grid."""
    edge_weight: float = 5.0
    """Factor of the mean tint along pictures' edges, 0 and up; 0 lets the network place colours
    there that the painting has and the photo gives no place for."""
    gamut_weight: float = 10.0
    """Factor of the mean square by which pictures leave 0..1, 0 and up; the other losses then see
    them clamped, as a file holds them. 0: they see them as they are."""
    loss_units: Literal["normalised", "paper"] = "normalised"
    """normalised: losses in parts of their target. paper: the raw sums of Johnson et al. 2016."""
    content_layers: tuple[str, ...] = ()
    """Layers of the content loss, such as relu3_1; empty: the loss network's usual ones."""
    style_layers: tuple[str, ...] = ()
    """Layers of the style loss; empty: the loss network's usual ones."""
    perceptual: str = "vgg19-slim"
    """The loss network: vgg19-slim, which ships; vgg16 or vgg19, torchvision's; or a file."""

    optimiser: Literal["muon", "adam"] = "muon"
    """muon: Muon for the kernels inside the network, Adam for all else. adam: Adam for all."""
    learning_rate: float = 1e-3
    """The step size at its highest, above 0: Adam's alone; muon takes parts and multiples of it."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises from 0, 0 and up."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient, above 0: a batch that is far off does not throw a run back."""
    decay: Literal["cosine", "none"] = "cosine"
    """How the learning rate falls: to 0 along half a cosine, or not at all."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Precision = "auto"
    """auto, fp32, tf32, bf16 or fp16; auto takes bf16 where the device is faster in it."""
    cuda_graph: bool = True
    """Whether an NVIDIA GPU records a step and replays it, which spares the host some 1,200
    launches; never with fp16, nor with several processes."""
    held_out_photos: int = 128
    """Photos on which the held-out loss is measured before and after, 1 to 100000."""
    checkpoint_every: int = 100
    """Steps between checkpoints, 1 and up; a run that fails goes back to the last one."""
    preview_every: int = 200
    """Steps between pictures of the preview strip; 0 for none."""
    title: str = ""
    """Of the painting, with artist and year, for the model's card."""
    licence: str = ""
    """Of the trained weights, for the model's card."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:  # also false for NaN
                wanted = f"at least {low}" if high == float("inf") else f"{low} to {high}"
                raise UsageError(f"{name} is {value}; it must be {wanted}")
        for name in ("learning_rate", "gradient_clip"):
            if not 0 < getattr(self, name) < _INFINITY:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.half_size_share and self.size < 64:
            raise UsageError(f"half_size_share needs a size of at least 64; it is {self.size}")
        if not (self.content_weight or self.style_strength):
            raise UsageError("content_weight and style_strength are both 0: nothing to learn")

    @property
    def price_factor(self) -> float:
        """What multiplies the weights of patches, the palette, flat areas, the lattice and edges.

        A stronger style outbids prices that stay as they are. Raw losses have prices of their own.
        """
        if self.loss_units == "paper":
            return 1.0
        return float(self.style_strength ** math.log10(PRICE_GROWTH))

    @property
    def half_size_steps(self) -> int:
        """How many steps, from the first, have crops of half the side."""
        return round(self.half_size_share * self.steps)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def changed(self, settings: Mapping[str, Any]) -> TrainConfig:
        """A copy with some settings changed, each checked for its name and type.

        Raises:
            UsageError: unknown name (with the nearest known one), wrong type, or out of range.
        """
        return replace(self, **{name: _coerce(name, value) for name, value in settings.items()})


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
_INFINITY = float("inf")
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("width", MIN_WIDTH, MAX_WIDTH),
    ("ground", 0, MAX_GROUND),
    ("steps", 1, _INFINITY),
    ("batch_size", 1, 4096),
    ("size", 32, 2048),
    ("half_size_share", 0, 1),
    ("seed", 0, 2**63 - 1),
    ("style_size", 32, 4096),
    ("style_grit", 0, 1),
    ("style_strength", 0, 1e12),
    ("covariance_weight", 0, 1e12),
    ("content_weight", 0, 1e12),
    ("content_focus", 0, 1),
    ("tv_weight", 0, 1e12),
    ("flat_weight", 0, 1e12),
    ("patch_weight", 0, 1e12),
    ("palette_weight", 0, 1e12),
    ("lattice_weight", 0, 1e12),
    ("edge_weight", 0, 1e12),
    ("gamut_weight", 0, 1e12),
    ("warmup_steps", 0, _INFINITY),
    ("preview_every", 0, _INFINITY),
    ("held_out_photos", 1, 100_000),
    ("checkpoint_every", 1, _INFINITY),
)


def load_config(name_or_path: str) -> dict[str, Any]:
    """Read the settings of a config file.

    Args:
        name_or_path: one of the shipped configs by its stem, such as "batch_norm", or a path.

    Returns:
        What the file sets, by name; to be given to `TrainConfig.changed`.

    Raises:
        UsageError: no such file.
        StylizeError: the file is no TOML.
    """
    path = Path(name_or_path)
    if not (path.suffix or path.parent != Path()):
        folder = shipped("configs")
        path = folder / f"{name_or_path}.toml"
        if not path.is_file():
            known = sorted(file.stem for file in folder.glob("*.toml"))
            raise UsageError(f"no config {name_or_path!r}; there are {', '.join(known)}")
    if not path.is_file():
        raise UsageError(f"no such config file: {path}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors mark it so
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise StylizeError(f"{path} is no readable TOML: {error}") from error


def resolve(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[TrainConfig, dict[str, str]]:
    """Lay settings over the defaults, one layer after the other.

    Args:
        layers: (where from, settings); later ones win.

    Returns:
        The settings, and where each comes from.

    Raises:
        UsageError: as `TrainConfig.changed` does.

    Example:
        >>> config, origins = resolve([("preset", {"steps": 100}), ("--steps", {"steps": 7})])
        >>> config.steps, origins["steps"], origins["seed"]
        (7, '--steps', 'default')
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_NAMES, "default")
    for origin, settings in layers:
        values |= settings
        origins |= dict.fromkeys(settings, origin)
    return TrainConfig().changed(values), origins


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` words as of --set; values as in TOML, quotes around words optional.

    Example:
        >>> parse_settings(["steps=300", "norm=batch", "tv_weight=1e-3"])
        {'steps': 300, 'norm': 'batch', 'tv_weight': 0.001}

    Raises:
        UsageError: a word without `=`.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise UsageError(f"--set {word!r}: write it as key=value")
        try:
            settings[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name.strip()] = text.strip()
    return settings


_TYPES = typing.get_type_hints(TrainConfig)
_NAMES = tuple(field.name for field in fields(TrainConfig))


def _coerce(name: str, value: Any) -> Any:
    """The value in the field's own type."""
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_NAMES)}"
        raise UsageError(f"no setting {name!r}; {hint}")
    wanted = _TYPES[name]
    if get_origin(wanted) is Literal:
        if value in get_args(wanted):
            return value
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(get_args(wanted))}")
    if get_origin(wanted) is tuple:
        words = value.split(",") if isinstance(value, str) else value
        if isinstance(words, list | tuple) and all(isinstance(word, str) for word in words):
            return tuple(word.strip() for word in words if word.strip())
        raise UsageError(f"{name} is {value!r}; it must be a list of layer names")
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise UsageError(f"{name} is {value!r}; it must be {_KINDS[wanted]}")
    return value
