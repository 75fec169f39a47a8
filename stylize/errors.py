"""Everything stylize raises on purpose.

    StylizeError            the work failed (exit code 1): unreadable contents, a full disk, ...
    └── UsageError          it was asked for wrongly (exit code 2): a missing path, an unknown
                            style, a setting out of range

Each message is one line: what was got, what was wanted, and what mends it.
"""

from __future__ import annotations

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended, as shells have it."""


def one_line(error: BaseException) -> str:
    """What somebody else's error says, for a line of ours."""
    return " ".join(str(error).split()) or type(error).__name__


def plain(text: str) -> str:
    r"""A stranger's words for a terminal, which control characters would move or rename.

    Example:
        >>> print(plain("The Sea\x1b[2J"))
        The Sea\x1b[2J
    """
    return text.translate(_CONTROL)


_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160))}


class StylizeError(Exception):
    """The work could not be done; the message says what would mend it."""

    exit_code = 1


class UsageError(StylizeError, ValueError):
    """The request itself is wrong: a missing path, an unknown name, an impossible setting."""

    exit_code = 2
