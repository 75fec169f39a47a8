"""Distil the loss network that ships: `python scripts/distil_perceptual.py TEACHER --content DIR`.

A student of the teacher's widths, from random weights, learns the teacher's activations behind
every ReLU that the losses look at, and those between, on photographs that are changed as strongly
as a style changes them: other colours, contrast, blur, noise, flat patches, two pictures in one.
Stopped and started again it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from stylize.imaging.files import find_pictures
from stylize.losses import gram_matrix
from stylize.networks.perceptual import PerceptualNet, load_perceptual
from stylize.safe_write import atomic_file
from stylize.training.data import PhotoSampler
from stylize.training.optimiser import Muon

DEEPEST = "relu4_1"
"""What the default losses look at; nothing deeper is distilled."""

CHECKPOINT_EVERY = 250

SAME = 0.01
"""Parts of the teacher's energy that a student may miss and still stand for it: held-out losses by
either are then the same to two digits."""


def initial_student(teacher: PerceptualNet, layers: tuple[str, ...]) -> dict[str, Tensor]:
    """Random weights of the teacher's shapes and scales, by torchvision's names.

    The scales matter: this teacher's first layer is seven times as strong as He's initialisation,
    and steps of one size would not get there.
    """
    weights = {}
    for index, layer in teacher.convolution_names()[: len(layers)]:
        weight = teacher.get_buffer(f"{layer}_weight")
        weights[f"features.{index}.weight"] = torch.randn(weight.shape) * weight.std()
        weights[f"features.{index}.bias"] = torch.zeros(weight.shape[0])
    return weights


class Optimiser:
    """Muon for the weights and Adam for the biases, each layer with steps that fit its scale.

    The layers are regressions on inputs that hang together closely, and Adam all but stands still
    on them: 200 steps of Adam took nothing from a loss that as many of Muon took a fifth from.
    """

    def __init__(self, student: PerceptualNet, teacher: PerceptualNet) -> None:
        kernels, biases = [], []
        for _, layer in student.convolution_names():
            weight, bias = (student.get_buffer(f"{layer}_{kind}") for kind in ("weight", "bias"))
            of_teacher = teacher.get_buffer(f"{layer}_weight")
            usual = math.sqrt(2 / of_teacher[0].numel())
            scale = max(1.0, float(of_teacher.std()) / usual)
            kernels.append({"params": [weight], "scale": scale})
            biases.append({"params": [bias], "scale": scale})
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(kernels, lr=1e-3, dtype=torch.bfloat16),
            torch.optim.Adam(biases, betas=(0.9, 0.99)),
        )

    def step(self, loss: Tensor, rate: float) -> None:
        """Go down by one step; `rate` is Adam's, and Muon's steps are as large."""
        for part in self.parts:
            part.zero_grad()
        torch.autograd.backward(loss)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group["scale"]
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """From a checkpoint."""
        for part, saved in zip(self.parts, state, strict=True):
            part.load_state_dict(saved)


def changed_strongly(photos: Tensor, random: torch.Generator) -> Tensor:
    """(N, 3, H, W) in 0..1 -> the same shape, each changed in its own way."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(photos), *(shape or (1, 1, 1)), generator=random) * (high - low) + low

    def sometimes(part: float, changed: Tensor, plain: Tensor) -> Tensor:
        return torch.where(uniform(0, 1) < part, changed, plain)

    x = photos
    # Another picture's patches, and another picture shining through.
    side = int(torch.randint(4, 33, (1,), generator=random))
    cells = torch.rand(len(x), 1, *(math.ceil(n / side) for n in x.shape[2:]), generator=random)
    patches = F.interpolate(cells, scale_factor=side)[..., : x.shape[2], : x.shape[3]] < 0.5
    x = sometimes(0.3, torch.where(patches, x, x.roll(1, 0)), x)
    x = sometimes(0.2, torch.lerp(x, x.roll(2, 0), uniform(0, 1)), x)
    # Coarser, or finer: blur by shrinking, sharpen by taking the blurred picture away.
    factor = int(torch.randint(2, 9, (1,), generator=random))
    blurred = F.interpolate(F.avg_pool2d(x, factor, ceil_mode=True), x.shape[2:], mode="bilinear")
    x = sometimes(0.6, x + (x - blurred) * uniform(-1, 3), x)
    # Flat areas with hard edges, as strokes have.
    levels = uniform(2, 6).round()
    x = sometimes(0.2, (x * levels).round() / levels, x)
    # Any colours for the three it had; contrast and brightness.
    mixing = torch.eye(3) + torch.randn(len(x), 3, 3, generator=random) * uniform(0, 0.6, 1, 1)
    x = sometimes(0.7, torch.einsum("nij,njhw->nihw", mixing, x - 0.5) + 0.5, x)
    x = (
        (x - 0.5) * uniform(0.2, 2.5)
        + 0.5
        + torch.randn(x.shape[:2], generator=random)[..., None, None] * uniform(0, 0.3)
    )
    x = x + torch.randn(x.shape, generator=random) * uniform(0, 1).pow(3) * 0.5
    return x.clamp(0, 1)


