"""How long to train, and how strongly a style: three answers for each kind of device."""

from __future__ import annotations

from typing import Any, Literal, get_args

Preset = Literal["quick", "standard", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

PAINTED = 10.0
"""A style strength that paints a picture instead of changing a photo's colours; ninety steps are
too few for it (docs/training.md)."""

_CPU: dict[Preset, dict[str, Any]] = {
    # A minute and a half on two cores with AVX2 alone, measuring and importing included.
    "quick": {"steps": 90, "warmup_steps": 10, "held_out_photos": 8, "preview_every": 50},
    "standard": {
        "steps": 500,
        "warmup_steps": 25,
        "held_out_photos": 32,
        "preview_every": 100,
        "style_strength": PAINTED,
    },
    "best": {"steps": 2000, "style_strength": PAINTED},
}
_GPU: dict[Preset, dict[str, Any]] = {
    "quick": {
        "steps": 500,
        "batch_size": 4,
        "warmup_steps": 25,
        "held_out_photos": 32,
        "style_strength": PAINTED,
    },
    "standard": {"steps": 2000, "batch_size": 4, "style_strength": PAINTED},
    "best": {"steps": 8000, "batch_size": 4, "style_strength": PAINTED},
}


def preset_settings(preset: Preset, device: str) -> dict[str, Any]:
    """What a preset sets on a device, by its type ("cpu", "cuda", "mps").

    Example:
        >>> preset_settings("quick", "cpu")["steps"]
        90
    """
    return dict((_CPU if device == "cpu" else _GPU)[preset])
