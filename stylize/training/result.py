"""What a run gives: pictures of how far it is, and the model file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

import stylize
from stylize.devices import autocast
from stylize.errors import StylizeError
from stylize.held_out import CROP, SHORTER_SIDE, HeldOutLoss
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import crop_centre, resize_shorter_side, thumbnail
from stylize.imaging.synthetic import read_source
from stylize.imaging.tensors import to_pixels, to_tensor
from stylize.model_file import TARGET_PREFIX, THUMBNAIL, ModelCard, write_model
from stylize.training.trainer import Trainer

PREVIEW_PHOTOS = 4
"""Photos on the preview strip, the first held-out ones."""


def preview(trainer: Trainer, count: int = PREVIEW_PHOTOS) -> list[list[Pixels]]:
    """Fixed photos and what the network makes of them now: two rows of pictures."""
    photos = [
        crop_centre(resize_shorter_side(picture, SHORTER_SIDE), CROP)
        for picture in _readable(trainer, count)
    ]
    if not photos:
        return [[], []]
    trainer.network.eval()
    with torch.inference_mode(), autocast(trainer.device, trainer.precision):
        restyled = trainer.network(to_tensor(photos).to(trainer.device))
    return [photos, to_pixels(restyled)]


def save_model(trainer: Trainer, path: Path, after: HeldOutLoss | None = None) -> ModelCard:
    """Write the model file with everything known about it; the network may be half trained.

    Raises:
        StylizeError: the file cannot be written.
    """
    config, network, perceptual = trainer.config, trainer.network, trainer.perceptual
    card = ModelCard(
        name=trainer.name,
        norm=config.norm,
        width=config.width,
        ground=network.plan.ground,
        title=config.title,
        style_image=trainer.painting.name,
        style_sha256=trainer.painting_sha256,
        perceptual={
            "name": perceptual.name,
            "sha256": perceptual.sha256,
            "architecture": perceptual.architecture,
        },
        settings=config.as_dict()
        | {
            "perceptual": perceptual.name,  # a path would say whose machine it was
            "start": Path(config.start).stem,
            "device": trainer.device.type,
            "precision": trainer.precision,
            "processes": trainer.world.size,
        },
        photos=len(trainer.photos),
        generated=len(trainer.sources) - len(trainer.photos),
        steps=trainer.step,
        held_out_before=trainer.before.as_dict() if trainer.before else None,
        held_out_after=after.as_dict() if after else None,
        licence=config.licence,
        version=stylize.__version__,
        start=trainer.start,
    )
    targets = {TARGET_PREFIX + layer: gram for layer, gram in trainer.held_out_targets.items()}
    tensors = {name: tensor.cpu() for name, tensor in (network.tensors() | targets).items()}
    for picture in preview(trainer, 1)[1]:
        tensors[THUMBNAIL] = torch.from_numpy(thumbnail(picture))
    write_model(path, card, tensors)
    return card


def _readable(trainer: Trainer, count: int) -> list[Pixels]:
    pictures: list[Pixels] = []
    for path in trainer.held_out:
        if len(pictures) == count:
            break
        with suppress(StylizeError):  # unreadable ones are counted where they are measured
            pictures.append(read_source(path, enough=SHORTER_SIDE))
    return pictures
