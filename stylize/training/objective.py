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
from stylize.palette import palette_of


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
        content_weight=config.content_weight,
        style_weight=config.style_strength,
        tv_weight=config.tv_weight,
        flat_weight=config.flat_weight * config.price_factor,
        lattice_weight=config.lattice_weight * config.price_factor,
        edge_weight=config.edge_weight * config.price_factor,
        gamut_weight=config.gamut_weight,
        units=config.loss_units,
        covariances=style_targets(perceptual, painting, style_layers, covariance_matrix),
        covariance_weight=config.covariance_weight,
        content_focus=config.content_focus,
        patch_weight=config.patch_weight * config.price_factor,
        palette=palette_of(painting),
        palette_weight=config.palette_weight * config.price_factor,
    )
