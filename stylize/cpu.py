"""What is known of CPUs that neither torch nor OpenVINO tells."""

from __future__ import annotations

from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux tells what the CPU is and offers."""


def bf16_pays() -> bool:
    """Whether a CPU that computes in bf16 is faster so than in float32.

    Intel's have the arithmetic for it in AMX, which virtual machines may hide: a Xeon without it
    restyled in 1.3 times float32's time and trained in 1.4 to 1.6 times, where an AMD EPYC restyles
    in half of it. Where the system tells nothing, AMX is taken to be there.
    """
    try:
        words = CPU_INFO.read_text().partition("\n\n")[0].split()
    except OSError:
        return True
    return "GenuineIntel" not in words or "amx_bf16" in words
