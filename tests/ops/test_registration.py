"""The operator as torch's own tools see it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylize.networks.layers import InstanceNorm2d
from stylize.ops.instance_norm import instance_norm
from stylize.ops.route import ROUTE_VARIABLE, route


def arguments(weight: tuple[int, ...] | None, residual: bool) -> tuple[Any, ...]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 5, requires_grad=True)
    gamma = None if weight is None else torch.randn(weight, requires_grad=True)
    beta = None if weight is None else torch.randn(weight, requires_grad=True)
    extra = torch.randn(2, 3, 6, 5, requires_grad=True) if residual else None
    return x, gamma, beta, 1e-5, True, extra


# opcheck itself looks at the .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("weight", [None, (3,), (2, 3)])
@pytest.mark.parametrize("residual", [False, True])
def test_passes_opcheck(weight: tuple[int, ...] | None, residual: bool) -> None:
    torch.library.opcheck(torch.ops.stylize.instance_norm.default, arguments(weight, residual))


def test_backward_passes_opcheck() -> None:
    x, gamma, beta, eps, relu, _ = arguments((3,), False)
    y, mean, rstd = torch.ops.stylize.instance_norm(x, gamma, beta, eps, relu, None)
    inputs = [t.detach() for t in (torch.randn_like(y), x, mean, rstd, gamma, beta)]
    torch.library.opcheck(torch.ops.stylize.instance_norm_backward.default, (*inputs, relu))


def test_torch_compile_keeps_one_graph_with_one_node() -> None:
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph

    layers = nn.Sequential(InstanceNorm2d(3, affine=True, relu=True), InstanceNorm2d(3))
    compiled = torch.compile(layers, fullgraph=True, backend=keep)
    x = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(compiled(x), layers(x))
    (graph,) = graphs
    ours = [node for node in graph.graph.nodes if "stylize" in str(node.target)]
    assert len(ours) == 2


def test_torch_compile_differentiates() -> None:
    x, gamma, beta, eps, relu, extra = arguments((3,), True)
    compiled = torch.compile(instance_norm, fullgraph=True, backend="aot_eager")
    inputs = (x, gamma, beta, extra)
    expected = torch.autograd.grad(instance_norm(x, gamma, beta, eps, relu, extra).sum(), inputs)
    got = torch.autograd.grad(compiled(x, gamma, beta, eps, relu, extra).sum(), inputs)
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two)


def test_autocast_leaves_bfloat16_in_bfloat16_out() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert instance_norm(torch.randn(1, 3, 4, 4).bfloat16()).dtype == torch.bfloat16
        assert instance_norm(torch.randn(1, 3, 4, 4)).dtype == torch.float32


@pytest.mark.parametrize("affine", [False, True])
def test_export_gives_one_aten_instance_norm(affine: bool) -> None:
    layer = InstanceNorm2d(3, affine=affine, relu=True).eval()
    side = torch.export.Dim("side", min=2, max=4096)
    x = torch.randn(1, 3, 8, 8)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({2: side, 3: side},))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert [t for t in targets if "norm" in t] == ["aten.instance_norm.default"]
    larger = torch.randn(1, 3, 11, 11)
    torch.testing.assert_close(exported.module()(larger), layer(larger))


def test_export_with_parameters_an_instance() -> None:
    class Conditional(nn.Module):
        def forward(self, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
            return instance_norm(x, gamma, beta, residual=x)

    inputs = (torch.randn(2, 3, 8, 8), torch.randn(2, 3), torch.randn(2, 3))
    exported = torch.export.export(Conditional(), inputs)
    torch.testing.assert_close(exported.module()(*inputs), Conditional()(*inputs))


@pytest.fixture
def fresh_route() -> Iterator[None]:
    route.cache_clear()
    yield
    route.cache_clear()


@pytest.mark.usefixtures("fresh_route")
def test_the_route_follows_the_device_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROUTE_VARIABLE, raising=False)
    assert route("cpu") == "reference"
    monkeypatch.setenv(ROUTE_VARIABLE, "fast")
    route.cache_clear()
    with pytest.raises(ValueError, match="must be triton or reference"):
        route("cpu")


def test_without_triton_cuda_falls_back_with_one_warning() -> None:
    code = (
        "import sys, warnings; sys.modules['triton'] = None\n"
        "from stylize.ops.route import route\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    print(route('cuda'), route('cuda'), len(caught), caught[0].category.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "reference reference 1 RuntimeWarning\n"


@pytest.mark.usefixtures("fresh_route")
def test_where_triton_cannot_launch_cuda_falls_back_with_one_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in images without a C compiler, which Triton calls for what launches its kernels."""
    probe = pytest.importorskip("stylize.ops.triton_probe")
    monkeypatch.delenv(ROUTE_VARIABLE, raising=False)

    def fail(device: str) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(probe, "launch", fail)
    with pytest.warns(RuntimeWarning, match="slower: Failed to find C compiler. Please specify"):
        assert route("cuda") == "reference"
    assert route("cuda") == "reference"


def test_a_kernel_can_be_launched() -> None:
    probe = pytest.importorskip("stylize.ops.triton_probe")
    device = "cuda" if torch.cuda.is_available() else "cpu"  # by Triton's interpreter
    assert probe.launch(device).tolist() == [1.0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("fresh_route")
def test_a_gpu_takes_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROUTE_VARIABLE, raising=False)
    assert route("cuda") == "triton"
