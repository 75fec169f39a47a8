"""Write models/README.md from the cards inside the model files: `python scripts/make_cards.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from stylize.config import TrainConfig
from stylize.model_file import ModelCard, file_sha256, read_card

MODELS = Path(__file__).parents[1] / "models"

HEAD = """# The styles that ship

Written from the files' own metadata by `python scripts/make_cards.py`. What all of them share:

- The weights are this project's own, MIT. [NOTICE](../NOTICE) credits what they were trained with.
- Trained on photographs from ImageNet's categories (shorter side 320 px), research use. The photos
  are not part of this project; every tenth was held out, and the losses are of those.
- Held-out loss in normalised units: content = MSE / mean square of the photo's features at relu3_1;
  style = the sum over relu1_2, relu2_2, relu3_4 and relu4_1 of MSE / mean square of the painting's
  Gram matrices; float32, pictures of 256 px, clamped to 0..1 as in a file.
- Measured before convolutions were rounded to half precision by `scripts/ship_styles.py`, which
  ships only what then restyles four photos to within 1/255.
- Those of full width first in one run from random weights, on one core of a CPU with bf16, on a
  ground of noise of 0.15, as the cards' last lines tell; then, from the files that shipped so, on
  the ground of today, of 0.25: `--preset best --steps 1200 --set half_size_share=0.65 --set
  start=BEFORE.safetensors --seed 1`, 2,000 steps for The Starry Night and its twin. A twin is here
  the network with batch norm, `--set norm=batch`.
- From those, by the presets' content loss of today, which minds faces: 600 to 800 steps with
  `--seed 2`, all else the same. The Starry Night and its twin had `content_weight=0.4`, and then
  2,000 steps more so with `--seed 3`.
- Then with the price for patches, `patch_weight=10`: 400 steps with `--seed 4`; 600 for The
  Shipwreck and the mosaic, 800 for The Starry Night, The Scream and their twins. Five then had the
  painting blurred to a grit of 0.03: The Starry Night and its twin 800 steps with `--seed 5`, The
  Great Wave 1,500, the mosaic 1,000 and The Shipwreck 700 with `--seed 6`.
- Now all have the price for foreign colours, `palette_weight=200`: The Starry Night and its twin
  had 1,500 steps with it, The Great Wave, Composition VII, The Shipwreck and the mosaic 800, with
  `--seed 7`, The Scream and its twin 1,000, Udnie 1,200, with `--seed 8`. The first six learned the
  painting smoothed along its strokes, edges with the rest.
- Last, all but The Scream, its twin and the engraving had the painting smoothed along its strokes
  with its edges kept (`style_grit=0.015`, the mosaic 0.03), against which their losses are: The
  Starry Night 1,000 steps more, its twin 900, Udnie and The Shipwreck 800, The Great Wave and
  Composition VII 700, the mosaic 400, with `--seed 9`. They ran at 75e2ccf, where 0.02 meant as
  many passes; their cards say what means that now, by which their targets come out the same.
- Udnie and The Shipwreck then had 2,500 steps more, all else the same, with `--seed 11`.
- The glass mosaic learned the picture that `scripts/make_mosaic.py` makes of Composition VII: first
  `--preset standard` on generated pictures, begun from the nearest style, then on the photographs,
  `--preset best --steps 1250`, begun from that; half an hour each, on a CPU without bf16. Then
  1,500 steps as the others.
- The engraving learned the picture that `scripts/make_engraving.py` makes of The Starry Night, as
  it is (`--set style_grit=0`), begun from `starry_night`: `--preset best --steps 1000 --set
  half_size_share=0.65 --seed 8`.
- The twins whose names end in `_fast` have half the width, and learned the same paintings on one
  core of a CPU with AMX, in bf16: 4,000 steps of The Starry Night from random weights (`--preset
  best --set width=0.5 --set half_size_share=0.65 --seed 9`); from there all seven 2,000 steps with
  `--seed 12` (The Starry Night 3,000, the mosaic 2,500), then 4,000 with `--seed 13`. The engraving
  has none, as in bf16 it was less than 50 dB from float32.
