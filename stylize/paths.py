"""Where things lie: what ships with stylize, and the user's own folders. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def shipped(kind: str) -> Path:
    """The folder `models` or `configs` that came with stylize.

    In a wheel they lie inside the package; in a checkout at its top.
    """
    packaged = Path(__file__).parent / "shipped" / kind
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / kind


def shipped_loss_network(name: str) -> Path:
    """Where a loss network would lie that came with stylize; beside the styles, as none of them."""
    return shipped("models") / "perceptual" / f"{name}.safetensors"


def user_styles() -> Path:
    """The user's own style folder: $STYLIZE_STYLES, or `styles` in the platform's data folder."""
    chosen = os.environ.get("STYLIZE_STYLES")
    return Path(chosen) if chosen else user_data_path("stylize", appauthor=False) / "styles"
