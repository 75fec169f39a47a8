"""Notices a run that goes astray, and says how slowly it is to go on."""

from __future__ import annotations

import math
from typing import Any

from stylize.errors import StylizeError

RUNAWAY = 10.0
"""Times the usual loss that a loss may be; batches of two photos differ by less than 3."""

USUAL_SHARE = 0.9
"""Of the usual loss that one more step leaves."""

MAX_RETREATS = 3
"""Retreats of one run; each halves the learning rate."""


class AstrayError(Exception):
    """A loss or a gradient with which no step should be taken."""


class DivergedError(StylizeError):
    """A run that went astray again and again."""


class Guard:
    """What a run's losses have been like.

    Attributes:
        rate: what the learning rate is multiplied with.
        retreats: how often the run went back to its last checkpoint.
    """

    def __init__(self) -> None:
        self.rate = 1.0
        self.retreats = 0
        self._usual = 0.0

    def check_loss(self, total: float) -> None:
        """Raise AstrayError for a loss that is no number, or far above the usual."""
        if not math.isfinite(total):
            raise AstrayError(f"the loss is {total}")
        if self._usual and total > RUNAWAY * self._usual:
            raise AstrayError(f"the loss is {total:.3g}, and was about {self._usual:.3g}")
        kept = USUAL_SHARE if self._usual else 0.0
        self._usual = kept * self._usual + (1 - kept) * total

    def check_gradient(self, norm: float) -> None:
        """Raise AstrayError for a gradient that is no number."""
        if not math.isfinite(norm):
            raise AstrayError(f"the gradient is {norm}")

    def retreat(self, reason: str, step: int) -> int:
        """Count one more retreat: how many there are now.

        Raises:
            DivergedError: there were too many.
        """
        if self.retreats == MAX_RETREATS:
            raise DivergedError(
                f"{reason} at step {step}, for the {self.retreats + 1}th time; a far lower "
                f"learning_rate, or --precision fp32, may mend it"
            )
        return self.retreats + 1

    def slow_down(self, retreats: int) -> None:
        """Go on with the learning rate halved once for each retreat."""
        self.retreats, self.rate = retreats, 0.5**retreats

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"rate": self.rate, "retreats": self.retreats, "usual": self._usual}

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rate, self.retreats = state["rate"], state["retreats"]
        self._usual = state["usual"]
