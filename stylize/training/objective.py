"""What a run minimises: the losses of one painting, with its settings' weights."""

from __future__ import annotations

from torch import Tensor

from stylize.config import TrainConfig
from stylize.losses import PerceptualLoss, covariance_matrix, style_targets
from stylize.networks.perceptual import (
    DEFAULT_CONTENT_LAYERS,
    DEFAULT_STYLE_LAYERS,
    PerceptualNet,
)


def make_loss(config: TrainConfig, perceptual: PerceptualNet, painting: Tensor) -> PerceptualLoss:
    """The loss that the settings ask for.

    Args:
        painting: (1, 3, H, W), RGB in 0..1, on the loss network's device.

    Raises:
        UsageError: the loss network has no such layer.
    """
    style_layers = config.style_layers or DEFAULT_STYLE_LAYERS[perceptual.architecture]
    content_layers = config.content_layers or DEFAULT_CONTENT_LAYERS[perceptual.architecture]
    return PerceptualLoss(
        perceptual,
        style_targets(perceptual, painting, style_layers),
        content_layers,
        config.content_weight,
        config.style_strength,
        config.tv_weight,
        config.flat_weight * config.price_factor,
        config.lattice_weight * config.price_factor,
        config.edge_weight * config.price_factor,
        config.gamut_weight,
        config.loss_units,
        style_targets(perceptual, painting, style_layers, covariance_matrix),
        config.covariance_weight,
        config.content_focus,
        config.patch_weight * config.price_factor,
    )
