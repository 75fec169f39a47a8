"""What a comparison says of its own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import stylize
from stylize.comparison.experiment import compare_models
from stylize.comparison.report import notes
from tests.conftest import save_picture


@pytest.mark.parametrize(("other", "alike"), [("starry_night_batch", True), ("the_scream", False)])
def test_losses_against_different_paintings_cannot_be_compared(
    tmp_path: Path, other: str, alike: bool
) -> None:
    names = ["starry_night", other]
    models = [stylize.load(name, device="cpu", precision="fp32") for name in names]
    found = compare_models(models, names, [save_picture(tmp_path / "a.png", 32, 32)])
    assert all(model.loss for model in found.models)
    assert found.one_painting is alike
    warned = [line for line in notes(found) if "cannot be compared" in line]
    assert len(warned) == (not alike)
