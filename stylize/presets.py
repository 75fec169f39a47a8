"""How long to train, and how strongly a style: three answers for each kind of device."""

from __future__ import annotations

from typing import Any, Literal, get_args

Preset = Literal["quick", "standard", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

_PAINTED = {
    "style_strength": 10.0,
    "flat_weight": 60.0,
    "lattice_weight": 150.0,
    "edge_weight": 15.0,
}
"""A painted picture, not a photo in the painting's colours, and three times the usual prices to
keep it clean; ninety steps are too few for that (docs/training.md)."""

_CPU: dict[Preset, dict[str, Any]] = {
    # Under three minutes on two cores without bf16, measuring and importing included.
    "quick": {"steps": 90, "warmup_steps": 10, "held_out_photos": 8, "preview_every": 50},
    "standard": {
        "steps": 500,
        "warmup_steps": 25,
        "held_out_photos": 32,
        "preview_every": 100,
        **_PAINTED,
    },
    "best": {"steps": 2000, **_PAINTED},
}
_GPU: dict[Preset, dict[str, Any]] = {
    "quick": {"steps": 500, "batch_size": 4, "warmup_steps": 25, "held_out_photos": 32, **_PAINTED},
    "standard": {"steps": 2000, "batch_size": 4, **_PAINTED},
    "best": {"steps": 8000, "batch_size": 4, **_PAINTED},
}


def preset_settings(preset: Preset, device: str) -> dict[str, Any]:
    """What a preset sets on a device, by its type ("cpu", "cuda", "mps").

    Example:
        >>> preset_settings("quick", "cpu")["steps"]
        90
    """
    return dict((_CPU if device == "cpu" else _GPU)[preset])
