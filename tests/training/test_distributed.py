"""Two processes against one of the same global batch, on gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from stylize.config import TrainConfig
from stylize.model_file import read_card
from stylize.networks.plan import Norm
from stylize.networks.transformer import TransformerNet
from stylize.training.distributed import World
from stylize.training.trainer import Trainer
from tests.command import fork_server
from tests.conftest import save_picture

SIZE = 2


def in_processes(work: Callable[..., None], words: tuple[object, ...], count: int) -> None:
    """Call `work(rank, *words)` in so many processes."""
    method = "spawn"
    if sys.platform == "linux":
        method = fork_server().get_start_method()
    start_processes(work, words, count, start_method=method)  # type: ignore[no-untyped-call]


def join(rank: int, folder: Path, size: int = SIZE) -> World:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{size}", rank=rank, world_size=size
    )
    return World(rank, size)


def descend(world: World, norm: Norm) -> dict[str, torch.Tensor]:
    """20 steps of plain gradient descent in float64, on this process's part of four pictures."""
    torch.manual_seed(0)
    network = TransformerNet(norm, width=0.125).double().train()
    photos, targets = torch.rand(2, 4, 3, 16, 16, dtype=torch.float64)
    part = 4 // world.size
    mine = slice(world.rank * part, (world.rank + 1) * part)
    parallel = world.wrap(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        torch.autograd.backward((parallel(photos[mine]) - targets[mine]).square().mean())
        optimiser.step()
    return {name: tensor.clone() for name, tensor in network.tensors().items()}


def descend_in_part(rank: int, norm: Norm, folder: Path) -> None:
    world = join(rank, folder)
    found = descend(world, norm)
    if world.leads:
        torch.save(found, folder / "found.pt")
    world.leave()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_two_processes_descend_as_one(norm: Norm, tmp_path: Path) -> None:
    expected = descend(World(), norm)
    in_processes(descend_in_part, (norm, tmp_path), SIZE)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, tensor in expected.items():
        # float64 sums in another order, 2^-53 each, through 20 steps.
        torch.testing.assert_close(found[name], tensor, atol=1e-9, rtol=1e-9, msg=name)


def first_gradients(
    world: World, words: dict[str, Any], painting: Path, photos: Path
) -> dict[str, torch.Tensor]:
    words = words | {"batch_size": 4 // world.size}
    trainer = Trainer(TrainConfig(**words), painting, photos, "test", world=world)
    next(trainer.steps())
    assert trainer.loss.tint.abs().max() > 0
    return {"tint": trainer.loss.tint} | {
        name: parameter.grad.clone()
        for name, parameter in trainer.network.named_parameters()
        if parameter.grad is not None
    }


def first_gradients_in_part(
    rank: int, words: dict[str, Any], painting: Path, photos: Path, folder: Path, size: int
) -> None:
    world = join(rank, folder, size)
    found = first_gradients(world, words, painting, photos)
    if world.leads:
        torch.save(found, folder / f"found-{size}.pt")
    world.leave()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_trainers_gradients_are_those_of_the_whole_batch(
    norm: Norm, tmp_path: Path, photo_folder: Path, small_perceptual: Path
) -> None:
    painting = save_picture(tmp_path / "painting.png", 60, 50, seed=99)
    words: dict[str, Any] = {
        "norm": norm, "width": 0.125, "size": 32, "style_size": 48, "device": "cpu", "steps": 3,
        "perceptual": str(small_perceptual), "start": "none", "precision": "fp32",
    }  # fmt: skip
    found = {}
    for size in (1, SIZE):
        places = painting, photo_folder, tmp_path, size
        in_processes(first_gradients_in_part, (words, *places), size)
        found[size] = torch.load(tmp_path / f"found-{size}.pt", weights_only=True)
    alone = first_gradients(World(), words, painting, photo_folder)
    assert alone.keys() == found[1].keys() == found[SIZE].keys()
    norms = torch.stack([tensor.norm() for tensor in alone.values()]).norm()
    # Relative to the whole gradient: a small part of it is the difference of large numbers.
    for name, tensor in found[SIZE].items():
        assert (tensor - found[1][name]).norm() <= 1e-5 * norms, name
        # torch's own batch norm, which a process without a group has, sums in another way: 1.7e-5.
        assert (tensor - alone[name]).norm() <= (1e-5 if norm == "instance" else 5e-5) * norms, name


def test_torchrun_trains_one_model(
    tmp_path: Path, photo_folder: Path, small_perceptual: Path
) -> None:
    painting = save_picture(tmp_path / "painting.png", 60, 50, seed=99)
    words = [
        "train", "--style", painting, "--content", photo_folder, "--steps", 5, "--size", 32,
        "--style-size", 48, "--perceptual", small_perceptual, "--set", "width=0.125", "--device",
        "cpu", "--set", "checkpoint_every=2", "--config", "batch_norm",
        "-o", tmp_path / "m.safetensors",
    ]  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(SIZE)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "stylize"]
    done = subprocess.run(
        [*launcher, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'm.safetensors'}\n"  # one of them speaks
    card = read_card(tmp_path / "m.safetensors")
    assert (card.steps, card.settings["processes"], card.settings["batch_size"]) == (5, 2, 2)
    assert card.held_out_after is not None
    assert not (tmp_path / "m.checkpoints").exists()
