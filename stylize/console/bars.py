"""What all long jobs on a terminal share: bars and words on stderr."""

from __future__ import annotations

import logging
import sys
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


def show_library_messages(quiet: bool) -> None:
    """Let what the library has to say appear between the bars; when quiet, only its warnings."""
    logger = logging.getLogger("stylize")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(_ToTerminal())


class _ToTerminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"stylize: {record.getMessage()}", file=sys.stderr)
