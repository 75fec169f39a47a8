"""What each setting of the presets does: a painting learned with all of them, and without each.

    python scripts/leave_one_out.py PAINTING --content DIR [--steps 800] [--folder DIR]

All runs begin from the same random weights and see the same crops; what one goes without is as in
the papers. Prints the table of `measure_brush.py`, and draws two photos and what each run makes of
them. Models are kept in the folder, by painting and steps, and not trained again. On a CPU a run
has one core, and as many run at once as there are.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from make_gallery import folded, photo, rows
from measure_brush import HEADER, measured

import stylize
from stylize.config import TrainConfig, load_config
from stylize.devices import resolve_device
from stylize.imaging.write import write_picture
from stylize.networks.perceptual import SLIM, load_perceptual
from stylize.presets import preset_settings
from stylize.training.data import split_content
from stylize.training.result import save_model
from stylize.training.trainer import Trainer

NO_FLAT = {"flat_weight": 0.0}
NO_GRID = {"lattice_weight": 0.0, "gamut_weight": 0.0, "edge_weight": 0.0}

VARIANTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "no covariances": {"covariance_weight": 0.0},
    "no ground": {"ground": 0.0},
    "coarse content": {"content_layers": (), "content_weight": 1.0, "content_focus": 0.0},
    "no price for patches": {"patch_weight": 0.0},
    "no price for foreign colours": {"palette_weight": 0.0},
    "no price for flat areas": NO_FLAT,
    "none for grid, edges, gamut": NO_GRID,
    "the scan as it is": {"style_grit": 0.0},
    "nothing": load_config("gram_matrices") | NO_FLAT | NO_GRID,
}
"""What each run has differently, by what stands above its pictures."""

PHOTOS = ("astronaut", "rocket")
WIDTH = 4
"""Pictures in a row."""


def learn(config: TrainConfig, painting: Path, content: Path, item: tuple[str, Path]) -> str:
    """Train one run where its model is not there yet, and measure it: its row of the table.

    Args:
        item: the run's name in `VARIANTS`, and where its model lies.
    """
    name, path = item
    if config.device == "cpu":
        torch.set_num_threads(1)
    if not path.is_file():
        trainer = Trainer(config.changed(VARIANTS[name]), painting, content, path.stem)
        for _ in trainer.steps():
            pass
        save_model(trainer, path, trainer.evaluate())
    held_out = split_content(content, seed=0)[1]
    return f"| {name} | {measured(str(path), load_perceptual(SLIM), painting, held_out)}"


def main() -> None:
    """Train, print the table, draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("painting", type=Path)
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--folder", type=Path, default=Path("leave-one-out"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    run_of = f"{arguments.painting.stem}-{arguments.steps}"
    paths = {name: arguments.folder / f"{run_of}-{slug(name)}.safetensors" for name in VARIANTS}
    device = resolve_device("auto").type
    config = TrainConfig().changed(
        preset_settings("best", device)
        | {"steps": arguments.steps, "start": "none", "device": device}
        | {"half_size_share": 0.85, "held_out_photos": 8}
    )
    run = partial(learn, config, arguments.painting, arguments.content)
    at_once = (os.cpu_count() or 1) if device == "cpu" else 1
    with get_context("spawn").Pool(at_once) as pool:
        print(HEADER)
        for row in pool.imap(run, paths.items(), chunksize=1):
            print(row, flush=True)
    styles = [stylize.load(path, precision="fp32") for path in paths.values()]
    page = folded(rows([photo(name) for name in PHOTOS], styles), ["photo", *VARIANTS], WIDTH)
    write_picture(arguments.folder / f"{run_of}.jpg", page)


def slug(name: str) -> str:
    """A file's name: "no ground" -> "no-ground"."""
    return name.replace(",", "").replace(" ", "-")


if __name__ == "__main__":
    main()
