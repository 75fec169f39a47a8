"""The transformer network as data, without a framework.

Everything that runs, checks, tiles or exports the network reads this one description, so that no
two of them can disagree about what the network is.

Source: Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution", ECCV 2016, with the supplement's architecture; upsampling by nearest neighbour
and convolution as in Odena, Dumoulin and Olah, "Deconvolution and Checkerboard Artifacts", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from stylize.errors import UsageError

Norm = Literal["instance", "batch", "none"]
NORMS: tuple[Norm, ...] = get_args(Norm)

MIN_WIDTH, MAX_WIDTH = 0.125, 4.0
"""Bounds of the width multiplier: 4 channels at full resolution, and 50 M parameters."""

MAX_GROUND = 2.0
"""Bound of the ground's strength: beyond, little is left to be seen of the photo."""

MIN_SIDE = 8
"""The least that the network takes: two strides leave 2 pixels, and reflection padding by 1 needs
2; the first convolution pads by 4 and needs 5. Shorter sides are extended: `missing_pixels`."""

EPS = 1e-5
"""Added to every variance, of instance and of batch norm."""

INPUT_SHIFT = -0.5
"""Added to the 0..1 picture first: centred values round less in bfloat16. Instance norm removes any
constant, so this costs the network nothing."""


def missing_pixels(side: int) -> int:
    """Pixels by which a side is extended, its last one repeated: one below MIN_SIDE to twice that.

    With MIN_SIDE the middle of the network would have planes of two numbers, which instance norm
    sets a standard deviation apart, be they as near as rounding: a photo of 1 x 7 px came out 40
    levels of 255 apart on two backends, and with twice MIN_SIDE a tenth of a level.

    Example:
        >>> [missing_pixels(side) for side in (1, 7, 8, 9)]
        [15, 9, 0, 0]
    """
    return 0 if side >= MIN_SIDE else 2 * MIN_SIDE - side


@dataclass(frozen=True)
class Stage:
    """One convolution with what surrounds it, in the order in which it happens.

    upsample (nearest) -> reflection padding by kernel // 2 -> convolution -> norm -> ReLU ->
    + the input of the stage before (where `residual`).
    """

    name: str
    """Prefix of the stage's parameters in a model file."""
    in_channels: int
    out_channels: int
    kernel: int
    """Side of the square kernel in pixels, odd."""
    stride: int = 1
    upsample: int = 1
    """Factor of the nearest-neighbour enlargement before the convolution."""
    norm: Norm = "none"
    relu: bool = False
    residual: bool = False
    """Whether the input of the stage before this one is added to the result."""
    bias: bool = True
    """Whether the convolution has a bias; a norm behind it would only remove it again."""

    @property
    def padding(self) -> int:
        """Pixels of reflection on each side of the convolution's input."""
        return self.kernel // 2

    @property
    def makes_colours(self) -> bool:
        """Whether it is the last stage, whose few channels fill no register: backends make several
        of its pixels at a time.
        """
        return self.out_channels == 3

    def output_side(self, side: int) -> int:
        """Pixels of a side behind this stage, for `side` pixels before it."""
        return (side * self.upsample - 1) // self.stride + 1

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the tensors that a model file holds for this stage."""
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.name}.conv.weight": (
                self.out_channels,
                self.in_channels,
                self.kernel,
                self.kernel,
            )
        }
        if self.bias:
            shapes[f"{self.name}.conv.bias"] = (self.out_channels,)
        if self.norm != "none":
            names = ["weight", "bias"]
            if self.norm == "batch":
                names += ["running_mean", "running_var"]
            shapes |= {f"{self.name}.norm.{name}": (self.out_channels,) for name in names}
        return shapes


@dataclass(frozen=True)
class Plan:
    """A whole network: its stages in order, and what made it."""

    norm: Norm
    width: float
    stages: tuple[Stage, ...]
    ground: float = 0.0
    """Standard deviation of the field that is added to the picture before the first stage, in parts
    of the picture's own; see `stylize.networks.ground`."""

    def takes_weights_of(self, other: Plan) -> bool:
        """Whether it has the same stages; on another ground they do, and learn it."""
        return self.stages == other.stages

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of every tensor of the network in a model file."""
        return {
            name: shape for stage in self.stages for name, shape in stage.parameter_shapes().items()
        }


@cache
def make_plan(norm: Norm = "instance", width: float = 1.0, ground: float = 0.0) -> Plan:
    """Describe the network for one kind of normalisation and one width.

    Args:
        norm: what normalises every convolution but the last.
        width: multiplies all channel counts, 0.125 to 4; 1 is Johnson's network.
        ground: how strong the field is that it paints on, 0 to 2; 0 is Johnson's network.

    Raises:
        UsageError: for a norm, a width or a ground that there is not.

    Example:
        >>> [stage.name for stage in make_plan().stages][:4]
        ['down1', 'down2', 'down3', 'res1a']
        >>> make_plan(width=0.5).stages[-1].in_channels
        16
    """
    if norm not in NORMS:
        raise UsageError(f"norm is {norm!r}; it must be one of {', '.join(NORMS)}")
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise UsageError(f"width is {width}; it must lie between {MIN_WIDTH} and {MAX_WIDTH}")
    if not 0 <= ground <= MAX_GROUND:
        raise UsageError(f"ground is {ground}; it must lie between 0 and {MAX_GROUND}")
    c1, c2, c3 = (round(channels * width) for channels in (32, 64, 128))
    normed = {"norm": norm, "bias": norm == "none"}

    def stage(name: str, cin: int, cout: int, kernel: int = 3, **more: object) -> Stage:
        return Stage(name, cin, cout, kernel, **{"relu": True, **normed, **more})  # type: ignore[arg-type]

    stages = [
        stage("down1", 3, c1, kernel=9),
        stage("down2", c1, c2, stride=2),
        stage("down3", c2, c3, stride=2),
    ]
    for block in range(1, 6):
        stages += [
            stage(f"res{block}a", c3, c3),
            stage(f"res{block}b", c3, c3, relu=False, residual=True),
        ]
    stages += [
        stage("up1", c3, c2, upsample=2),
        stage("up2", c2, c1, upsample=2),
        stage("out", c1, 3, kernel=9, norm="none", bias=True, relu=False),
    ]
    return Plan(norm, width, tuple(stages), ground)
