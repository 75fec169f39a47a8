"""How much memory there is to be taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

from stylize.control_groups import own_groups

_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory() -> int:
    """Bytes that this process can take without driving others out: limits of its groups count."""
    free = int(psutil.virtual_memory().available)
    for folder, version in own_groups("memory"):
        with suppress(OSError, ValueError, KeyError):  # no such group, or no limit: "max"
            free = min(free, _left(folder, *_FILES[version]))
    return max(0, free)


def _left(folder: Path, limit: str, used: str, given_way: str) -> int:
    """Of a group's limit. Files that were read count as used, but give way to who wants memory."""
    counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    most, now = (int((folder / name).read_text()) for name in (limit, used))
    return most - now + int(counts[given_way])
