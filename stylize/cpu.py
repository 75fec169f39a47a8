"""What is known of CPUs that neither torch nor OpenVINO tells."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from stylize.control_groups import own_groups

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux tells what the CPU is and offers."""


OMP_NUM_THREADS = "OMP_NUM_THREADS"
"""The environment's word on threads; torch reads it when it is first imported."""


def bf16_pays() -> bool:
    """Whether a CPU that computes in bf16 is faster so than in float32.

    Intel's have the arithmetic for it in AMX, which virtual machines may hide: a Xeon without it
    restyled in 1.3 times float32's time and trained in 1.4 to 1.6 times, where an AMD EPYC restyles
    in half of it.
    """
    return "GenuineIntel" not in _words() or has_amx()


def has_amx() -> bool:
    """Whether the CPU multiplies bf16 in AMX. Where the system tells nothing, it is taken to."""
    words = _words()
    return not words or "amx_bf16" in words


def _words() -> list[str]:
    """What the system tells of the first core."""
    try:
        return CPU_INFO.read_text().partition("\n\n")[0].split()
    except OSError:
        return []


def usable_cpus() -> int:
    """How many CPUs' time this process may use: a container's share counts, in whole CPUs.

    With more threads than that, those that the system holds back are waited for by the rest.
    """
    share = float(_seen_cpus())
    for folder, version in own_groups("cpu"):
        with suppress(OSError, ValueError):  # no such group, or no limit: "max"
            if version == 2:
                time, period = (folder / "cpu.max").read_text().split()
            else:
                time, period = (
                    (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
                )
            if int(time) > 0:  # -1: no limit
                share = min(share, int(time) / int(period))
    return max(1, int(share))


def thread_limit() -> int | None:
    """Threads to compute with: OMP_NUM_THREADS, which torch takes too, or `usable_cpus()` where
    that is less than backends see. None: as many as a backend likes.
    """
    given = os.environ.get(OMP_NUM_THREADS, "").partition(",")[0]
    if given.isdecimal() and int(given):
        return int(given)
    share = usable_cpus()
    return share if share < _seen_cpus() else None


def _seen_cpus() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
