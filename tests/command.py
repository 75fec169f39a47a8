"""The command line in a process of its own.

On Linux that is forked from one that has imported torch already, by multiprocessing's fork server:
importing it anew took seconds of every call, and a fifth of all tests' time. Tests of signals, of
what is imported, of torchrun and of what is installed start Python themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

TIMEOUT = 300

WARNINGS = "error::UserWarning"


def fork_server() -> ForkServerContext:
    """Processes forked from one that has imported torch, and what optimisers load of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", __name__])
    return context


def call(
    words: Sequence[str], folder: Path | None, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """`stylize WORDS` in a folder, with more in its environment."""
    environment = {"COLUMNS": "120"} | dict(environment)
    if sys.platform != "linux":
        return subprocess.run(
            [sys.executable, "-W", WARNINGS, "-m", "stylize", *words],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=TIMEOUT,
        )
    context = fork_server()
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        process = context.Process(
            target=_run, args=(list(words), folder, environment, out.name, err.name)
        )
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, TIMEOUT)
        texts = (Path(file.name).read_text(errors="surrogateescape") for file in (out, err))
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _run(
    words: list[str], folder: Path | None, environment: Mapping[str, str], out: str, err: str
) -> None:
    for number, name in ((1, out), (2, err)):
        file = os.open(name, os.O_WRONLY)
        os.dup2(file, number)
        os.close(file)
    os.environ |= environment
    if folder is not None:
        os.chdir(folder)
    sys.argv = ["stylize", *words]
    warnings.simplefilter("error", UserWarning)
    import torch

    torch.set_num_threads(1)

    from stylize.cli import main

    main()
