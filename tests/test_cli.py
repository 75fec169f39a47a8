"""The command line as people use it, in processes of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stylize
from stylize.imaging.files import read_rgb
from stylize.model_file import file_sha256
from tests.conftest import (
    Run,
    Trained,
    assert_one_line,
    make_picture,
    save_picture,
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


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "stylize apply a.jpg --style the_scr",
            ["the_scream", "the_scream_batch", "the_scream_fast"],
        ),
        ("stylize styles engr", ["engraving"]),
        ("stylize export nothing", []),
        ("stylize compare udnie starry_night_b", ["starry_night_batch"]),
    ],
)
def test_a_shell_completes_styles(line: str, found: list[str]) -> None:
    """As the script of `stylize --show-completion bash` asks; for none it completes files."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['stylize']; import stylize.cli as c; c.main()",
        ],
        env=os.environ | asked | {"_STYLIZE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == found


def test_a_photo_without_a_command(run: Run, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "my photo.png")
    assert_one_line(run(photo), 2, f"try: stylize apply {shlex.quote(str(photo))}")


def with_torch(code: str, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """The command line where importing torch does something else."""
    (folder / "torch.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "stylize", *map(str, words), "--backend", "torch"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        # A shell that put the tests into the background made them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_a_library_that_cannot_be_loaded_is_one_line(trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    code = "raise ImportError('libcudart.so.12:\\n no such file')"
    done = with_torch(code, tmp_path, "apply", photo, "-s", trained.instance)
    assert_one_line(done, 1, "cannot be loaded: libcudart.so.12: no such file")


def test_a_gpu_that_fails_is_one_line(trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    code = "raise RuntimeError('CUDA error: unspecified launch failure\\nCUDA kernel errors might')"
    done = with_torch(code, tmp_path, "apply", photo, "-s", trained.instance)
    assert_one_line(
        done, 1, "the GPU failed: CUDA error: unspecified launch failure; --device cpu does"
    )
    done = with_torch(code.replace("CUDA e", "an e"), tmp_path, "apply", photo)
    assert "Traceback" in done.stderr  # a fault of ours is not hidden


def test_ctrl_c_that_a_library_swallows_is_no_fault_of_its(
    trained: Trained, tmp_path: Path
) -> None:
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    code = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    pass
raise AttributeError("partially initialised")
"""
    done = with_torch(code, tmp_path, "apply", photo, "-s", trained.instance)
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr


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
            ((photo, "-s", model, "--size", 90000, "--enlarge"), 1, "would become 90000 x"),
            ((photo, "-s", model, "--enlarge"), 2, "--enlarge needs --size"),
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
