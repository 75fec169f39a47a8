"""How much of a painting's brush its Gram matrices hold, and how much of it models miss.

    python scripts/measure_brush.py PAINTING [MODEL...] --content DIR

Prints, layer by layer, the covariances' part in the painting's Gram matrices, by sums of squares;
then for each model, by the loss network that ships, the held-out loss and what it misses: of the
painting's covariances, in parts of them, added up over the four layers; and of the photos' details,
the content loss at half of the resolution with flat places counted a tenth. Last, on the same
pictures, the patches, the variance of colours that the photos do not tell, of 0 to 1; the root mean
square by which colours leave the painting's, in levels of 255 (`stylize.palette`); the grit, their
detail of a pixel or two (`stylize.imaging.grit`); and in thousandths the grid, what repeats with
the network's lattice, and the hatching, how much neighbours differ where the photo is flat
(`stylize.prices`). Each model is held against the painting as it learned it, smoothed or not
(`style_grit`). Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import stylize
from stylize.held_out import STYLE_SIZE, held_out_loss, measure
from stylize.imaging.grit import grit
from stylize.imaging.synthetic import Source
from stylize.imaging.tensors import to_pixels
from stylize.losses import (
    content_loss,
    covariance_matrix,
    detail_weight,
    style_loss,
    style_targets,
)
from stylize.networks.perceptual import (
    DEFAULT_STYLE_LAYERS,
    SLIM,
    PerceptualNet,
    load_perceptual,
)
from stylize.palette import foreign_colours, palette_of
from stylize.prices import flat_variation, lattice_energy, unasked_colours
from stylize.training.data import load_style, split_content

LAYERS = DEFAULT_STYLE_LAYERS["vgg19"]
FINE = "relu2_1"
FOCUS = 0.9

COLUMNS = (
    "content", "style", "total", "covariances missed", "details missed", "patches", "foreign",
    "grit", "grid", "hatching",
)  # fmt: skip
HEADER = f"| model | {' | '.join(COLUMNS)} |\n|---|{len(COLUMNS) * '---:|'}"


def covariances_missed(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Of one picture: distances of covariances in parts of the painting's, added up over layers."""
    return torch.stack([style_loss(covariance_matrix(found[x]), wanted[x]) for x in LAYERS]).sum()


def details_missed(found: Tensor, wanted: Tensor, photo: Tensor) -> Tensor:
    """Of one picture: the content loss of its features at `FINE`, flat places counted less."""
    weight = detail_weight(photo, FOCUS, (wanted.shape[2], wanted.shape[3]))
    return content_loss(found, wanted, weight=weight)


def measured(name: str, network: PerceptualNet, painting: Path, photos: Sequence[Source]) -> str:
    """A model's row of the table under `HEADER`, behind its name."""
    restyle = stylize.load(name, precision="fp32", backend="torch")
    learned = load_style(painting, STYLE_SIZE, restyle.card.settings.get("style_grit", 0.0))
    wanted = style_targets(network, learned, LAYERS, covariance_matrix)
    palette = palette_of(learned)
    faults: list[Tensor] = []  # (7,) each

    def observed(photo: Tensor) -> Tensor:
        restyled: Tensor = restyle(photo)
        shown = restyled.clamp(0, 1)
        found = network(shown, (*LAYERS, FINE))
        faults.append(
            torch.stack(
                [
                    covariances_missed(found, wanted),
                    details_missed(found[FINE], network(photo, [FINE])[FINE], photo),
                    unasked_colours(restyled, photo),
                    foreign_colours(shown, palette),
                    torch.tensor(grit(to_pixels(restyled)[0])),
                    lattice_energy(shown),
                    flat_variation(shown, photo),
                ]
            )
        )
        return restyled

    loss = measure(
        observed, held_out_loss(network, style_targets(network, learned, LAYERS)), photos
    )
    brush, details, patches, foreign, dirt, grid, hatching = torch.stack(faults).mean(0).tolist()
    return (
        f"{loss.content:.3f} | {loss.style:.3f} | {loss.total:.3f} | {brush:.2f} | "
        f"{details:.3f} | {patches:.4f} | {255 * foreign**0.5:.1f} | {dirt:.3f} | "
        f"{1e3 * grid:.2f} | {1e3 * hatching:.1f} |"
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("painting", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--content", type=Path, required=True)
    arguments = parser.parse_args()
    network = load_perceptual(SLIM)
    painting = load_style(arguments.painting, STYLE_SIZE)
    grams = style_targets(network, painting, LAYERS)
    covariances = style_targets(network, painting, LAYERS, covariance_matrix)
    parts = [covariances[x].square().sum() / grams[x].square().sum() * 100 for x in LAYERS]
    print(f"| {arguments.painting.stem} | {' | '.join(LAYERS)} |\n|---|{len(LAYERS) * '---:|'}")
    print(f"| covariances | {' | '.join(f'{part:.1f} %' for part in parts)} |\n", flush=True)
    if not arguments.models:
        return
    _, photos = split_content(arguments.content, seed=0)
    print(HEADER)
    for name in arguments.models:
        print(f"| {name} | {measured(name, network, arguments.painting, photos)}", flush=True)


if __name__ == "__main__":
    main()
