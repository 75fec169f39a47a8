"""Any model's instance norm layers, exchanged for this project's in place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from torch import nn

from stylize.networks.layers import InstanceNorm2d


def convert_instance_norm(model: nn.Module) -> int:
    """Put every `nn.InstanceNorm2d` of a model on this project's operator.

    The layers stay the objects they are, with their parameters, hooks and names, so optimisers and
    checkpoints go on as before. A ReLU that directly follows inside one `nn.Sequential` is fused
    into its norm and leaves an Identity in its place, unless either module is used elsewhere too or
    has hooks, which would see other values. Layers with running statistics are left alone.

    Args:
        model: anything; changed in place. May itself be an `nn.InstanceNorm2d`.

    Returns:
        How many layers were exchanged.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU())
        >>> convert_instance_norm(model)
        1
        >>> model[1], model[2]
        (InstanceNorm2d(8, eps=1e-05, affine=False, relu=True), Identity())
    """
    converted = 0
    for module in model.modules():
        if type(module) is nn.InstanceNorm2d and not module.track_running_stats:
            # The class alone changes: what other modules, hooks and optimisers hold stays valid.
            module.__class__ = InstanceNorm2d
            assert isinstance(module, InstanceNorm2d)
            module.relu = False
            converted += 1
    uses = Counter(
        id(child) for parent in model.modules() for child in parent._modules.values() if child
    )
    for sequence in model.modules():
        if type(sequence) is nn.Sequential:  # subclasses may call their children otherwise
            _fuse_relus(sequence, uses)
    return converted


def _fuse_relus(sequence: nn.Sequential, uses: Counter[int]) -> None:
    # Not named_children(), which leaves out what comes a second time: it may stand between the two.
    for (_, norm), (name, relu) in pairwise(list(sequence._modules.items())):
        if (
            type(norm) is InstanceNorm2d
            and type(relu) is nn.ReLU
            and not norm.relu
            and uses[id(norm)] == uses[id(relu)] == 1
            and not (_has_hooks(norm) or _has_hooks(relu))
        ):
            norm.relu = True
            setattr(sequence, name, nn.Identity())


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
