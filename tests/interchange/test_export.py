"""Exported styles compute what ours do, at any size, and carry their card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import stylize
from stylize.networks.plan import MIN_SIDE
from tests.conftest import Run, Trained, assert_one_line

SHAPES = ((1, 3, 8, 8), (1, 3, 33, 46), (3, 3, 20, 9))

# Single precision in another order through sixteen layers, on weights hardly trained.
CLOSE = 1e-4


@pytest.mark.parametrize("name", ["instance", "batch", "grounded"])
def test_onnx(run: Run, trained: Trained, tmp_path: Path, name: str) -> None:
    style = getattr(trained, name)
    norm = "batch" if name == "batch" else "instance"
    done = run("export", style, "--format", "onnx", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{name}.onnx\n"), done.stderr
    path = tmp_path / f"{name}.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model)
    nodes = [node.op_type for node in model.graph.node]
    assert nodes.count("InstanceNormalization") == (15 if norm == "instance" else 0)
    card = json.loads({entry.key: entry.value for entry in model.metadata_props}["stylize"])
    assert (card["name"], card["norm"], card["smallest_side"]) == (name, norm, MIN_SIDE)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    restyle = stylize.load(style, device="cpu", backend="torch", precision="fp32")
    for shape in SHAPES:
        photo = torch.rand(shape)
        (found,) = session.run(["restyled"], {"photo": photo.numpy()})
        np.testing.assert_allclose(found, restyle(photo).numpy(), atol=CLOSE)


@pytest.mark.parametrize("name", ["instance", "batch", "grounded"])
def test_openvino(run: Run, trained: Trained, tmp_path: Path, name: str) -> None:
    openvino = pytest.importorskip("openvino")
    style = getattr(trained, name)
    done = run("export", style, "-f", "openvino", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{name}.xml\n"), done.stderr
    model = openvino.Core().read_model(tmp_path / f"{name}.xml")
    card = json.loads(model.get_rt_info("stylize").astype(str))
    assert (card["name"], card["smallest_side"]) == (name, MIN_SIDE)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    restyle = stylize.load(style, device="cpu", backend="torch", precision="fp32")
    for shape in SHAPES:
        photo = torch.rand(shape)
        found = compiled({"photo": photo.numpy()})["restyled"]
        np.testing.assert_allclose(found, restyle(photo).numpy(), atol=CLOSE)
    (tmp_path / f"{name}.xml").unlink()
    assert_one_line(run("export", style, "-f", "openvino", cwd=tmp_path), 1, "bin exists")


@pytest.mark.parametrize("name", ["instance", "grounded"])
def test_pt2(run: Run, trained: Trained, tmp_path: Path, name: str) -> None:
    style = getattr(trained, name)
    done = run("export", style, "-f", "pt2", "-o", tmp_path / "style.pt2")
    assert done.returncode == 0, done.stderr
    files = {"stylize": ""}
    program = torch.export.load(tmp_path / "style.pt2", extra_files=files).module()
    assert json.loads(files["stylize"])["name"] == name
    restyle = stylize.load(style, device="cpu", backend="torch", precision="fp32")
    for shape in SHAPES:
        photo = torch.rand(shape)
        torch.testing.assert_close(program(photo), restyle(photo), atol=CLOSE, rtol=0)


def test_bad_requests_are_one_line(run: Run, trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").write_text("mine")
    words = ("export", trained.instance, "-o")
    assert_one_line(run(*words, tmp_path / "there.onnx"), 1, "exists; give --overwrite")
    assert_one_line(run(*words, tmp_path / "style.pt"), 2, "must end in .onnx")
    assert_one_line(run(*words, tmp_path / "no" / "style.onnx"), 2, "no such folder")
    assert_one_line(run("export", "starry_nihgt"), 2, "did you mean starry_night?")
    assert (tmp_path / "there.onnx").read_text() == "mine"
