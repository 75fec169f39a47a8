"""Is the loss network that ships as good as its teacher?

    python scripts/bench_loss_network.py TEACHER.safetensors --content DIR PAINTING...

Each painting is learned twice from random weights, with the same seed, by the teacher and by
vgg19-slim, and both networks are measured by the teacher on the held-out photos. Prints Markdown
and writes a sheet of pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from stylize.config import TrainConfig
from stylize.held_out import STYLE_SIZE, HeldOutLoss, held_out_loss, measure
from stylize.imaging.files import Pixels
from stylize.imaging.sheet import contact_sheet
from stylize.imaging.write import write_picture
from stylize.losses import style_targets
from stylize.networks.perceptual import DEFAULT_STYLE_LAYERS, SLIM, load_perceptual
from stylize.training.data import load_style
from stylize.training.result import preview
from stylize.training.trainer import Trainer


def learn(
    config: TrainConfig, painting: Path, content: Path, teacher: str
) -> tuple[HeldOutLoss, list[list[Pixels]]]:
    """Train, and measure with the teacher: the held-out loss and some pictures."""
    trainer = Trainer(config, painting, content, painting.stem)
    for _ in tqdm(trainer.steps(), total=config.steps, desc=painting.stem):
        pass
    network = load_perceptual(teacher)
    layers = DEFAULT_STYLE_LAYERS[network.architecture]
    targets = style_targets(network, load_style(painting, STYLE_SIZE), layers)
    loss = held_out_loss(network, targets)
    return measure(trainer.network.eval(), loss, trainer.held_out), preview(trainer)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher")
    parser.add_argument("paintings", type=Path, nargs="+")
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sheet", type=Path, default=Path("loss_networks.png"))
    arguments = parser.parse_args()
    config = TrainConfig(start="none", steps=arguments.steps, size=arguments.size)
    rows: list[list[Pixels]] = []
    print("| painting | trained by | content | style | total |")
    print("|---|---|---:|---:|---:|", flush=True)
    for painting in arguments.paintings:
        found = {}
        for name in (arguments.teacher, SLIM):
            one = replace(config, perceptual=name)
            found[name], (photos, pictures) = learn(
                one, painting, arguments.content, arguments.teacher
            )
            rows += [pictures] if rows else [photos, pictures]
            loss = found[name]
            print(
                f"| {painting.stem} | {Path(name).stem} | {loss.content:.3f} | {loss.style:.3f} | "
                f"{loss.total:.3f} |",
                flush=True,
            )
        teacher, slim = found.values()
        ratios = [getattr(slim, x) / getattr(teacher, x) for x in ("content", "style", "total")]
        print(f"| | ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)
        write_picture(arguments.sheet, contact_sheet(rows))


if __name__ == "__main__":
    main()
