"""Compiled networks kept on disk: by content and version, bounded, never trusted unseen."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from platformdirs import user_cache_path

from stylize.errors import StylizeError
from stylize.safe_write import atomic_file, make_folder

MAX_BYTES = 128 << 20
"""Of all entries together: some twenty networks; those unused for longest go first."""

SUFFIX = ".compiled"
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """$STYLIZE_CACHE, or `compiled` in the platform's cache folder for stylize."""
    chosen = os.environ.get("STYLIZE_CACHE")
    return Path(chosen) if chosen else user_cache_path("stylize", appauthor=False) / "compiled"


def cache_key(*parts: str) -> str:
    """A file name that depends on every part."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load(key: str) -> bytes | None:
    """An entry, or None where there is none, or only a damaged one."""
    path = cache_folder() / (key + SUFFIX)
    try:
        data = path.read_bytes()
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        # What is read goes to a native parser, which a damaged file could crash.
        if hashlib.sha256(content).digest() != digest:
            return None
        os.utime(path)  # used just now
    except OSError:
        return None
    return content


def store(key: str, content: bytes) -> None:
    """Keep an entry. A cache that cannot be written is none, and no error.

    Processes that store the same entry at once write the same; each write is whole or not at all.
    """
    folder = cache_folder()
    with contextlib.suppress(StylizeError, OSError):
        make_folder(folder)
        with atomic_file(folder / (key + SUFFIX)) as path:
            path.write_bytes(hashlib.sha256(content).digest() + content)
        _shrink(folder)


def _shrink(folder: Path) -> None:
    """Delete the entries that were not used for longest, until the rest is within bounds."""
    entries = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process may shrink it as well
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= MAX_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= size
