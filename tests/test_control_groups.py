"""What this process may take of the machine, with what its groups leave it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from stylize import cli, control_groups
from stylize.cpu import thread_limit, usable_cpus
from stylize.free_memory import free_memory

MACHINE, CPUS = 8_000_000, 8

VERSIONS = {
    "0::": ("", "memory.max", "memory.current", "inactive_file"),
    "4:cpuset,memory:": (
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}
"""What Linux has told of groups, now and before: where they are, and how their files are called."""


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_groups, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    machine = type("Memory", (), {"available": MACHINE})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(os, "cpu_count", lambda: CPUS)
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # noted, so that what a test sets is undone
    monkeypatch.delenv("OMP_NUM_THREADS")
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(CPUS)))
    return tmp_path


def make_group(folder: Path, version: str, path: str, limit: str) -> None:
    """A group that uses 2 MB, half of one of which are files that give way."""
    below, most, used, given_way = VERSIONS[version]
    group = folder / "groups" / below / path.lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    (group / most).write_text(f"{limit}\n")
    (group / used).write_text("2000000\n")
    (group / "memory.stat").write_text(f"anon 1400000\n{given_way} 500000\nactive_file 100000\n")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("3000000", 3_000_000 - 2_000_000 + 500_000),
        ("max", MACHINE),
        ("1000", 0),
        (f"{1 << 60}", MACHINE),
    ],
)
# As a container has it, which sees its own group at the top; as a cluster's job, whose step has no
# limit of its own; and as a container that is told the path outside of it.
@pytest.mark.parametrize(
    ("own", "limited"),
    [("/", "/"), ("/job_7/step_0", "/job_7"), ("/docker/0a1b", "/")],
)
def test_a_groups_limit_counts_and_files_that_give_way_do_not(
    groups: Path, version: str, limit: str, expected: int, own: str, limited: str
) -> None:
    others = "3:cpuacct:/other" if version != "0::" else "1:name=systemd:/x"
    (groups / "own").write_text(f"{others}\n{version}{own}\n")
    make_group(groups, version, limited, limit)
    if own == "/job_7/step_0":
        make_group(groups, version, own, "max")
        make_group(groups, version, "/", "7000000")  # leaves more
        expected = min(expected, 7_000_000 - 2_000_000 + 500_000)
    assert free_memory() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("400000 100000", 4), ("765000 100000", 7), ("20000 100000", 1), ("max 100000", None)],
)
@pytest.mark.parametrize("version", [2, 1])
def test_a_share_of_the_cpus_counts_in_whole_ones(
    groups: Path, version: int, limit: str, expected: int | None
) -> None:
    group = groups / "groups" / ("job" if version == 2 else "cpu/job")
    (group / "step").mkdir(parents=True)
    if version == 2:
        (groups / "own").write_text("0::/job/step\n")
        (group / "cpu.max").write_text(f"{limit}\n")
        (group / "step" / "cpu.max").write_text("max 100000\n")
    else:
        (groups / "own").write_text("2:cpu,cpuacct:/job/step\n")
        for folder, told in ((group, limit.replace("max", "-1")), (group / "step", "-1 100000")):
            for name, value in zip(("quota", "period"), told.split(), strict=True):
                (folder / f"cpu.cfs_{name}_us").write_text(f"{value}\n")
    assert usable_cpus() == (expected or CPUS)
    assert thread_limit() == expected


@pytest.mark.parametrize(("given", "taken"), [(None, "4"), ("3", "3"), ("12", "12")])
def test_the_command_line_takes_as_many_threads(
    groups: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, taken: str
) -> None:
    """Torch reads it when it is first imported."""
    (groups / "own").write_text("0::/\n")
    (groups / "groups").mkdir()
    (groups / "groups" / "cpu.max").write_text("400000 100000\n")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr(sys, "argv", ["stylize", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ["OMP_NUM_THREADS"] == taken
    assert thread_limit() == int(taken)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system holds no process")
def test_cores_that_a_process_is_held_to_are_the_backends_own_affair(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see them, and which of them share a core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 5})
    assert usable_cpus() == 3
    assert thread_limit() is None


def test_without_groups_it_is_the_machines(groups: Path) -> None:
    assert free_memory() == MACHINE
    assert usable_cpus() == CPUS
    assert thread_limit() is None


def test_it_is_no_more_than_there_is() -> None:
    assert 0 < free_memory() <= psutil.virtual_memory().total
