"""The command line as people use it, in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import stylize
from stylize.imaging.files import read_rgb
from stylize.model_file import file_sha256, read_card, write_model
from tests.conftest import (
    Run,
    Trained,
    assert_one_line,
    make_picture,
    save_picture,
    without_pictures,
)

HEAVY = ("torch", "numpy", "PIL", "safetensors", "jinja2")


@pytest.mark.parametrize(
    "code",
    [
        "import stylize",
        "import sys; sys.argv[1:] = ['--help']; from stylize.cli import main; main()",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    probe = f"import atexit, sys; atexit.register(lambda: print(sorted(sys.modules))); {code}"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1]
    assert "stylize" in modules
    assert not [name for name in HEAVY if f"'{name}'" in modules]


@pytest.mark.parametrize("memory", ["1GB", "4MB"])
def test_apply_through_openvino_imports_no_torch(
    trained: Trained, tmp_path: Path, memory: str
) -> None:
    """Whole and in bands: importing torch takes longer than restyling a small photo."""
    pytest.importorskip("openvino")
    photo = save_picture(tmp_path / "photo.jpg", 300, 400)
    probe = (
        "import atexit, sys; atexit.register(lambda: print(sorted(sys.modules)));"
        f"sys.argv[1:] = ['apply', {str(photo)!r}, '--style', {str(trained.instance)!r},"
        f" '--backend', 'openvino', '--memory', '{memory}'];"
        "from stylize.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert (tmp_path / "photo-instance.jpg").exists()
    modules = done.stdout.splitlines()[-1]
    assert "'openvino'" in modules
    assert "'torch'" not in modules
    assert "'torchvision'" not in modules
    assert "'openvino.tools.ovc'" not in modules


def test_openvinos_converter_can_still_be_imported() -> None:
    pytest.importorskip("openvino")
    probe = (
        "from stylize.console.apply import _import_openvino; _import_openvino();"
        "from openvino.tools.ovc import convert_model; print(convert_model.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "convert_model\n"


def test_help_and_version(run: Run) -> None:
    assert run("--version").stdout == f"stylize {stylize.__version__}\n"
    for command in ("apply", "styles", "train", "compare", "ablate", "export", "import", "info"):
        assert command in run("--help").stdout
        assert run(command, "--help").returncode == 0


class TestApply:
    def test_beside_the_photo_upright_and_of_the_same_size(
        self, run: Run, trained: Trained, tmp_path: Path
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter
        Image.fromarray(make_picture(30, 50)).save(tmp_path / "photo.jpg", exif=exif)
        done = run("apply", tmp_path / "photo.jpg", "--style", trained.instance, "--device", "cpu")
        result = tmp_path / "photo-instance.jpg"
        assert done.stdout == f"{result}\n"
        assert done.returncode == 0
        with Image.open(result) as image:
            assert image.size == (30, 50)
            metadata = image.getexif()
            assert 0x0112 not in metadata
            sha256 = file_sha256(trained.instance)
            assert (
                metadata[0x0131]
                == f"stylize {stylize.__version__}; style instance; model sha256 {sha256}"
            )

    def test_the_command_is_the_library(self, run: Run, trained: Trained, tmp_path: Path) -> None:
        photo = save_picture(tmp_path / "photo.png")
        done = run("apply", photo, "-s", trained.batch, "-o", tmp_path / "out.png")
        assert done.returncode == 0
        restyle = stylize.load(trained.batch, device="cpu").restyle
        expected = restyle(read_rgb(photo), style_scale=None)
        assert np.array_equal(read_rgb(tmp_path / "out.png"), expected)

    def test_several_photos_one_of_them_bad(
        self, run: Run, trained: Trained, tmp_path: Path
    ) -> None:
        photos = [save_picture(tmp_path / f"{n}.png", 20, 20, n) for n in range(2)]
        bad = tmp_path / "bad.jpg"
        bad.write_text("no picture")
        done = run(
            "apply", photos[0], bad, photos[1], "-s", trained.instance, "-o", tmp_path / "out",
            "--quiet", COLUMNS="40",
        )  # fmt: skip
        assert done.returncode == 1
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            "0-instance.png",
            "1-instance.png",
        ]
        # Whole on a narrow terminal too, which must not cut names off.
        line = f"{bad}: is no readable picture: its format is not known"
        assert line in done.stderr.splitlines()
        assert "1 of 3 photos could not be restyled" in done.stderr
        assert "Traceback" not in done.stderr

    def test_results_are_never_overwritten_unasked(
        self, run: Run, trained: Trained, tmp_path: Path
    ) -> None:
        photo = save_picture(tmp_path / "photo.png", 16, 16)
        result = tmp_path / "photo-instance.png"
        result.write_bytes(b"mine")
        words = ("apply", photo, "--style", trained.instance)
        assert_one_line(run(*words), 1, "exists; give --overwrite")
        assert result.read_bytes() == b"mine"
        assert run(*words, "--overwrite", "--quiet").stderr == ""
        with Image.open(result) as image:
            assert image.size == (16, 16)

    def test_bad_input_is_one_line(self, run: Run, trained: Trained, tmp_path: Path) -> None:
        photo = save_picture(tmp_path / "photo.png", 16, 16)
        for name, data in {"text.jpg": b"text", "empty.jpg": b""}.items():
            (tmp_path / name).write_bytes(data)
        whole = save_picture(tmp_path / "whole.jpg", 200, 200).read_bytes()
        (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "other.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
        before = sorted(tmp_path.iterdir())
        model = trained.instance
        cases: list[tuple[tuple[object, ...], int, str]] = [
            ((tmp_path / "none.jpg", "-s", model), 2, "no such file"),
            (("https://example.org/a.jpg", "-s", model), 2, "is a URL; save it first"),
            ((tmp_path, "-s", model), 2, "is a folder; give --output FOLDER"),
            ((tmp_path / "*.webp", "-s", model), 2, "no file matches"),
            ((photo, "-s", model, "--strength", 2), 2, "must be 0 to 1"),
            ((photo, "-s", model, "--size", 0), 2, "at least 1 px"),
            ((photo, "-s", model, "--style-scale", "big"), 2, "auto, native, or a number"),
            ((photo, "-s", model, "--memory", "much"), 2, "give a size such as 2GB"),
            ((photo, "-s", model, "--memory", "1KB"), 2, "MB of memory, not 0 MB"),
            ((photo, "-s", model, "--max-megapixels", 0.0001), 1, "--max-megapixels 1 raises that"),
            ((photo, photo, "-s", model, "-o", "-"), 2, "takes one result, not 2"),
            ((photo, photo, "-s", model, "-o", tmp_path / "new.png"), 2, "need a folder"),
            ((tmp_path / "text.jpg", "-s", model), 1, "no readable picture"),
            ((tmp_path / "empty.jpg", "-s", model), 1, "is empty"),
            ((tmp_path / "cut.jpg", "-s", model), 1, "truncated"),
            ((photo, "-s", "stary_night"), 2, "did you mean starry_night?"),
            ((photo, "-s", tmp_path / "none.safetensors"), 2, "no such model file"),
            ((photo, "-s", tmp_path / "other.safetensors"), 1, "no model that stylize wrote"),
            ((photo, "-s", model, "-o", tmp_path / "out.xyz"), 2, ".xyz"),
            ((photo, "-s", model, "-o", tmp_path / "no" / "out.png"), 2, "no such folder"),
            ((photo, "-s", model, "-o", photo, "--overwrite"), 2, "is the photo itself"),
            ((photo, photo, "-s", model), 2, "would both become"),
            ((photo, "-s", model, "--device", "gpu"), 2, "give auto, cpu, cuda"),
        ]
        for words, code, message in cases:
            assert_one_line(run("apply", *words), code, message)
        assert sorted(tmp_path.iterdir()) == before


class TestTrain:
    @pytest.mark.parametrize("norm", ["instance", "batch"])
    def test_the_file_carries_everything(self, trained: Trained, norm: str) -> None:
        done = trained.outputs[norm]
        path = getattr(trained, norm)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{path}\n"
        assert f"stylize apply photo.jpg --style {path}" in done.stderr
        card = read_card(path)
        assert card.norm == norm
        assert (card.steps, card.width, card.photos) == (3, 0.25, 10)
        assert card.style_image == "painting.png"
        assert card.style_sha256 == file_sha256(trained.folder / "painting.png")
        assert card.perceptual["name"] == "tiny-vgg"
        assert card.settings["size"] == 64
        assert card.held_out_before is not None
        assert card.held_out_after is not None
        assert card.held_out_after["photos"] == 2
        assert str(trained.folder) not in path.read_bytes().decode("latin-1")

    def test_the_preview_shows_photos_over_results(self, trained: Trained) -> None:
        with Image.open(trained.folder / "instance.preview.png") as strip:
            assert strip.size[0] > 2 * 256
            assert strip.size[1] > 2 * 256

    def test_without_photos_and_with_logs(
        self, run: Run, tmp_path: Path, small_perceptual: Path
    ) -> None:
        pytest.importorskip("tensorboard")
        painting = save_picture(tmp_path / "painting.png", 60, 50)
        done = run(
            "train", "--style", painting, "--steps", 2, "--size", 32, "--style-size", 48,
            "--perceptual", small_perceptual, "--set", "width=0.125", "--device", "cpu",
            "--log-dir", tmp_path / "logs", "--set", "style_grit=0.001", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for words in (
            "256 generated pictures", "begins from random weights", "about 1 min",
            "softened to 0.001",
        ):  # fmt: skip
            assert words in done.stderr
        assert read_card(tmp_path / "painting.safetensors").photos == 0
        (log,) = (tmp_path / "logs").iterdir()
        assert log.stat().st_size > 100

    def test_ctrl_c_ends_with_a_usable_model(
        self, trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
    ) -> None:
        path = tmp_path / "stopped.safetensors"
        words = [
            "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
            "--steps", 100000, "--size", 32, "--style-size", 32, "--set", "width=0.125",
            "--perceptual", small_perceptual, "--output", path, "--preview-every", 1,
        ]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "stylize", *map(str, words)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 120
        while not (tmp_path / "stopped.preview.png").exists():  # the first step is done
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert out == f"{path}\n"
        assert "of 100000 steps; saved" in err
        assert "Traceback" not in err
        card = read_card(path)
        assert 1 <= card.steps < 100000
        assert card.held_out_after is None
        photo = save_picture(tmp_path / "photo.png", 16, 16)
        assert run("apply", photo, "--style", path).returncode == 0

    def test_unreadable_photos_are_named_at_the_end(
        self, trained: Trained, small_perceptual: Path, tmp_path: Path, run: Run
    ) -> None:
        for number in range(3):
            save_picture(tmp_path / "photos" / f"{number}.png", 40, 40, number)
        (tmp_path / "photos" / "bad.jpg").write_text("no picture")
        done = run(
            "train", "--style", trained.folder / "painting.png", "--content", tmp_path / "photos",
            "--steps", 50, "--size", 32, "--style-size", 32, "--set", "width=0.125", "--quiet",
            "--perceptual", small_perceptual, "--preview-every", 0, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == "painting.safetensors\n"
        # 0.png, the first by name, is held out; 100 samples show every photo and generated picture.
        lines = done.stderr.splitlines()
        assert lines[0] == "1 of 3 photos were left out:"
        assert lines[1].startswith(f"  {tmp_path / 'photos' / 'bad.jpg'} is no readable picture")
        assert len(lines) == 2

    def test_bad_input_is_one_line(
        self, trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
    ) -> None:
        painting = trained.folder / "painting.png"
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.jpg").write_text("text")
        good = {"--style": painting, "--content": photo_folder, "--perceptual": small_perceptual}
        cases: list[tuple[dict[str, object], int, str]] = [
            ({"--style": tmp_path / "none.jpg"}, 2, "no such file"),
            ({"--style": "https://example.org/a.jpg"}, 2, "is a URL; save it first"),
            ({"--style": tmp_path / "empty"}, 2, "is a folder"),
            ({"--style": tmp_path / "text.jpg"}, 1, "no readable picture"),
            ({"--content": tmp_path / "empty"}, 2, "no pictures in"),
            ({"--content": tmp_path / "none"}, 2, "no such folder"),
            ({"--perceptual": "vgg17"}, 2, "vgg16, vgg19"),
            ({"--perceptual": tmp_path / "text.jpg"}, 1, "no readable safetensors"),
            ({"--config": "batchnorm"}, 2, "there are batch_norm"),
            ({"--set": "norm=layer"}, 2, "one of instance, batch, none"),
            ({"--set": "setps=3"}, 2, "did you mean steps?"),
            ({"--set": "style_layers=relu9_1"}, 2, "no layer 'relu9_1'"),
            ({"--steps": 0}, 2, "at least 1"),
            ({"--device": "gpu"}, 2, "give auto, cpu"),
            ({"--output": tmp_path / "model.pth"}, 2, "must end in .safetensors"),
            ({"--output": trained.instance}, 1, "exists; give --overwrite"),
        ]
        for change, code, message in cases:
            words = [word for pair in (good | change).items() for word in pair]
            assert_one_line(run("train", *words, cwd=tmp_path), code, message)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text.jpg"]

    def test_a_preview_that_cannot_be_written_does_not_cost_the_training(
        self, trained: Trained, photo_folder: Path, small_perceptual: Path, tmp_path: Path, run: Run
    ) -> None:
        (tmp_path / "painting.preview.png").mkdir()
        done = run(
            "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
            "--steps", 2, "--size", 32, "--style-size", 32, "--set", "width=0.125", "--quiet",
            "--perceptual", small_perceptual, "--preview-every", 1, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("no preview: ") == 2
        assert (tmp_path / "painting.safetensors").exists()

    @pytest.mark.parametrize(
        ("colour", "named"),
        # Colours that bf16, which is taken where the CPU is faster in it, rounds no further.
        [([-2.0, -1.0, 0.0], "black"), ([0.25, 0.5, 0.875], "one colour (64, 128, 223)")],
    )
    def test_a_network_that_paints_one_colour_is_named(
        self,
        trained: Trained,
        photo_folder: Path,
        small_perceptual: Path,
        tmp_path: Path,
        run: Run,
        colour: list[float],
        named: str,
    ) -> None:
        tensors = load_file(trained.instance)
        tensors["out.conv.weight"] = torch.zeros_like(tensors["out.conv.weight"])
        tensors["out.conv.bias"] = torch.tensor(colour)
        write_model(tmp_path / "flat.safetensors", read_card(trained.instance), tensors)
        for start, said in ((tmp_path / "flat.safetensors", True), (trained.instance, False)):
            done = run(
                "train", "--style", trained.folder / "painting.png", "--content", photo_folder,
                "--steps", 1, "--size", 32, "--style-size", 32, "--set", "width=0.25", "--quiet",
                "--perceptual", small_perceptual, "--set", f"start={start}", "--overwrite",
                "--set", "learning_rate=1e-9", cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert ("every picture comes out" in done.stderr) == said
            assert (f"comes out {named}; more steps" in done.stderr) == said

    def test_two_paintings_are_refused(self, run: Run, photo_folder: Path) -> None:
        done = run("train", "-s", "a.jpg", "-s", "b.jpg", "--content", photo_folder)
        assert_one_line(done, 2, "one model learns one painting")


class TestCompare:
    def test_table_page_and_sheet(
        self, run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
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
        self, run: Run, trained: Trained, tmp_path: Path
    ) -> None:
        save_picture(tmp_path / "photos" / "a.png", 32, 32)
        words = ("compare", trained.instance, trained.batch, "--photos", tmp_path / "photos")
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "give it as --perceptual FILE" in done.stderr
        assert (tmp_path / "comparison" / "sheet.png").exists()
        assert_one_line(run(*words, cwd=tmp_path), 1, "exists; give --overwrite")

    def test_what_ships_is_measured_by_the_loss_network_that_ships(
        self, run: Run, tmp_path: Path
    ) -> None:
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

    def test_another_loss_network_measures_nothing(
        self, run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
    ) -> None:
        save_picture(tmp_path / "photos" / "a.png", 32, 32)
        from safetensors.torch import load_file, save_file

        other = tmp_path / "other.safetensors"
        save_file(load_file(small_perceptual), other, {"architecture": "vgg19"})
        done = run(
            "compare", trained.instance, trained.batch, "--photos", tmp_path / "photos",
            "--perceptual", other, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "trained with the loss network 'tiny-vgg', which 'other' is not" in done.stderr

    def test_a_loss_network_may_stand_for_another(
        self, run: Run, trained: Trained, small_perceptual: Path, tmp_path: Path
    ) -> None:
        save_picture(tmp_path / "photos" / "a.png", 32, 32)
        from safetensors.torch import load_file, save_file

        student = tmp_path / "student.safetensors"
        metadata = {"architecture": "vgg19", "stands_for": file_sha256(small_perceptual)}
        save_file(load_file(small_perceptual), student, metadata)
        done = run(
            "compare", trained.instance, trained.batch, "--photos", tmp_path / "photos",
            "--perceptual", student, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "by the loss network student, which stands for tiny-vgg." in done.stderr

    def test_bad_input_is_one_line(self, run: Run, trained: Trained, tmp_path: Path) -> None:
        a, b = trained.instance, trained.batch
        assert_one_line(run("compare", a, b, "--photos", tmp_path), 2, "no pictures in")
        assert_one_line(run("compare", a, "nope", "--photos", tmp_path), 2, "no style 'nope'")
