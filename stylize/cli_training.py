"""The commands of those who train: like `stylize.cli`, which they are part of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylize.cli_options import Device, Overwrite, Quiet, complete_style
from stylize.errors import UsageError


def train(
    style: Annotated[
        list[Path], typer.Option("--style", "-s", help="The painting.", show_default=False)
    ],
    content: Annotated[
        Path | None,
        typer.Option("--content", "-c", help="Folder of photos; without, generated pictures."),
    ] = None,
    preset: Annotated[
        Literal["quick", "standard", "best"],
        typer.Option(help="How long: two minutes, ten, half an hour; less on a GPU."),
    ] = "standard",
    config: Annotated[
        str,
        typer.Option(
            help="instance_norm, batch_norm, gram_matrices, johnson2016, ulyanov2016 or a file."
        ),
    ] = "instance_norm",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be given repeatedly."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default ./NAME.safetensors.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos a step.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crops, px.")] = None,
    style_size: Annotated[
        int | None, typer.Option(help="Shorter side of the painting, px.")
    ] = None,
    style_strength: Annotated[float | None, typer.Option(help="Style against content.")] = None,
    perceptual: Annotated[
        str | None, typer.Option(help="Loss network: vgg19-slim, vgg16, vgg19 or a file.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and samples.")] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Steps between previews; 0 for none.")
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's logs of the losses.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="From random weights, not the nearest style.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print all settings and where each comes from.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Learn a painting's style.

    stylize train --style starry.jpg
    """
    if len(style) != 1:
        raise UsageError(f"--style was given {len(style)} times; one model learns one painting")
    flags = {
        "steps": steps,
        "batch_size": batch_size,
        "size": size,
        "style_size": style_size,
        "style_strength": style_strength,
        "perceptual": perceptual,
        "device": device,
        "precision": precision,
        "seed": seed,
        "preview_every": preview_every,
    }

    from stylize.config import load_config, parse_settings, resolve
    from stylize.presets import preset_settings
    from stylize.safe_write import check_output
    from stylize.zoo import SUFFIX

    layers = [(f"config {config}", load_config(config)), ("--set", parse_settings(set_ or []))]
    layers += [
        (f"--{name.replace('_', '-')}", {name: value})
        for name, value in flags.items()
        if value is not None
    ]
    if from_scratch:
        layers.append(("--from-scratch", {"start": "none"}))
    settings, _ = resolve(layers)
    path = output or Path(style[0].stem + SUFFIX)
    if not dry_run:
        _check_inputs(style[0], content)
        check_output(path, SUFFIX, overwrite or resume)

    from stylize.devices import resolve_device

    kind = resolve_device(settings.device).type
    layers.insert(0, (f"preset {preset} on {kind}", preset_settings(preset, kind)))
    settings, origins = resolve(layers)
    if dry_run:
        for name, value in settings.as_dict().items():
            typer.echo(f"{name:18} {json.dumps(value):24} {origins[name]}")
        return

    from stylize.console.train import run_training

    run_training(settings, style[0], content, path, log_dir, resume, overwrite, quiet)


def compare(
    model_a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="Style name or model file.", autocompletion=complete_style
        ),
    ],
    model_b: Annotated[
        str,
        typer.Argument(
            metavar="B", help="Style name or model file.", autocompletion=complete_style
        ),
    ],
    photos: Annotated[Path, typer.Option("--photos", "-p", help="Folder of photos.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for report.html and sheet.png.")
    ] = Path("comparison"),
    perceptual: Annotated[
        str | None,
        typer.Option(help="The loss network both were trained with, if it is no VGG by name."),
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only every tenth photo, which training left out.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Photos measured at the most.")] = 100,
    rows: Annotated[int, typer.Option(min=1, help="Photos shown at the most.")] = 6,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Hold two models against each other: losses, times and pictures.

    stylize compare in.safetensors bn.safetensors --photos photos/
    """
    from stylize.console.compare import run_comparison
    from stylize.zoo import find_style

    models = [find_style(model_a), find_style(model_b)]
    run_comparison(
        models, photos, output, perceptual, held_out, limit, rows, device, overwrite, quiet
    )


def ablate(
    style: Annotated[Path, typer.Option("--style", "-s", help="The painting.")],
    content: Annotated[
        Path | None,
        typer.Option("--content", "-c", help="Folder of photos; without, generated pictures."),
    ] = None,
    norms: Annotated[str, typer.Option(help="Which to hold against each other.")] = (
        "instance,batch,none"
    ),
    seeds: Annotated[int, typer.Option(help="Runs of each norm.")] = 3,
    batch_sizes: Annotated[
        str, typer.Option(help="Others to try with the first seed, such as 1,2,4.")
    ] = "",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the runs and their report.")
    ] = Path("ablation"),
    steps: Annotated[int | None, typer.Option(help="Optimiser steps of a run; 500.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crops, px; 192.")] = None,
    perceptual: Annotated[
        str | None, typer.Option(help="Loss network: vgg19-slim, vgg16, vgg19 or a file.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of `stylize train`."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, not where the folder stands.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Hold norms against each other: one painting, all else equal.

    stylize ablate --style starry.jpg --content photos/ --norms instance,batch,none --seeds 3
    """
    _check_inputs(style, content)

    from stylize.ablation.plan import Experiment, experiment_config, parse_norms, parse_sizes
    from stylize.config import parse_settings
    from stylize.console.ablate import run_ablation

    flags = {
        "steps": steps,
        "size": size,
        "perceptual": perceptual,
        "device": device,
        "precision": precision,
    }
    config = experiment_config(flags, parse_settings(set_ or []))
    experiment = Experiment(
        style, content, config, parse_norms(norms), seeds, parse_sizes(batch_sizes)
    )
    run_ablation(experiment, output, overwrite, quiet)


def _check_inputs(painting: Path, content: Path | None) -> None:
    """Complain of a wrong path at once: importing torch takes seconds."""
    from stylize.imaging.files import check_file, check_folder

    check_file(painting)
    if content is not None:
        check_folder(content)
