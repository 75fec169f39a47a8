"""Whether a machine has the memory that a run will take.

Linux promises memory that it has not, and ends a process that takes it, without a word.
"""

from __future__ import annotations

import torch

from stylize.config import TrainConfig
from stylize.errors import StylizeError
from stylize.free_memory import free_memory
from stylize.networks.perceptual import PerceptualNet

NETWORK_BYTES, LOSS_BYTES, LOSS_CHANNEL_BYTES = 1930, 460, 61
"""What a step takes for each pixel of a batch: for a transformer network of width 1, for any loss
network, and for each channel of its first layer. Measured at 512 px, in all: 3,360 to 4,030 bytes
with vgg19-slim (16 channels), 1,910 by a network of width 0.25, 6,270 to 6,740 with VGG-19; in
bfloat16, whose gradients and norms are float32 on their way, 3,470 to 3,700, 1,790 and 4,980."""

SURE = 1.25
"""Times what is free that a run must seem to take to be refused: the above is no promise."""


def check_memory(config: TrainConfig, perceptual: PerceptualNet, device: torch.device) -> None:
    """Refuse steps for which a CPU has no memory; a GPU says so itself.

    Raises:
        StylizeError: they need far more than is free.
    """
    if device.type != "cpu":
        return
    channels = perceptual.get_buffer("relu1_1_weight").shape[0]
    pixel = NETWORK_BYTES * config.width + LOSS_BYTES + LOSS_CHANNEL_BYTES * channels
    needed, free = pixel * config.batch_size * config.size**2, free_memory()
    if needed > SURE * free:
        raise StylizeError(
            f"steps of {config.batch_size} photos of {config.size} x {config.size} px take some "
            f"{needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free; give a smaller "
            f"--batch-size or --size"
        )
