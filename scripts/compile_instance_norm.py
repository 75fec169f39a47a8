"""Compile instance norm's CUDA kernels ahead of time, without a GPU, and print what they take.

    python scripts/compile_instance_norm.py            # a Markdown table
    python scripts/compile_instance_norm.py --json     # for the tests

For each architecture, layout and kernel: registers a thread, bytes spilled to local memory, shared
memory, and the widest loads and stores of global memory. Shapes are those of a 1920 x 1080 photo
with 32 channels, for the streamed kernels, and of its 64 x 64 planes with 128, on chip. What
normalises, enlarges and reflects at once is there as the network has it, in channels_last.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from stylize.ops import triton_extend, triton_instance_norm
from stylize.ops.cuda_instance_norm import (
    GRADIENT_TILE,
    MERGED,
    MERGED_CHANNELS,
    TILE,
    Launch,
    plan_launch,
)

ARCHITECTURES = (75, 80, 90, 100)
KERNELS = {
    "statistics": triton_instance_norm.statistics_kernel,
    "normalise": triton_instance_norm.normalise_kernel,
    "gradient_sums": triton_instance_norm.gradient_sums_kernel,
    "gradient": triton_instance_norm.gradient_kernel,
    "merge": triton_instance_norm.merge_kernel,
    "extend_normalised": triton_extend.extend_normalised_kernel,
}
PIXELS = ("x", "y", "residual", "grad", "dx", "extended")
"""Arguments of the pictures' type."""
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def compile_kernel(
    name: str, launch: Launch, sizes: dict[str, int], dtype: str, architecture: int
) -> dict[str, Any]:
    """Compile one kernel as a launch with these sizes would, and read what came out."""
    kernel = KERNELS[name]
    constants: dict[str, Any] = {
        "RELU": True,
        "ON_CHIP": launch.on_chip,
        "EPS": 1e-5,
        "MERGED": launch.merged,
        **launch.constants(torch.float32),
    }
    if name == "merge":
        constants |= {"MERGED": MERGED // MERGED_CHANNELS, "BLOCK_C": MERGED_CHANNELS}
    if name == "extend_normalised":
        blocks = zip(("BLOCK_P", "BLOCK_C"), triton_extend.block(sizes["channels"]), strict=True)
        constants |= {"PADDING": 1, "FACTOR": 2, **dict(blocks)}
    options = {key: constants.pop(key) for key in ("num_warps", "enable_fp_fusion")}
    # Both kinds of each: on chip without gamma and beta, streamed without a residual.
    missing: tuple[str, ...] = ("gamma", "beta") if launch.on_chip else ("residual",)
    if name == "extend_normalised":
        missing = ()  # at its heaviest
    signature: dict[str, str] = {}
    values: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[object]]] = {}
    for index, argument in enumerate(kernel.arg_names):
        size = sizes.get(argument)
        if argument in constants or argument in missing or size == 1:
            signature[argument] = "constexpr"
            values[argument] = None if argument in missing else constants.get(argument, 1)
            continue
        if size is None:
            pointer = dtype if argument in PIXELS else "fp32"
            signature[argument] = f"*{pointer}"
        else:
            signature[argument] = "i64" if size >= 2**31 else "i32"
        if size is None or size % 16 == 0:  # as the just-in-time compiler finds out at a launch
            attributes[(index,)] = [["tt.divisibility", 16]]
    named = {(kernel.arg_names.index(key),): value for key, value in values.items()}
    source = ASTSource(kernel, signature, named, attributes)
    compiled = triton.compile(source, GPUTarget("cuda", architecture, 32), options)
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    numbers = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", usage))
    return {
        "registers": int(numbers["REG"]),
        "spilled": int(numbers["STACK"]) + int(numbers["LOCAL"]),
        "shared": compiled.metadata.shared,
        "load_bits": widest(ptx, "ld"),
        "store_bits": widest(ptx, "st"),
    }


def widest(ptx: str, operation: str) -> int:
    """Bits of the widest global load or store in PTX."""
    found = re.findall(rf"{operation}\.global\S*?(?:\.v(\d))?\.[a-z](\d+)\b", ptx)
    return max((int(count or 1) * int(bits) for count, bits in found), default=0)


def cases() -> list[tuple[str, bool, torch.Size]]:
    """(name, channels_last, shape)"""
    photo, plane = torch.Size((1, 32, 1080, 1920)), torch.Size((1, 128, 64, 64))
    return [
        ("NCHW, streamed", False, photo),
        ("channels_last, streamed", True, photo),
        ("NCHW, on chip", False, plane),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp16", "fp32"))
    parser.add_argument("--architectures", type=int, nargs="+", default=ARCHITECTURES)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for case, channels_last, shape in cases():
        _, channels, height, width = shape
        pixels = height * width
        strides = (pixels * channels, *((1, channels) if channels_last else (pixels, 1)))
        sizes = {"channels": channels, "pixels": pixels, "gamma_n": 0, "beta_n": 0}
        for tensor in ("x", "y", "r", "g", "dx"):
            sizes |= {f"{tensor}_{axis}": s for axis, s in zip("ncp", strides, strict=True)}
            sizes |= {f"{tensor}_h": width * strides[2], f"{tensor}_w": strides[2]}
        sizes |= {"height": height, "width": width}
        for name in KERNELS:
            tile = GRADIENT_TILE if name.startswith("gradient") else TILE
            launch = plan_launch(shape, strides, 132, tile)
            sizes |= {"chunks": launch.chunks, "chunk_pixels": launch.chunk_pixels}
            if launch.on_chip and name in ("statistics", "gradient_sums"):
                continue  # on chip, the other two make their own sums
            if name in ("merge", "extend_normalised") and not (channels_last and launch.chunks > 1):
                continue
            for architecture in arguments.architectures:
                found = compile_kernel(name, launch, sizes, arguments.dtype, architecture)
                rows.append({"case": case, "kernel": name, "sm": architecture, **found})
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"Triton {triton.__version__}, {arguments.dtype}\n")
    columns = list(rows[0])
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(row[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
