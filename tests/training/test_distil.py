"""The script that makes the loss network that ships, at a small scale."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

from stylize.networks.perceptual import load_perceptual

SCRIPT = Path(__file__).parents[2] / "scripts" / "distil_perceptual.py"


def distil(teacher: Path, content: Path, output: Path, steps: int) -> tuple[str, dict[str, float]]:
    """What it wrote on stderr, and what each layer misses of its teacher's features, percent."""
    options: list[str | Path] = ["--content", content, "--output", output, "--steps", str(steps)]
    small = ["--size", "32", "--batch-size", "4", "--learning-rate", "3e-2"]
    done = subprocess.run(
        [sys.executable, SCRIPT, teacher, *options, *small],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    table = re.findall(r"\| (relu\d_\d) \| ([\d.]+)% \|", done.stdout)
    return done.stderr, {layer: float(percent) for layer, percent in table}


def test_a_student_comes_to_answer_as_its_teacher_and_goes_on(
    small_perceptual: Path, photo_folder: Path, tmp_path: Path
) -> None:
    # Its weights come from the seed that the student's come from: other way round they are others.
    tensors = {
        name: tensor.flip(0).contiguous() for name, tensor in load_file(small_perceptual).items()
    }
    teacher = tmp_path / "teacher.safetensors"
    save_file(tensors, teacher, {"architecture": "vgg19", "padding_mode": "reflect"})
    output = tmp_path / "student.safetensors"
    _, at_first = distil(teacher, photo_folder, output, steps=1)
    output.with_suffix(".checkpoint").unlink()
    _, missed = distil(teacher, photo_folder, output, steps=60)
    assert load_perceptual(str(output)).layers == load_perceptual(str(teacher)).layers
    assert all(missed[layer] < at_first[layer] for layer in at_first)
    assert missed["relu4_1"] < at_first["relu4_1"] / 3

    log, _ = distil(teacher, photo_folder, output, steps=61)
    assert "60/61" in log, "it began anew"
