"""Put trained styles into models/ at half the size: `python scripts/ship_styles.py FILE...`.

Convolutions are rounded to half precision; norms and targets, 2 % of a file, stay as they are. That
restyled pictures stay within 1/255 is checked on scikit-image's photos, one of which becomes the
small picture of `stylize styles`. The file of full precision is named by its hash.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from skimage import data

import stylize
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import shrink_to, thumbnail
from stylize.model_file import THUMBNAIL, file_sha256, read_card, write_model

MODELS = Path(__file__).parents[1] / "models"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
MOST = 1
"""Levels of 255 by which rounding may change a picture."""

SIDE = 512
"""Longer side of the compared pictures, px."""


def ship(source: Path, target: Path) -> int:
    """Write a rounded copy where it is as good: the largest difference, in levels of 255."""
    card = read_card(source)
    tensors = load_file(source)
    for name in card.plan.parameter_shapes():
        if ".conv." in name:
            tensors[name] = tensors[name].half()
    photos: list[Pixels] = [shrink_to(np.asarray(getattr(data, name)()), SIDE) for name in PHOTOS]
    restyle = stylize.load(source, precision="fp32")  # bf16 rounds by more than is asked about
    restyled = [restyle(photo) for photo in photos]
    tensors[THUMBNAIL] = torch.from_numpy(thumbnail(restyled[0]))
    with tempfile.TemporaryDirectory(dir=MODELS) as folder:
        trial = Path(folder) / target.name
        shipped = replace(card, name=target.stem, rounded_from=file_sha256(source))
        write_model(trial, shipped, tensors)
        rounded = stylize.load(trial, precision="fp32")
        difference = max(
            int(np.abs(rounded(photo).astype(int) - before).max())
            for photo, before in zip(photos, restyled, strict=True)
        )
        if difference <= MOST:
            trial.replace(target)
    return difference


def main() -> None:
    """Ship each file that is given, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    for source in parser.parse_args().models:
        if read_card(source).rounded_from:
            parser.error(f"{source} is rounded already")
        target = MODELS / source.name
        difference = ship(source, target)
        if difference > MOST:
            parser.error(f"{source} differs by {difference}/255 when rounded; it is not shipped")
        print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, within {difference}/255")


if __name__ == "__main__":
    main()
