"""The network: sizes, plan and weights, and a start that is a picture."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylize.errors import UsageError
from stylize.networks.plan import NORMS, Norm, make_plan
from stylize.networks.transformer import TransformerNet


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 45), width=st.integers(1, 45), norm=st.sampled_from(NORMS))
def test_output_has_the_size_of_the_input(height: int, width: int, norm: Norm) -> None:
    network = TransformerNet(norm, width=0.125).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("width", [0.125, 0.3, 1.0, 1.5])
def test_state_dict_is_the_plans(norm: Norm, width: float) -> None:
    network = TransformerNet(norm, width)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert shapes == make_plan(norm, width).parameter_shapes()


def test_norms_have_equal_widths_and_equal_first_weights() -> None:
    weights = []
    for norm in NORMS:
        torch.manual_seed(0)
        state = TransformerNet(norm, 0.25).state_dict()
        weights.append({k: v for k, v in state.items() if k.endswith("conv.weight")})
    for other in weights[1:]:
        assert weights[0].keys() == other.keys()
        assert all(torch.equal(weights[0][name], other[name]) for name in other)


@pytest.mark.parametrize("norm", NORMS)
def test_the_first_picture_is_neither_black_nor_white(norm: Norm) -> None:
    torch.manual_seed(3)
    network = TransformerNet(norm).train()
    with torch.no_grad():
        first = network(torch.rand(2, 3, 64, 64))
    assert 0.3 < first.mean() < 0.7
    assert first.std() < 0.3  # a faint sketch: nearly all of it inside 0..1


def test_the_plan_refuses_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="norm is 'layer'"):
        make_plan("layer")
    with pytest.raises(UsageError, match="width is 9"):
        make_plan(width=9)
    with pytest.raises(UsageError, match="width is nan"):
        make_plan(width=float("nan"))


def test_instance_norm_ignores_contrast_and_brightness() -> None:
    """Ulyanov's argument: a + b * x gives the same picture as x."""
    torch.manual_seed(0)
    network = TransformerNet("instance", 0.25).eval()
    photo = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        difference = (network(photo) - network(0.5 * photo + 0.25)).abs().max()
    # Exact but for eps = 1e-5 against the variance of the first planes (> 1e-2): 1e-3 relative.
    assert difference < 5e-3
