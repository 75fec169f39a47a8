"""The transformer network: photo in, restyled picture out, in one forward pass."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from stylize.devices import is_exporting
from stylize.networks.layers import ConvStage, Ground, InstanceNorm2d, crop, extend_edges
from stylize.networks.plan import INPUT_SHIFT, Norm, Plan, Stage, make_plan
from stylize.ops.extend import extend
from stylize.ops.route import route


class TransformerNet(nn.Module):
    """Johnson's image transformation network, built from a plan.

    Args:
        norm: "instance", "batch" or "none"; the widths are the same for all.
        width: multiplies all channel counts.
        ground: how strong the field is that it paints on; see `stylize.networks.ground`.

    Source: Johnson et al. 2016; see `stylize.networks.plan`.

    Example:
        >>> import torch
        >>> TransformerNet(width=0.125)(torch.rand(1, 3, 5, 13)).shape
        torch.Size([1, 3, 5, 13])
    """

    def __init__(self, norm: Norm = "instance", width: float = 1.0, ground: float = 0.0) -> None:
        super().__init__()
        self.plan: Plan = make_plan(norm, width, ground)
        for stage in self.plan.stages:
            module = ConvStage(stage)
            _initialise_stage(module, stage)
            self.add_module(stage.name, module)
        self.lay_ground(ground)

    def forward(
        self, photo: Tensor, place: tuple[int, int] | Tensor = (0, 0), stretch: float = 1.0
    ) -> Tensor:
        """Restyle a batch of photos.

        Args:
            photo: (N, 3, H, W), RGB in 0..1, any H and W from 1.
            place: row and column of the ground at which the photos lie, which training moves; two
                numbers, or (2,), whole numbers on the same device.
            stretch: of the ground, where the photos lie at its first pixel; see
                `stylize.networks.ground.ground_at`.

        Returns:
            (N, 3, H, W), RGB, not clamped.
        """
        height, width = photo.shape[-2:]
        x = extend_edges(photo) + INPUT_SHIFT
        if self.ground is not None:
            x = self.ground(x, place, stretch)
        x = self._ahead(x) if self._can_go_ahead(x) else self._in_turn(x)
        # The decoder's sides are multiples of 4; cropping earlier would change the statistics.
        return crop(x, height, width)

    def _in_turn(self, x: Tensor) -> Tensor:
        before = x
        for stage in self.plan.stages:
            y = self._stage(stage.name)(x, before if stage.residual else None)
            before, x = x, y
        return x

    def _can_go_ahead(self, x: Tensor) -> bool:
        # First, so that nothing traces into how the route is found out.
        if torch.compiler.is_compiling() or is_exporting() or torch.is_grad_enabled():
            return False
        return self.plan.norm == "instance" and route(x.device.type) == "triton"

    def _ahead(self, x: Tensor) -> Tensor:
        """`_in_turn` with each norm writing what the next convolution reads."""
        stages = self.plan.stages
        x = before = extend(x, stages[0].padding, stages[0].upsample)
        for index, (stage, following) in enumerate(pairwise(stages)):
            module = self._stage(stage.name)
            assert isinstance(module.norm, InstanceNorm2d)
            residual = None
            if stage.residual:
                inside = slice(stages[index - 1].padding, -stages[index - 1].padding)
                residual = before[..., inside, inside]
            y = module.norm.extended(
                module.conv(x), residual, following.padding, following.upsample
            )
            before, x = x, y
        restyled: Tensor = self._stage(stages[-1].name).conv(x)
        return restyled

    def _stage(self, name: str) -> ConvStage:
        module = self.get_submodule(name)
        assert isinstance(module, ConvStage)
        return module

    def lay_ground(self, strength: float) -> None:
        """Paint on another ground from now on; the weights stay."""
        self.plan = make_plan(self.plan.norm, self.plan.width, strength)
        weight = next(self.parameters())
        self.ground = Ground(strength).to(weight.device, weight.dtype) if strength else None

    def recolour(self, turn: Tensor, shift: Tensor) -> None:
        """Recolour all pictures from now on, as `stylize.palette.recolour` does.

        The last layer is linear, and takes that in.
        """
        conv = self._stage(self.plan.stages[-1].name).conv
        assert conv.bias is not None
        with torch.no_grad():
            conv.weight.copy_(torch.einsum("ij,jchw->ichw", turn, conv.weight))
            conv.bias.copy_(turn @ conv.bias + shift)

    def tensors(self) -> dict[str, Tensor]:
        """The state as a model file holds it: by the plan's names, without torch's counters."""
        return {name: t for name, t in self.state_dict().items() if not name.endswith(_COUNTER)}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over the state of a model file."""
        counters = {name: t for name, t in self.state_dict().items() if name.endswith(_COUNTER)}
        self.load_state_dict(tensors | counters)


_COUNTER = "num_batches_tracked"  # batch norm's, which only matters without a momentum

SKETCH = 0.1
"""Scale of the last layer's first weights: a faint sketch on mid-grey. At full He scale the first
pictures are noise far outside 0..1, and some 50 steps go into damping it (held-out loss of Starry
Night after 75 steps: 1.17 with 0.1; after 150 steps without: 2.09)."""


def _initialise_stage(module: ConvStage, stage: Stage) -> None:
    """He initialisation (He et al. 2015), and a first picture that is not black.

    Residual blocks start at full strength: with gamma = 0, as in ResNets, Adam needs hundreds of
    steps to raise it, and the loss jumps about meanwhile (1.08 against 0.86 after 300 steps).
    """
    nn.init.kaiming_normal_(module.conv.weight, nonlinearity="relu" if stage.relu else "linear")
    if module.conv.bias is not None:
        nn.init.zeros_(module.conv.bias)
    if stage.name == "out":
        assert module.conv.bias is not None
        with torch.no_grad():
            module.conv.weight.mul_(SKETCH)
        nn.init.constant_(module.conv.bias, 0.5)
