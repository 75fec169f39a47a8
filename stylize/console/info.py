"""`stylize info`: what the machine offers; torch is only imported where it would be taken."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import stylize
from stylize.cpu import thread_limit
from stylize.free_memory import free_memory
from stylize.gpu import look_for_gpu
from stylize.inference.compile_cache import cache_folder
from stylize.inference.engine import choose_backend, has_openvino
from stylize.paths import shipped, user_styles


def describe_machine() -> dict[str, str]:
    """Names and values, in the order in which they are worth reading."""
    choice, limit = choose_backend(), thread_limit()
    cores = f"{limit} of {os.cpu_count()}" if limit else str(os.cpu_count())
    return {
        "stylize": f"{stylize.__version__}, Python {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {cores} cores, "
        f"{free_memory() / 2**30:.1f} GiB of memory free",
        "gpu": _gpu(),
        "openvino": _openvino(),
        "torch": _version("torch"),
        "auto takes": f"{choice.backend}, {_precision(choice.backend)}: {choice.reason}",
        "shipped styles": str(shipped("models")),
        "your styles": str(user_styles()),
        "cache": str(cache_folder()),
    }


def _gpu() -> str:
    gpu = look_for_gpu()
    if gpu.unusable:
        return f"{gpu.name}, which torch cannot use: {gpu.unusable}"
    return gpu.name or "none that torch could use"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _openvino() -> str:
    if not has_openvino():
        return "not installed; pip install openvino makes a CPU two to three times as fast"
    from stylize.inference.openvino_engine import cpu_precisions

    return f"{_version('openvino')}; this CPU computes in {', '.join(cpu_precisions())}"


def _precision(backend: str) -> str:
    if backend == "openvino":
        from stylize.inference.openvino_engine import resolve_precision as resolve_openvino

        return resolve_openvino("auto")
    from stylize.devices import resolve_device, resolve_precision

    device = resolve_device("auto")
    return f"{device}, {resolve_precision('auto', device)}"
