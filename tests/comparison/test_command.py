"""`stylize compare` as people use it, in processes of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from stylize.model_file import file_sha256, read_card, write_model
from tests.conftest import (
    Run,
    Trained,
    assert_one_line,
    save_picture,
    without_pictures,
)


def test_table_page_and_sheet(
    run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    save_picture(photos / "plain.png", 64, 80)
    save_picture(photos / "<script>alert(1)<&>.png", 64, 80, 1)
    (photos / "bad.png").write_bytes(b"bad")
    done = run(
        "compare", trained.instance, trained.batch, "--photos", photos,
        "--perceptual", small_perceptual, "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["instance", "instance"], ["batch", "batch"]]
    content, style, total = (float(cell) for cell in rows[1][2:5])
    assert total == pytest.approx(content + style, abs=0.002)  # each rounded to 3 digits
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;&amp;&gt;.png" in page
    assert "<script" not in page
    assert "http" not in without_pictures(page)  # self-contained
    assert page.count("data:image/jpeg;base64,") == 6
    assert "bad.png" in page
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size[0] > 3 * 80
        assert sheet.size[1] > 2 * 64


def test_without_the_loss_network_it_says_what_is_missing(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    save_picture(tmp_path / "photos" / "a.png", 32, 32)
    words = ("compare", trained.instance, trained.batch, "--photos", tmp_path / "photos")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "give it as --perceptual FILE" in done.stderr
    assert (tmp_path / "comparison" / "sheet.png").exists()
    assert_one_line(run(*words, cwd=tmp_path), 1, "exists; give --overwrite")


def test_what_ships_is_measured_by_the_loss_network_that_ships(run: Run, tmp_path: Path) -> None:
    save_picture(tmp_path / "photos" / "a.png", 64, 64)
    done = run("compare", "starry_night", "starry_night_batch", "--photos", "photos",
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "by the loss network vgg19-slim." in done.stderr
    for norm in ("instance", "batch"):
        losses = re.search(rf"{norm} +([\d.]+) +([\d.]+) +([\d.]+) ", done.stdout)
        assert losses, done.stdout
        content, style, total = map(float, losses.groups())
        assert total == pytest.approx(content + style, abs=2e-3)  # each is rounded to 1e-3


@pytest.mark.parametrize("first", [True, False])
def test_another_programs_model_does_not_cost_the_other_one_its_loss(
    run: Run, trained: Trained, tmp_path: Path, first: bool
) -> None:
    card = replace(read_card(trained.instance), perceptual={})
    write_model(tmp_path / "imported.safetensors", card, load_file(trained.instance))
    save_picture(tmp_path / "photos" / "a.png", 64, 64)
    models = ["imported.safetensors", "udnie"]
    done = run("compare", *models[:: 1 if first else -1], "--photos", "photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"udnie +instance +[\d.]+ +[\d.]+ +[\d.]+ ", done.stdout)
    assert re.search(r"imported +instance +- +- +- ", done.stdout)
    assert "No loss for imported: it came from another program" in done.stderr
    assert "mean of 1 photo, by the loss network vgg19-slim." in done.stderr
    if first:  # nor does one whose loss network is a file, and that can be given
        done = run("compare", trained.instance, "udnie", "--photos", "photos", "--overwrite",
                   cwd=tmp_path)  # fmt: skip
        assert re.search(r"udnie +instance +[\d.]+ +[\d.]+ +[\d.]+ ", done.stdout)
        assert "its loss network 'tiny-vgg' is a file: give it as --perceptual FILE" in done.stderr


@pytest.mark.parametrize(
    ("stands_for_it", "words"),
    [
        (False, "trained with the loss network 'tiny-vgg', which 'other' is not"),
        (True, "by the loss network other, which stands for tiny-vgg."),
    ],
)
def test_another_loss_network_measures_nothing_unless_it_stands_for_theirs(
    run: Run,
    trained: Trained,
    small_perceptual: Path,
    tmp_path: Path,
    stands_for_it: bool,
    words: str,
) -> None:
    save_picture(tmp_path / "photos" / "a.png", 32, 32)
    other, metadata = tmp_path / "other.safetensors", {"architecture": "vgg19"}
    if stands_for_it:
        metadata["stands_for"] = file_sha256(small_perceptual)
    save_file(load_file(small_perceptual), other, metadata)
    done = run(
        "compare", trained.instance, trained.batch, "--photos", tmp_path / "photos",
        "--perceptual", other, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert words in done.stderr


def test_bad_input_is_one_line(run: Run, trained: Trained, tmp_path: Path) -> None:
    a, b = trained.instance, trained.batch
    assert_one_line(run("compare", a, b, "--photos", tmp_path), 2, "no pictures in")
    assert_one_line(run("compare", a, "nope", "--photos", tmp_path), 2, "no style 'nope'")
    save_picture(tmp_path / "photo.png", 16, 16)
    (tmp_path / "file").touch()  # found out before the work
    words = ("compare", a, b, "--photos", tmp_path, "--output", tmp_path / "file" / "out")
    assert_one_line(run(*words), 1, f"cannot write into {tmp_path / 'file'}: ")
