"""How much memory there is to be taken."""

from __future__ import annotations

from pathlib import Path

import psutil


def free_memory() -> int:
    """Bytes that this process can take without driving others out: a container's limit counts."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, no limit ("max"), or no Linux
        return free
    return max(0, min(free, limit - used))
