"""What is free: the machine's memory, or a container's."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from stylize import free_memory as module
from stylize.free_memory import free_memory


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("3000000", 3_000_000 - 2_000_000 + 500_000),
        ("max", None),
        ("1000", 0),
        (f"{1 << 60}", None),
    ],
)
def test_a_containers_limit_counts_and_files_that_give_way_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    (tmp_path / "memory.stat").write_text(
        "anon 1400000\ninactive_file 500000\nactive_file 100000\n"
    )
    monkeypatch.setattr(module, "GROUP", tmp_path)
    machine = type("Memory", (), {"available": 8_000_000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert free_memory() == (8_000_000 if expected is None else expected)


def test_without_a_container_it_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP", tmp_path)
    assert 0 < free_memory() <= psutil.virtual_memory().total
