"""Batches as people run them: folders, patterns, pipes, interruptions, full disks."""

from __future__ import annotations

import io
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylize.zoo import list_styles
from tests.conftest import Run, Trained, assert_one_line, make_picture, save_picture


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_is_mirrored_and_done_once(run: Run, trained: Trained, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    save_picture(photos / "a.png", 20, 20)
    save_picture(photos / "deep" / "er" / "b.jpg", 20, 20)
    (photos / "bad.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("no photo")
    words = ("apply", photos, "-s", trained.instance, "-o", photos / "styled")
    done = run(*words, COLUMNS="500")
    assert done.returncode == 1
    assert names(photos / "styled") == ["a-instance.png", "deep/er/b-instance.jpg"]
    assert "1 of 3 photos could not be restyled" in done.stderr
    (photos / "bad.jpg").unlink()
    again = run(*words)
    assert (again.returncode, again.stdout) == (0, "")
    assert "2 skipped: their results exist" in again.stderr
    assert run(*words, "--overwrite").stdout.count("\n") == 2


def test_own_results_are_no_photos(run: Run, trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photos" / "a.jpg", 20, 20)
    assert run("apply", photo, "-s", trained.instance).returncode == 0
    result = photo.with_name("a-instance.jpg")
    words = ("apply", photo.parent, "-s", trained.batch, "-o", tmp_path / "out")
    done = run(*words)
    assert done.returncode == 0
    assert names(tmp_path / "out") == ["a-batch.jpg"]
    assert "1 skipped: results of stylize itself" in done.stderr
    for more in ((), ("-o", "-")):
        done = run("apply", result, "-s", trained.batch, *more)
        assert_one_line(done, 1, "result of stylize itself")
    # Of several, as a shell makes of `*.jpg`, they are left out, and so is what was made before.
    for several in ((photo, result), (photo.parent / "*.jpg",)):
        done = run("apply", *several, "-s", trained.batch, "--overwrite")
        assert (done.returncode, done.stdout) == (0, f"{photo.with_name('a-batch.jpg')}\n")
    other = save_picture(photo.with_name("b.jpg"), 20, 20)
    done = run("apply", photo, result, other, "-s", trained.batch)
    assert (done.returncode, done.stdout) == (0, f"{photo.with_name('b-batch.jpg')}\n")
    assert "1 skipped: their results exist" in done.stderr
    assert "1 skipped: results of stylize itself" in done.stderr


def test_several_styles(run: Run, trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    two = ("-s", trained.instance, "-s", trained.batch)
    done = run("apply", photo, *two, "-s", trained.instance)
    assert done.returncode == 0
    results = [tmp_path / "photo-instance.png", tmp_path / "photo-batch.png"]
    assert done.stdout == f"{results[0]}\n{results[1]}\n"
    alone = tmp_path / "alone.png"
    run("apply", photo, "-s", trained.batch, "-o", alone)
    assert alone.read_bytes() == results[1].read_bytes()
    # What was made before is not asked about: who tries styles tries more.
    results[0].unlink()
    done = run("apply", photo, *two)
    assert done.stdout == f"{results[0]}\n"
    assert "1 skipped: their results exist" in done.stderr
    (tmp_path / "bad.jpg").write_text("no picture")
    done = run("apply", tmp_path / "bad.jpg", photo, *two, "-o", tmp_path / "out", COLUMNS="500")
    assert done.returncode == 1
    assert names(tmp_path / "out") == ["photo-batch.png", "photo-instance.png"]
    assert done.stderr.count("bad.jpg: is no readable picture") == 1
    assert "2 of 4 pictures could not be restyled" in done.stderr


def test_every_style(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # no styles of one's own, on Linux
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    assert run("apply", photo, "-s", "all", "-o", tmp_path / "out", "--quiet").returncode == 0
    shown = [style.name for style in list_styles() if not style.twin]
    assert names(tmp_path / "out") == [f"photo-{name}.png" for name in shown]
    assert {"starry_night", "engraving"} < set(shown)
    assert not {"starry_night_batch", "starry_night_fast"} & set(shown)


def test_several_styles_that_cannot_be(run: Run, trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    other = tmp_path / "other" / "batch.safetensors"
    other.parent.mkdir()
    shutil.copy(trained.instance, other)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    before = sorted(tmp_path.rglob("*"))
    style, two = ("-s", trained.batch), ("-s", trained.batch, "-s", trained.instance)
    for words, code, message in [
        ((photo, *style, "-s", other), 2, "results of one name"),
        ((photo, *style, "-s", damaged), 1, "no model that stylize wrote"),
        ((photo, *two, "-o", tmp_path / "new.png"), 2, "need a folder"),
        ((photo, *two, "-o", photo), 2, "need a folder"),
        ((photo, *two, "-o", "-"), 2, "takes one result, not 2"),
        (("-", *two, "-o", tmp_path / "out"), 2, "for one style, not 2"),
    ]:
        assert_one_line(run("apply", *words), code, message)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_whose_reader_gives_up_in_its_own_way(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(make_picture(8, 8)).save(buffer, "DDS")
    data = bytearray(buffer.getvalue())
    data[80] = 1  # Pillow raises NotImplementedError when it opens this
    (tmp_path / "odd.dds").write_bytes(data)
    photo = save_picture(tmp_path / "photo.png", 16, 16)
    wide = save_picture(tmp_path / "wide.webp", 8, 16000)
    Image.new("RGB", (16400, 8)).save(tmp_path / "wider.png")
    words = ("apply", tmp_path / "odd.dds", photo, wide, "-s", trained.instance)
    done = run(*words, "-o", tmp_path / "out", COLUMNS="500")
    assert done.returncode == 1
    assert names(tmp_path / "out") == ["photo-instance.png", "wide-instance.webp"]
    assert "1 of 3 photos could not be restyled" in done.stderr
    done = run("apply", tmp_path / "wider.png", "-s", trained.instance, "-o", tmp_path / "w.webp")
    assert_one_line(done, 1, "cannot hold 16400 x 8 px")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that not even root writes into")
def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_text("never read")
    words = ("apply", tmp_path / "photo.jpg", "-s", trained.instance, "-o", "/proc/photo.jpg")
    assert_one_line(run(*words), 1, "cannot write into /proc")


def test_patterns(run: Run, trained: Trained, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.jpg"):
        save_picture(tmp_path / name, 16, 16)
    done = run("apply", "*.png", "-s", trained.instance, cwd=tmp_path)
    assert done.stdout.split() == ["a-instance.png", "b-instance.png"]


@pytest.mark.parametrize(
    ("given", "ending"),
    [("PNG", "PNG"), ("JPEG", "JPEG"), ("MPO", "JPEG")],  # MPO: a phone's, with more behind it
)
def test_pipes(trained: Trained, given: str, ending: str) -> None:
    buffer = io.BytesIO()
    picture = Image.fromarray(make_picture(20, 30))
    more = {"save_all": True, "append_images": [picture]} if given == "MPO" else {}
    picture.save(buffer, given, **more)
    words = ["apply", "-", "--style", trained.instance]
    done = subprocess.run(
        [sys.executable, "-m", "stylize", *map(str, words)],
        input=buffer.getvalue(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.size, image.format) == ((30, 20), ending)
    empty = subprocess.run(
        [sys.executable, "-m", "stylize", *map(str, words)],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (empty.returncode, empty.stdout) == (1, b"")
    assert empty.stderr == b"stylize: the picture is empty\n"


def test_a_pipe_into_a_file_overwrites_nothing(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")
    done = subprocess.run(
        [sys.executable, "-m", "stylize", "apply", "-", "-s", str(trained.instance), "-o",
         str(tmp_path / "there.png")],
        input=b"", capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"exists; give --overwrite" in done.stderr
    assert (tmp_path / "there.png").read_bytes() == b"mine"


def test_no_strength_gives_the_upright_photo(run: Run, trained: Trained, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = make_picture(20, 30)
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    words = ("apply", tmp_path / "photo.png", "-s", trained.instance, "--strength", 0)
    assert run(*words, "-o", tmp_path / "out.png").returncode == 0
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), np.rot90(pixels))


def test_looks_reach_the_picture(run: Run, trained: Trained, tmp_path: Path) -> None:
    photo = save_picture(tmp_path / "photo.png", 40, 60)
    seen = set()
    for number, look in enumerate(
        (
            "",
            "--keep-colors",
            "--strength 0.5",
            "--style-scale 2",
            "--size 30",
            "--size 90 --enlarge",
        )
    ):
        target = tmp_path / f"{number}.png"
        assert (
            run("apply", photo, "-s", trained.instance, "-o", target, *look.split()).returncode == 0
        )
        with Image.open(target) as image:
            longer = int(look.split()[1]) if "--size" in look else 60
            assert image.size == (longer, longer * 2 // 3)
            seen.add(image.tobytes())
    assert len(seen) == 6


def test_a_small_budget_goes_to_disk_and_says_so(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    photo = save_picture(tmp_path / "photo.png", 600, 400)
    words = (
        "apply", photo, "-s", trained.instance, "--style-scale", "native", "--device", "cpu",
        "--precision", "fp32", "-o",
    )  # fmt: skip
    plain = run(*words, tmp_path / "plain.png")
    tight = run(*words, tmp_path / "tight.png", "--memory", "3MB")
    assert plain.returncode == tight.returncode == 0
    assert "are kept in a temporary file" in tight.stderr
    with Image.open(tmp_path / "plain.png") as one, Image.open(tmp_path / "tight.png") as two:
        # The store is in half precision now: at most one level.
        assert np.abs(np.asarray(one).astype(int) - np.asarray(two)).max() <= 1


def start(
    *words: object, before: Callable[[], None] = lambda: None, stdin: int | None = None
) -> subprocess.Popen[str]:
    def prepare() -> None:
        # A shell that put the tests into the background made them ignore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        before()

    return subprocess.Popen(
        [sys.executable, "-m", "stylize", *map(str, words)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=prepare,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_batch_leaves_whole_files(
    trained: Trained, tmp_path: Path, number: signal.Signals
) -> None:
    # One is done soon; the others would take far longer than a busy machine may look away.
    photos = [save_picture(tmp_path / "00.png", 100, 100)]
    large = save_picture(tmp_path / "large.png", 1200, 1200)
    photos += [Path(shutil.copy(large, tmp_path / f"{n:02}.png")) for n in range(1, 30)]
    out = tmp_path / "out"
    process = start("apply", *photos, "-s", trained.instance, "-o", out, "--device", "cpu")
    deadline = time.monotonic() + 120
    while not list(out.glob("[0-9]*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    results = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 1 <= len(results) < 30
    for path in results:
        with Image.open(path) as image:
            image.load()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "of 30 photos are done" in err
        assert "Traceback" not in err
        assert len(results) == len(list(out.iterdir()))


def test_ctrl_c_ends_the_wait_for_standard_input(trained: Trained, tmp_path: Path) -> None:
    reading, writing = os.pipe()  # stays open: no more comes, and no end
    half = save_picture(tmp_path / "photo.png").read_bytes()[:100]
    os.write(writing, half)
    process = start("apply", "-", "-s", trained.instance, "-o", tmp_path / "o.png", stdin=reading)
    deadline = time.monotonic() + 120
    while select.select([reading], [], [], 0)[0]:  # until it reads
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    os.close(reading)
    os.close(writing)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("stopped; 0 of 1 photos are done\n")


def test_a_full_disk_is_one_line_and_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    """The kernel refuses files above a size, as a full disk refuses more bytes."""
    photo = save_picture(tmp_path / "photo.png", 200, 200)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = start("apply", photo, "-s", trained.instance, before=limit)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("stylize: cannot write ")
    assert err.count("\n") == 1
    assert names(tmp_path) == ["photo.png"]


def test_one_result_for_two_photos_gets_two_names(
    run: Run, trained: Trained, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    save_picture(photos / "a.jpg", 16, 16)
    Image.fromarray(make_picture(16, 16)).save(photos / "a.jp2")
    assert run("apply", photos, "-s", trained.instance, "-o", tmp_path / "out").returncode == 0
    assert names(tmp_path / "out") == ["a-instance.jpg", "a.jpg-instance.jpg"]
