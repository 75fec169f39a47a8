"""Names of files and paintings as the world has them: no text, full of marks, out of reach."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from stylize.errors import StylizeError, UsageError
from stylize.imaging.files import check_file, check_folder, find_pictures
from stylize.inference.batch import plan_jobs
from stylize.model_file import read_card, write_model
from stylize.safe_write import atomic_file
from stylize.training.data import fingerprint
from stylize.zoo import list_styles
from tests.conftest import Run, Trained, assert_one_line, save_picture

LATIN = os.fsdecode(b"caf\xe9")
"""As an old archive leaves it on a system of today: no UTF-8."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes for a name")


@linux
@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("utf-8", "照片-instance.png".encode()), ("cp1252", rb"\u7167\u7247-instance.png")],
)
def test_any_name_is_printed(
    trained: Trained, tmp_path: Path, encoding: str, printed: bytes
) -> None:
    for name in ("照片", LATIN):
        save_picture(tmp_path / f"{name}.png", 16, 16)
    done = subprocess.run(
        [sys.executable, "-m", "stylize", "apply", "*.png", "-s", str(trained.instance)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted([printed, b"caf\xe9-instance.png"])
    assert len(list(tmp_path.glob("*-instance.png"))) == 2


@linux
def test_names_that_are_no_text_reach_models_and_reports(
    run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
) -> None:
    painting = save_picture(tmp_path / f"{LATIN}.png", 70, 60)
    photos = tmp_path / "photos"
    for number in range(10):
        save_picture(photos / f"{number}-{LATIN}.png", 40, 40, number)
    done = run(
        "train", "--style", painting, "--content", photos, "--steps", 2, "--size", 32,
        "--style-size", 48, "--perceptual", small_perceptual, "--set", "width=0.125",
        "--device", "cpu", "--from-scratch", "--set", "checkpoint_every=1", "--quiet", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = tmp_path / f"{LATIN}.safetensors"
    assert read_card(model).name == LATIN
    done = run("compare", trained.instance, model, "--photos", photos, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert r"caf\udce9, instance norm" in page


def test_a_collection_is_known_by_its_names_wherever_it_lies(tmp_path: Path) -> None:
    marks = []
    for folder, name in (("one", LATIN), ("two", LATIN), ("three", "other")):
        below = tmp_path / folder
        marks.append(fingerprint([below / "a.png", below / "deep" / f"{name}.png"], below))
    assert marks[0] == marks[1] != marks[2]
    assert re.fullmatch("[0-9a-f]{16}", marks[0])


def test_a_title_is_shown_as_it_is_and_moves_no_terminal(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    """Neither rich's marks, as in [b], nor a terminal's own, which a stranger's file may hold."""
    card = replace(read_card(trained.instance), title="Sea [/b] :cat: \x1b[2J")
    path = tmp_path / "a[red]b.safetensors"
    write_model(path, card, load_file(trained.instance))
    shown = r"Sea [/b] :cat: \x1b[2J"
    listed = run("styles", STYLIZE_STYLES=str(tmp_path))
    assert listed.returncode == 0, listed.stderr
    assert [line for line in listed.stdout.splitlines() if "a[red]b" in line and shown in line]
    assert shown in run("styles", path).stdout
    broken = tmp_path / "\x1b[2J.safetensors"
    assert_one_line(run("apply", "photo.jpg", "-s", broken), 2, r"\x1b[2J.safetensors")


def test_a_path_that_the_system_refuses_is_one_line(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    """As a folder does that one may not enter; but a root user, as CI has, may enter all."""
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    beyond = tmp_path / ("x" * 300 + ".png")
    done = run("apply", photo, "-s", trained.instance, "-o", beyond)
    assert_one_line(done, 1, f"cannot get at {beyond}: ")


def test_a_result_s_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    for letter in ("x", "照"):
        longest = tmp_path / (letter * (251 // len(letter.encode())) + ".png")
        with atomic_file(longest) as temporary:
            temporary.write_bytes(b"whole")
        assert longest.read_bytes() == b"whole"


def test_folders_that_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path | str, *pattern: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    photo = save_picture(tmp_path / "photo.png", 16, 16)
    save_picture(tmp_path / "closed" / "photo.png", 16, 16)
    look = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: refuse(path) if "closed" in path[-6:] else look(path)
    )
    assert find_pictures(tmp_path) == [photo]
    assert caplog.messages == [f"{tmp_path / 'closed'} is left out: Permission denied"]
    monkeypatch.setattr(os, "scandir", look)

    monkeypatch.setattr(os, "access", lambda *whatever: False)
    with pytest.raises(StylizeError, match="cannot look into"):
        check_folder(tmp_path)
    monkeypatch.setenv("STYLIZE_STYLES", str(tmp_path))
    names = [style.name for style in list_styles()]
    monkeypatch.setattr(Path, "glob", refuse)
    assert list_styles() == []
    assert "starry_night" in names


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such pipes on this system")
def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    """Which nobody may ever write to."""
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    astray = tmp_path / "astray.png"
    astray.symlink_to(tmp_path / "nothing.png")
    assert find_pictures(tmp_path) == [astray, photo]
    with pytest.raises(UsageError, match="is a pipe"):
        check_file(pipe)
    pattern = str(tmp_path / "p*.png")
    assert [job.source for job in plan_jobs([pattern], ["udnie"], None, False).jobs] == [photo]
