"""Files written whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from stylize.errors import StylizeError, UsageError
from stylize.safe_write import atomic_file, check_folder_writable, check_output, make_folder


def test_a_reader_sees_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def write_half(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_file(tmp_path / "file.txt") as temporary:
        write_half(temporary)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk; in a process of its own."""
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from stylize.safe_write import atomic_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with atomic_file(Path(sys.argv[1])) as temporary: temporary.write_bytes(bytes(100_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "large.bin")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
    )
    assert "StylizeError: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_read_only_folder_is_found_out_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StylizeError, match="cannot write into"):
        check_folder_writable(tmp_path)


def test_a_missing_folder_is_found_out_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StylizeError, match="cannot write into"):
        check_folder_writable(tmp_path / "none")
    check_folder_writable(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_where_a_file_lies(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StylizeError, match="cannot make folder"):
        make_folder(tmp_path / "file")


def test_a_folder_where_a_file_belongs(tmp_path: Path) -> None:
    """Found out before the work, even if it may overwrite."""
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path / "model.safetensors", ".safetensors", overwrite=True)
