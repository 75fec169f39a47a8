"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer


def complete_style(incomplete: str) -> list[str]:
    """Names of styles, for a shell's completion; where none fits, shells complete files."""
    from stylize.zoo import list_styles

    return [style.name for style in list_styles() if style.name.startswith(incomplete)]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; results and errors only.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
