"""ONNX: one InstanceNormalization node a layer, sizes that stay dynamic, the same numbers."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from stylize.networks.layers import InstanceNorm2d
from stylize.networks.transformer import TransformerNet


def export(module: nn.Module, example: torch.Tensor, smallest: int) -> bytes:
    """An ONNX file of a module whose batch, height and width stay open."""
    batch = torch.export.Dim("batch", min=1, max=64)
    height, width = (torch.export.Dim(name, min=smallest, max=16384) for name in ("h", "w"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about its own
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch, 2: height, 3: width},),
            verbose=False,
        )
        assert program is not None
    return bytes(program.model_proto.SerializeToString())


def run(model: bytes, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (name,) = (entry.name for entry in session.get_inputs())
    found: np.ndarray = session.run(None, {name: x.numpy()})[0]
    return found


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_a_layer_is_one_node_of_any_size(affine: bool, relu: bool) -> None:
    layer = InstanceNorm2d(6, affine=affine, relu=relu)
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    model = export(layer, torch.randn(2, 6, 12, 10), 2)
    nodes = [node.op_type for node in onnx.load_model_from_string(model).graph.node]
    assert nodes.count("InstanceNormalization") == 1
    for shape in ((1, 6, 5, 9), (3, 6, 16, 7)):
        x = torch.randn(shape) * 3 + 1
        # Sums of at most 112 single-precision values in another order, normalised to about 1.
        np.testing.assert_allclose(run(model, x), layer(x).detach().numpy(), atol=2e-5)


def test_the_network_has_a_node_for_each_norm() -> None:
    torch.manual_seed(0)
    network = TransformerNet(width=0.25).eval()
    norms = sum(stage.norm == "instance" for stage in network.plan.stages)
    model = export(network, torch.rand(2, 3, 24, 32), 8)
    nodes = [node.op_type for node in onnx.load_model_from_string(model).graph.node]
    assert nodes.count("InstanceNormalization") == norms
    for shape in ((1, 3, 17, 30), (2, 3, 40, 21)):
        x = torch.rand(shape)
        with torch.inference_mode():
            expected = network(x).numpy()
        np.testing.assert_allclose(run(model, x), expected, atol=2e-4)