class Student(PerceptualNet):
    """A loss network that remembers what went into its ReLUs."""

    def __init__(self, weights: dict[str, Tensor], teacher: PerceptualNet) -> None:
        super().__init__(weights, teacher.architecture, teacher.padding_mode)
        self.before_relu: dict[str, Tensor] = {}

    def convolve(self, x: Tensor, layer: str) -> Tensor:
        """As `PerceptualNet`'s, remembered."""
        self.before_relu[layer] = super().convolve(x, layer)
        return self.before_relu[layer]


def distillation_loss(student: Student, pictures: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """Parts of the teacher's energy that the student misses, in features and in Gram matrices.

    Where the teacher is above zero, what goes into the student's ReLU is compared, not what comes
    out: a channel below zero everywhere would learn nothing more, and 20 of the 32 of relu2_2 were.
    """
    found = student(pictures, tuple(wanted))
    total = torch.zeros(())
    for layer, target in wanted.items():
        raw = torch.where(target > 0, student.before_relu[layer], found[layer])
        total = total + part_missed(raw, target)
        total = total + part_missed(gram_matrix(found[layer]), gram_matrix(target))
    return total / len(wanted)


def part_missed(found: Tensor, wanted: Tensor) -> Tensor:
    """The energy of the difference in parts of what was wanted."""
    return (found - wanted).square().mean() / wanted.square().mean()


@torch.inference_mode()
def report(student: Student, teacher: PerceptualNet, batches: list[Tensor]) -> None:
    """Print a Markdown table: what each layer misses of features and of Gram matrices, percent."""
    print("| layer | features missed | Gram matrices missed |\n|---|---:|---:|")
    for layer in student.layers:
        features, grams = 0.0, 0.0
        for pictures in batches:
            found, wanted = (net(pictures, (layer,))[layer] for net in (student, teacher))
            features += float(part_missed(found, wanted)) / len(batches)
            grams += float(part_missed(gram_matrix(found), gram_matrix(wanted))) / len(batches)
        print(f"| {layer} | {features:.1%} | {grams:.2%} |")


def main() -> None:
    """Distil, writing a checkpoint now and then and the student at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", help="vgg19, or a safetensors file with features.* keys")
    parser.add_argument("--content", type=Path, required=True, help="folder of photos")
    parser.add_argument("--output", type=Path, required=True, help="the student, .safetensors")
    parser.add_argument("--start", default="", help="a student to go on with")
    parser.add_argument("--source", default="", help="what the metadata says of the teacher")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--batch-size", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    teacher = load_perceptual(arguments.teacher)
    layers = teacher.layers[: teacher.layers.index(DEEPEST) + 1]
    student = Student(initial_student(teacher, layers), teacher)
    weights = {
        name: buffer.requires_grad_()
        for name, buffer in student.named_buffers()
        if name not in ("mean", "std")
    }
    if arguments.start:
        student.load_state_dict(load_perceptual(arguments.start).state_dict())
    optimiser = Optimiser(student, teacher)
    sampler = PhotoSampler(
        find_pictures(arguments.content), arguments.size, arguments.batch_size, seed=0
    )
    checkpoint = arguments.output.with_suffix(".checkpoint")
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]

    bar = tqdm(total=arguments.steps, initial=first, mininterval=5)
    smooth = float("nan")
    for step, photos in enumerate(sampler.batches(first, arguments.steps), first):
        factor = (1 + math.cos(math.pi * step / arguments.steps)) / 2
        rate = arguments.learning_rate * factor * min(1, (step + 1) / 100)
        pictures = changed_strongly(photos, torch.Generator().manual_seed(step))
        with torch.no_grad():
            wanted = teacher(pictures, layers)
        loss = distillation_loss(student, pictures, wanted)
        optimiser.step(loss, rate)
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
        bar.update()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == arguments.steps:
            with atomic_file(checkpoint) as path:
                torch.save(
                    {
                        "student": student.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "step": step + 1,
                    },
                    path,
                )
    bar.close()

    halves = {
        f"features.{index}.{kind}": weights[f"{layer}_{kind}"].detach().half().contiguous()
        for index, layer in student.convolution_names()
        for kind in ("weight", "bias")
    }
    steps_before = ""
    if arguments.start:
        with safe_open(arguments.start, framework="pt") as file:
            steps_before = file.metadata()["steps"]
    metadata = {
        "architecture": student.architecture,
        "padding_mode": student.padding_mode,
        "teacher": f"{teacher.name}, SHA-256 {teacher.sha256}",
        "source": arguments.source,
        "stands_for": teacher.sha256 if smooth < SAME else "",
        "steps": " + ".join(filter(None, [steps_before, str(arguments.steps)])),
        "loss": f"{smooth:.4f} of the teacher's energy, mean over layers, on changed photos",
    }
    with atomic_file(arguments.output) as path:
        save_file(halves, path, metadata)
    others = range(arguments.steps, arguments.steps + 8)  # crops and changes that it never saw
    report(
        student,
        teacher,
        [
            changed_strongly(photos, torch.Generator().manual_seed(step))
            for step, photos in zip(others, sampler.batches(others.start, others.stop), strict=True)
        ],
    )


if __name__ == "__main__":
    main()
