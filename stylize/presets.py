"""How long to train: three answers for each kind of device."""

from __future__ import annotations

from typing import Any, Literal, get_args

Preset = Literal["quick", "standard", "best"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

_PAINTED: dict[str, Any] = {
    "covariance_weight": 0.4,
    "ground": 0.25,
    "content_layers": ("relu2_1", "relu3_1"),
    "content_weight": 0.6,
    "content_focus": 0.9,
    "patch_weight": 10.0,
    "palette_weight": 200.0,
    "style_grit": 0.015,
}
"""What every preset sets: Gram matrices alone change a photo's colours and leave out the brush,
without a ground calm areas get one stroke over and over, faces lose their features where content
counts everywhere alike, at a quarter of the resolution, patches of colour lie where the photo has
none, drawings are tinted, and what a scan has of specks and canvas becomes cloth
(docs/pictures.md)."""

_CPU: dict[Preset, dict[str, Any]] = {
    # A minute on two cores with AVX-512, measuring and importing included (less on a fast one, 50 s
    # of training alone on a slow one); one to three with AVX2 alone. So few steps leave beads along
    # edges where they are asked for more of the brush.
    "quick": {
        "steps": 90,
        "warmup_steps": 10,
        "held_out_photos": 8,
        "preview_every": 50,
        "covariance_weight": 0.1,
    },
    "standard": {"steps": 500, "warmup_steps": 25, "held_out_photos": 32, "preview_every": 100},
    "best": {"steps": 2000},
}
_GPU: dict[Preset, dict[str, Any]] = {
    "quick": {"steps": 500, "batch_size": 4, "warmup_steps": 25, "held_out_photos": 32},
    "standard": {"steps": 2000, "batch_size": 4},
    "best": {"steps": 8000, "batch_size": 4},
}


def preset_settings(preset: Preset, device: str) -> dict[str, Any]:
    """What a preset sets on a device, by its type ("cpu", "cuda", "mps").

    Example:
        >>> preset_settings("quick", "cpu")["steps"]
        90
    """
    return _PAINTED | (_CPU if device == "cpu" else _GPU)[preset]
