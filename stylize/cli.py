"""The command line: parses, calls the library, prints. Everything heavy is imported inside."""

from __future__ import annotations

import atexit
import codecs
import gc
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Annotated, Literal, NoReturn

import typer

import stylize
from stylize.cli_options import Device, Overwrite, Quiet, complete_style
from stylize.cli_training import ablate, compare, train
from stylize.cpu import OMP_NUM_THREADS, thread_limit
from stylize.errors import INTERRUPTED, StylizeError, UsageError, one_line, plain

UNSEEN = 50_000
"""Objects made before Python looks for those that only hold each other; restyling and training
leave none of them."""

app = typer.Typer(
    name="stylize",
    help="Fast neural style transfer: restyle photos, learn new styles, compare normalisations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help panels take three times the start-up
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Run the command line; errors a user can mend become one line and an exit code."""
    # Read by torch when it is first imported: tensors of 2 MB and more lie in pages of 2 MB. Made
    # anew in pages of 4 KB for every operation, they cost 12 megapixels a tenth of their time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if limit := thread_limit():
        os.environ.setdefault(OMP_NUM_THREADS, str(limit))
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("stylize", _encode_anyway)
        sys.stdout.reconfigure(errors="stylize")
    # Modules that are being imported are no garbage. To look for it by every 700 objects, and in
    # all of them at the end, took a sixth of a small photo's time.
    gc.set_threshold(UNSEEN)
    atexit.register(gc.freeze)
    stopped = _note_signals()
    try:
        _check_command(sys.argv)
        app()
    except Exception as error:
        if stopped:  # and a library that was being imported made this of it
            sys.exit(INTERRUPTED)
        typer.secho(plain(f"stylize: {_reason(error)}"), err=True, fg="red")
        sys.exit(error.exit_code if isinstance(error, StylizeError) else StylizeError.exit_code)
    sys.exit(0)


def _note_signals() -> list[int]:
    """Make Ctrl-C and SIGTERM a KeyboardInterrupt, and a number in a list.

    A temporary file is removed on its way out. Libraries swallow it while they are imported, and
    fail by something else a little later.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of a job in the background
            signal.signal(number, note)
    return received


def _reason(error: Exception) -> str:
    """What a user is told of it; what nobody can mend, a fault of ours, is raised again."""
    if isinstance(error, StylizeError):
        return str(error)
    if isinstance(error, OSError):  # a folder that may not be entered, at whatever look into it
        named = f"cannot get at {error.filename}: {error.strerror}"
        return named if error.filename else one_line(error)
    if isinstance(error, ImportError):  # torch where its libraries do not fit the system
        return f"what stylize needs cannot be loaded: {one_line(error)}"
    said = str(error).partition("\n")[0]  # then comes how to debug kernels
    if isinstance(error, RuntimeError) and said.startswith(("CUDA", "cuDNN")):
        return f"the GPU failed: {said}; --device cpu does without it"
    raise error


def _encode_anyway(error: UnicodeError) -> tuple[str | bytes, int]:
    """Names that are no text in stdout's encoding go out as the system's bytes, or else escaped."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.backslashreplace_errors(error)


def _check_command(argv: Sequence[str]) -> None:
    """Answer who gives a photo at once, with no command; none of these has a dot in its name."""
    for path in argv[1:2]:
        if "." in path and Path(path).is_file():
            raise UsageError(f"{path} is a file, no command; try: stylize apply {quote(path)}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stylize {stylize.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


@app.command()
def apply(
    photos: Annotated[
        list[str],
        typer.Argument(
            help="Files, patterns or folders; - for standard input.", show_default=False
        ),
    ],
    style: Annotated[
        list[str],
        typer.Option(
            "--style",
            "-s",
            help="A name from `stylize styles`, a model file, or all; may be given repeatedly.",
            autocompletion=complete_style,
        ),
    ] = ["starry_night"],  # noqa: B006 - typer copies it
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder, - for standard output; by default photo-STYLE.jpg beside it.",
        ),
    ] = None,
    style_scale: Annotated[
        str,
        typer.Option(help="Size of the strokes: auto, native, or a factor; 2 is twice as large."),
    ] = "auto",
    strength: Annotated[float, typer.Option(help="0 gives the photo back, 1 is all style.")] = 1.0,
    keep_colors: Annotated[
        bool, typer.Option("--keep-colors", help="Keep the photo's own colours.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Shrink larger photos to this longest side, px, first.")
    ] = None,
    enlarge: Annotated[
        bool, typer.Option("--enlarge", help="Enlarge smaller ones to --size too, for prints.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Most memory a photo may take, such as 2GB.")
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(min=0, help="Refuse larger pictures, and longer animations.")
    ] = 200,
    device: Device = "auto",
    backend: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Restyle photos; without --size each keeps its own.

    stylize apply photo.jpg --style starry_night
    """
    from stylize.console.apply import Means, run_apply
    from stylize.inference.restyle import Look
    from stylize.inference.strokes import parse_style_scale

    look = Look(strength, keep_colors, parse_style_scale(style_scale), size, enlarge)
    means = Means(device, backend, precision, memory, max_megapixels)
    run_apply(photos, style, output, look, means, overwrite, quiet)


@app.command()
def styles(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A style or model file, to see its card.", autocompletion=complete_style
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the styles that ship and your own, or say all that is known of one.

    stylize styles starry_night
    """
    from stylize.console.styles import print_card, print_styles

    if name is None:
        print_styles(as_json)
    else:
        print_card(name, as_json)


for command in (train, compare, ablate):
    app.command()(command)


@app.command("export")
def export_(
    style: Annotated[
        str,
        typer.Argument(
            help="A name from `stylize styles`, or a model file.", autocompletion=complete_style
        ),
    ],
    format_name: Annotated[
        Literal["onnx", "openvino", "pt2"],
        typer.Option("--format", "-f", help="What to write."),
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default ./NAME.onnx, .xml or .pt2.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a style for other programs: any batch and size from 8 px up, RGB in 0..1.

    stylize export starry_night --format onnx
    """
    from stylize.interchange.export import SUFFIXES, export_model
    from stylize.safe_write import check_output
    from stylize.zoo import find_style

    model = find_style(style)
    suffix = SUFFIXES[format_name]
    path = output or Path(model.stem + suffix)
    check_output(path, suffix, overwrite)
    if format_name == "openvino":
        check_output(path.with_suffix(".bin"), ".bin", overwrite)
    export_model(model, path, format_name)
    typer.echo(str(path))


@app.command("import")
def import_(
    model: Annotated[Path, typer.Argument(help="A .pth of PyTorch's fast_neural_style example.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default ./NAME.safetensors.")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the painting, for the model's card.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights, for the model's card.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Take over a model of the well-known PyTorch example program.

    stylize import mosaic.pth
    """
    from stylize.imaging.files import check_file
    from stylize.safe_write import check_output

    check_file(model)
    path = output or Path(f"{model.stem}.safetensors")
    check_output(path, ".safetensors", overwrite)

    from stylize.interchange.foreign import import_model

    import_model(model, path, title, licence)
    typer.echo(str(path))


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what this machine offers, and what `stylize apply` would take of it."""
    from stylize.console.info import describe_machine

    found = describe_machine()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, value in found.items():
        typer.echo(f"{name:{width}}  {value}")
