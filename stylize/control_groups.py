"""The groups by which Linux limits a process: a container's, a cluster job's, a service's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OWN_GROUPS = Path("/proc/self/cgroup")
"""Where Linux tells which groups this process is in."""

GROUPS = Path("/sys/fs/cgroup")
"""Where it tells of their limits."""


def own_groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of the groups that this process is in, and of those around them.

    Each may have a limit, and all count. A container may see its own group at the top, whatever
    path it is told: not every folder is there.

    Args:
        controller: "memory" or "cpu".

    Yields:
        Folder, and the version of its files: 2, or 1, which old systems have.
    """
    lines: list[str] = []
    with suppress(OSError):  # no Linux
        lines = OWN_GROUPS.read_text().splitlines()
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        top, version = (GROUPS, 2) if number == "0" else (GROUPS / controller, 1)
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(top):
                yield folder, version
