"""What all long jobs on a terminal share: bars and words on stderr."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from tqdm import tqdm

if TYPE_CHECKING:
    from rich.console import Console

LOG_SECONDS = 60.0
"""Between a bar's words in a log, which keeps each of them."""


def make_bar(quiet: bool, **settings: Any) -> tqdm[NoReturn]:
    """A bar on stderr, redrawn ten times a second on a terminal, and once a minute in a log.

    Args:
        quiet: whether the user wants none.
        settings: what tqdm takes besides.
    """
    least, most = (0.1, 10.0) if sys.stderr.isatty() else (LOG_SECONDS, LOG_SECONDS)
    return tqdm(disable=quiet, file=sys.stderr, mininterval=least, maxinterval=most, **settings)


def advance(bar: tqdm[NoReturn]) -> None:
    """One more is done."""
    bar.update()


def make_console() -> Console:
    """What tables go to: stdout, every name as it is, "[b]" and ":cat:" no marks of rich's."""
    from rich.console import Console  # 30 ms, which a photo need not wait for

    return Console(markup=False, emoji=False, highlight=False)


def say(quiet: bool, text: str) -> None:
    """A line on stderr, unless the user wants none."""
    if not quiet:
        typer.echo(text, err=True)


def show_library_messages(quiet: bool) -> None:
    """Let what the library has to say appear between the bars; when quiet, only its warnings."""
    logger = logging.getLogger("stylize")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(_ToTerminal())


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into a number in a list; a second Ctrl-C ends at once.

    Between two steps is the only place where weights, optimiser and step count agree.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _ToTerminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"stylize: {record.getMessage()}", file=sys.stderr)
