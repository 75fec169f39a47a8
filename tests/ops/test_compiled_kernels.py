"""What ptxas makes of the kernels, for every architecture we name, without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")

SCRIPT = Path(__file__).parents[2] / "scripts" / "compile_instance_norm.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_every_kernel_compiles_for_every_architecture(rows: list[dict[str, Any]]) -> None:
    assert {row["sm"] for row in rows} == {75, 80, 90, 100}
    assert len(rows) == 4 * (4 + 6 + 2)


def test_nothing_is_spilled(rows: list[dict[str, Any]]) -> None:
    assert not [row for row in rows if row["spilled"]]


def test_memory_is_read_and_written_128_bits_at_a_time(rows: list[dict[str, Any]]) -> None:
    assert not [row for row in rows if row["load_bits"] < 128]
    writing = [
        row for row in rows if row["kernel"] in ("normalise", "gradient", "extend_normalised")
    ]
    assert writing
    assert not [row for row in writing if row["store_bits"] < 128]
