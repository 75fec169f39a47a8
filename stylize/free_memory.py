"""How much memory there is to be taken."""

from __future__ import annotations

from pathlib import Path

import psutil

GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container its limit."""


def free_memory() -> int:
    """Bytes that this process can take without driving others out: a container's limit counts."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((GROUP / "memory.max").read_text())
        used = int((GROUP / "memory.current").read_text())
        # Files that were read count as used, and give way when memory is wanted.
        counts = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        used -= int(counts["inactive_file"])
    except (OSError, ValueError, KeyError):  # no container, no limit ("max"), or no Linux
        return free
    return max(0, min(free, limit - used))
