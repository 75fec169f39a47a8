from __future__ import annotations

import os
import time

import pytest
import torch

from stylize.ablation.costs import _alone, _Peak
from stylize.errors import StylizeError


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(StylizeError, match="ended from outside"):
        _alone(os._exit, 1)


def test_the_peak_is_above_what_was_before() -> None:
    size = 64 << 20
    before = torch.ones(size, dtype=torch.uint8)
    with _Peak(torch.device("cpu")) as peak:
        inside = torch.ones(size, dtype=torch.uint8)
        time.sleep(0.1)  # to be looked at
        del inside
        torch.ones(size, dtype=torch.uint8)
    # Not `before`, and not both: they were never there together. Pages and the loops' own memory
    # are some MB.
    assert size * 0.9 < peak.bytes < size * 1.5
    assert before[0] == 1


def test_a_peak_can_be_forgotten() -> None:
    with _Peak(torch.device("cpu")) as peak:
        torch.ones(64 << 20, dtype=torch.uint8)
        peak.forget()
    assert peak.bytes < 32 << 20