"""

ABOUT_RUN = (
    "title",
    "licence",
    "norm",
    "width",
    "steps",
    "perceptual",
    "device",
    "precision",
    "cuda_graph",
    "start",
    "preview_every",
    "held_out_photos",
    "checkpoint_every",
)


def losses(name: str, found: dict[str, float] | None) -> str:
    """One line for a held-out loss."""
    if found is None:
        return f"- {name}: not measured\n"
    return (
        f"- {name}: **{found['total']:.3f}** (content {found['content']:.3f}, style "
        f"{found['style']:.3f}; {found['photos']:.0f} photos)\n"
    )


def differences(settings: dict[str, Any]) -> str:
    """Settings that decided something and were not the defaults; 0, off, where not known then."""
    found = []
    for name, default in TrainConfig().as_dict().items():
        value = settings.get(name, 0)
        value = tuple(value) if isinstance(value, list) else value
        if name not in ABOUT_RUN and value != default:
            found.append(f"{name}={','.join(value) if isinstance(value, tuple) else value}")
    return ", ".join(found) or "none"


def beginning(start: dict[str, Any] | None) -> str:
    """What the training began from, back to the random weights."""
    if start is None:
        return "- began from random weights\n"
    found = differences(start["settings"])
    line = f"- before that, as {start['name']}: {start['steps']} steps with {found}\n"
    return line + beginning(start.get("start"))


def rounding(card: ModelCard) -> str:
    """What was done to the weights after training."""
    if not card.rounded_from:
        return "single precision, as trained"
    return f"convolutions rounded to half precision, from sha256 `{card.rounded_from[:16]}`"


def describe(path: Path, card: ModelCard) -> str:
    """One style's card as Markdown."""
    generated = f" and {card.generated} generated pictures" if card.generated else ""
    return (
        f"\n## {card.name}\n\n"
        f"{card.title or card.style_image}; the painting is in the public domain.\n\n"
        f"- network: {card.norm} norm, width {card.width:g}, {path.stat().st_size / 1e6:.1f} MB, "
        f"sha256 `{file_sha256(path)[:16]}`\n"
        f"- weights: {rounding(card)}\n"
        f"- trained: {card.steps} steps on {card.photos} photos{generated}, "
        f"{card.settings['precision']} on "
        f"{card.settings['device']}, loss network {card.perceptual['name']} "
        f"(sha256 `{card.perceptual['sha256'][:16]}`)\n"
        f"- settings that differ from the defaults: {differences(card.settings)}\n"
        + beginning(card.start)
        + losses("held-out loss before", card.held_out_before)
        + losses("held-out loss after", card.held_out_after)
        + f"- licence of the weights: {card.licence}\n"
    )


def describe_loss_network(path: Path) -> str:
    """The loss network's metadata as Markdown."""
    with safe_open(path, framework="np") as file:
        said = file.metadata()
    return (
        f"\n## perceptual/{path.stem}\n\n"
        f"The default loss network of `stylize train`; no style.\n\n"
        f"- network: {said['architecture']} up to relu4_1 at a quarter of its widths, half "
        f"precision, {path.stat().st_size / 1e6:.2f} MB, sha256 `{file_sha256(path)[:16]}`\n"
        f"- trained: {said['steps']} steps from random weights, on the photographs above, changed "
        f"strongly, to answer as its teacher does: {said['teacher']}\n"
        f"- teacher: {said['source']}\n"
        f"- misses {said['loss']}\n"
        f"- licence of the weights: MIT\n"
    )


def main() -> None:
    """Read every card, write the page."""
    paths = sorted(MODELS.glob("*.safetensors"))
    text = HEAD + "".join(describe(path, read_card(path)) for path in paths)
    text += describe_loss_network(MODELS / "perceptual" / "vgg19-slim.safetensors")
    (MODELS / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
