"""What all long jobs on a terminal share: bars and words on stderr."""

from __future__ import annotations

from typing import NoReturn

import typer
from tqdm import tqdm

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""


def advance(bar: tqdm[NoReturn]) -> None:
    """One more is done."""
    bar.update()


def say(quiet: bool, text: str) -> None:
    """A line on stderr, unless the user wants none."""
    if not quiet:
        typer.echo(text, err=True)
