"""Styles as files for other programs: ONNX, OpenVINO, and PyTorch's own exported programs."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stylize.errors import StylizeError
from stylize.model_file import Model, ModelCard, read_model
from stylize.networks.plan import MIN_SIDE
from stylize.networks.transformer import TransformerNet
from stylize.safe_write import atomic_file

Format = Literal["onnx", "openvino", "pt2"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
"""Of the file that is written. OpenVINO's weights lie beside it, in a file that ends in .bin."""

MAX_SIDE, MAX_BATCH = 32768, 1024
"""Bounds that torch.export wants for the open sizes."""

EXAMPLE = (2, 3, 40, 48)
"""The input that is traced: no side equals another, so that none is taken for another."""

METADATA = "stylize"
"""Key of the card in an exported file."""


class Restyle(nn.Module):
    """The network as other programs see it: (N, 3, H, W), RGB in 0..1, to the same in 0..1."""

    def __init__(self, network: TransformerNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, photo: Tensor) -> Tensor:
        """Restyle and clamp."""
        restyled: Tensor = self.network(photo)
        return restyled.clamp(0, 1)


def export_model(style: Path, output: Path, format_name: Format) -> ModelCard:
    """Write a style in another format, batch, height and width open, its card inside.

    Sides are MIN_SIDE (8) pixels at least: the smaller ones that stylize takes would need a branch.

    Args:
        style: a model file.
        format_name: "onnx", "openvino" or "pt2".

    Raises:
        StylizeError: a library that the format needs is missing, or the file cannot be written.
    """
    model = read_model(style)
    card = model.card
    if format_name == "openvino":
        _write_openvino(model, output)
        return card
    network = TransformerNet(card.norm, card.width, card.ground)
    network.load_tensors(model.tensors())
    module = Restyle(network).eval().requires_grad_(False)
    metadata = _metadata(card)
    with _quiet():
        data = _onnx(module, metadata) if format_name == "onnx" else _pt2(module, metadata)
    with atomic_file(output) as temporary:
        temporary.write_bytes(data)
    return card


def _write_openvino(model: Model, output: Path) -> None:
    """The graph that restyles here, but (N, 3, H, W), and as large as what it is given."""
    try:
        import openvino as ov
    except ImportError as error:
        raise StylizeError("OpenVINO is not installed; pip install openvino") from error
    from stylize.inference.openvino_graph import exported_graph

    graph = exported_graph(model.card.plan, model.arrays)
    graph.set_rt_info(_metadata(model.card), METADATA)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.xml"
        ov.save_model(graph, made, compress_to_fp16=False)
        # The weights first: a reader who finds the graph finds its weights as well.
        for suffix in (".bin", ".xml"):
            with atomic_file(output.with_suffix(suffix)) as temporary:
                shutil.copyfile(made.with_suffix(suffix), temporary)


def _metadata(card: ModelCard) -> str:
    return json.dumps(asdict(card) | {"smallest_side": MIN_SIDE}, sort_keys=True)


def _shapes() -> Any:
    sides = {
        axis: torch.export.Dim(name, min=MIN_SIDE, max=MAX_SIDE)
        for axis, name in ((2, "height"), (3, "width"))
    }
    return ({0: torch.export.Dim("batch", min=1, max=MAX_BATCH), **sides},)


def _onnx(module: nn.Module, metadata: str) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise StylizeError(f"ONNX needs {error.name}; pip install 'stylize[onnx]'") from error
    program = torch.onnx.export(
        module,
        (torch.zeros(EXAMPLE),),
        input_names=["photo"],
        output_names=["restyled"],
        dynamic_shapes=_shapes(),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, metadata
    return bytes(model.SerializeToString())


def _pt2(module: nn.Module, metadata: str) -> bytes:
    program = torch.export.export(module, (torch.zeros(EXAMPLE),), dynamic_shapes=_shapes())
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA: metadata})
    return buffer.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' words about themselves."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
