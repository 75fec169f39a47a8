"""A painting's colours: what pictures are kept within, and what a style begins with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Numbers = npt.NDArray[np.float64]

RARE = 0.005
"""Part of a painting's pixels, at either end of an axis, whose colours count as chance: a scan's
noise, a stamp."""

LEAST_VARIANCE = 1e-3
"""Added to the variance of what is recoloured: a direction of colour in which pictures hardly vary
holds noise, and would be enlarged."""


class Palette(NamedTuple):
    """Which colours a painting has."""

    mean: Tensor
    """(3,)."""
    covariance: Tensor
    """(3, 3)."""
    axes: Tensor
    """(2, 3), of length 1 each: the directions in which it varies least. The third, lightness
    mostly, has rare ends that matter, the lines of a drawing."""
    low: Tensor
    """(2,), along each axis."""
    high: Tensor
    """(2,)."""


def palette_of(painting: Tensor) -> Palette:
    """The colours of a painting.

    Args:
        painting: (N, 3, H, W), RGB in 0..1.

    Returns:
        In float32, on the same device.
    """
    colours = _colours(painting)
    covariance = np.cov(colours, ddof=0)
    axes = np.linalg.eigh(covariance)[1].T[:2]
    low, high = np.quantile(axes @ colours, [RARE, 1 - RARE], axis=1)
    found = (colours.mean(1), covariance, axes, low, high)
    return Palette(*(_tensor(x, painting.device) for x in found))


def foreign_colours(picture: Tensor, palette: Palette) -> Tensor:
    """How far a picture's colours are from the painting's: rose and mint in a pencil drawing.

    To a loss network a faint tint is little beside strokes, and the photo's colours, or those of
    the style that was begun from, are long in going.

    Args:
        picture: (N, 3, H, W), RGB in 0..1.

    Returns:
        A scalar, float32: the mean squared distance, of the range squared.
    """
    with torch.autocast(picture.device.type, enabled=False):  # half the digits are a level each
        along = palette.axes @ picture.float().flatten(2)  # (N, 2, H * W)
    low, high = palette.low[:, None], palette.high[:, None]
    return (along - along.clamp(low, high)).square().sum(1).mean()


def colour_map(pictures: Tensor, palette: Palette) -> tuple[Tensor, Tensor]:
    """What gives pictures the mean and the covariance of a painting's colours, and changes them
    least.

    Args:
        pictures: (N, 3, H, W), RGB in 0..1.

    Returns:
        What `recolour` takes: (3, 3) and (3,), float32.

    Source: Pitie and Kokaram, "The linear Monge-Kantorovitch linear colour mapping for
    example-based colour transfer", 2007.
    """
    colours = _colours(pictures)
    root = _root(np.cov(colours, ddof=0) + LEAST_VARIANCE * np.eye(3))
    back = np.linalg.inv(root)
    wanted, mean = (x.cpu().double().numpy() for x in (palette.covariance, palette.mean))
    turn = back @ _root(root @ wanted @ root) @ back
    shift = mean - turn @ colours.mean(1)
    return _tensor(turn, pictures.device), _tensor(shift, pictures.device)


def recolour(pictures: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """(N, 3, H, W) -> the same, every colour c as turn @ c + shift."""
    return (pictures.permute(0, 2, 3, 1) @ turn.T + shift).permute(0, 3, 1, 2)


def _colours(pictures: Tensor) -> Numbers:
    """(N, 3, H, W) -> (3, pixels), in double precision, which not every device has."""
    return pictures.transpose(0, 1).flatten(1).cpu().double().numpy()


def _tensor(values: Numbers, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, torch.float32)


def _root(matrix: Numbers) -> Numbers:
    """The square root of a covariance matrix."""
    values, vectors = np.linalg.eigh(matrix)
    root: Numbers = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    return root
