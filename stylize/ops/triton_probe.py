"""Whether Triton's kernels can be built and launched here.

That Triton can be imported says little: it needs a C compiler and Python's headers for what
launches its kernels, a folder to keep them in, and a GPU that it compiles for.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _one_kernel(result):
    tl.store(result, 1.0)


def launch(device: str) -> Tensor:
    """Launch the smallest kernel there is; raises whatever Triton and its compilers raise.

    Returns:
        (1,), float32: a 1, once the kernel has run, which is not waited for.
    """
    result = torch.zeros(1, device=device)
    _one_kernel[(1,)](result)
    return result
