"""Files written beside, then renamed: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylize.errors import StylizeError, UsageError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block succeeds.

    A reader sees the old file or the whole new one; an error or a kill leaves nothing half-written.

    Raises:
        StylizeError: the folder cannot be written to, or the disk is full.
    """
    temporary: Path | None = None
    try:
        # A name may be as long as names can be: the temporary one is no longer.
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:32]}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 is not what a user expects of a result
        temporary.replace(path)
    except OSError as error:
        raise StylizeError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, where they are missing.

    Raises:
        StylizeError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StylizeError(f"cannot make folder {folder}: {error.strerror or error}") from error


def check_folder_writable(folder: Path) -> None:
    """Find out before hours of work whether its result can be written.

    Raises:
        StylizeError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StylizeError(f"cannot write into {folder}: {error.strerror or error}") from error


def check_output(output: Path, suffix: str, overwrite: bool) -> None:
    """Refuse an output that could not be written.

    Raises:
        UsageError: another ending, a missing folder, or one in its place.
        StylizeError: it exists.
    """
    if output.suffix != suffix:
        raise UsageError(f"{output} must end in {suffix}")
    if not output.parent.is_dir():
        raise UsageError(f"no such folder: {output.parent}")
    check_free(output, overwrite)


def check_free(output: Path, overwrite: bool) -> None:
    """Refuse to replace a file unasked, or a folder at all.

    Raises:
        UsageError: it is a folder.
        StylizeError: it exists.
    """
    if output.is_dir():
        raise UsageError(f"{output} is a folder; a file is wanted here")
    if output.exists() and not overwrite:
        raise StylizeError(f"{output} exists; give --overwrite to replace it, or another --output")
