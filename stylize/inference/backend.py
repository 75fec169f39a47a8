"""The one interface between what cuts a picture into bands and what computes them.

A band is some rows of a picture or of an activation, (rows, columns, channels), in the backend's
own kind of array. Bands and stores are cut by slicing, `band[4:9]`, and nothing else is asked of
them here; so the streaming needs no framework, and a backend knows nothing of passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from stylize.networks.plan import Stage

if TYPE_CHECKING:
    from stylize.inference.memory import Cut

Vector = npt.NDArray[np.float64]
"""(C,), one number for each channel."""


Band: TypeAlias = Any
"""(rows, columns, channels): numpy arrays and tensors are such. Cut by slicing, reshaped, and
handed to a backend; nothing else."""


@dataclass(frozen=True)
class Tile:
    """What one convolution needs to make some rows of its output."""

    pieces: list[Band]
    """Input rows, before the enlargement: bands that lie one below the other."""
    skip: int
    """Rows left out at the top after the enlargement."""
    count: int
    """Rows that remain after the enlargement."""
    top: int
    """Rows of reflection above: only at the picture's own edge."""
    bottom: int
    """Rows of reflection below."""

    @property
    def rows(self) -> int:
        """Input rows in all."""
        return sum(piece.shape[0] for piece in self.pieces)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pieces[0].shape[1])


@dataclass(frozen=True)
class Affine:
    """What normalises a convolution's output: scale * value + shift, for each channel."""

    scale: Vector
    shift: Vector


@dataclass(frozen=True)
class Moments:
    """Mean and M2, the sum of squared distances from it, of `count` values of each channel."""

    count: int
    mean: Vector
    m2: Vector

    def merged(self, other: Moments) -> Moments:
        """Of both sets of values together.

        Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
        Sample Variances", 1979.
        """
        count = self.count + other.count
        delta = other.mean - self.mean
        part = other.count / count
        return Moments(
            count,
            self.mean + delta * part,
            self.m2 + other.m2 + delta * delta * (self.count * part),
        )


class BandMemoryError(Exception):
    """A backend had not enough memory for a band; a smaller one may do."""


class Backend(Protocol):
    """Computes one stage on one tile.

    `turned` says that the picture lies on its side, and so must the kernels.
    """

    def allocate(self, shape: tuple[int, int], cut: Cut) -> Band:
        """A store of (rows, numbers), where and in what precision the cut says."""

    def upload(self, pixels: npt.NDArray[Any], ground: npt.NDArray[np.float32] | None) -> Band:
        """uint8 or uint16 levels, or floats in 0..1, as the network takes them.

        Args:
            pixels: (rows, columns, 3).
            ground: (rows, columns), added to every channel.
        """

    def download(self, band: Band, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The network's output as `upload` takes it, clamped to 0..1, levels rounded."""

    def join(self, bands: list[Band]) -> Band:
        """One band of those that lie one below the other."""

    def convolve(self, stage: Stage, tile: Tile, turned: bool) -> Band:
        """Enlarge, reflect, convolve.

        Raises:
            BandMemoryError: the memory does not suffice.
        """

    def first_values(self, band: Band) -> Vector:
        """The channels of the band's first pixel."""

    def measure(self, band: Band, center: Vector, store: Band | None) -> Moments:
        """Mean and M2 of the band less `center`, by two passes; the band may be changed.

        Where there is a `store`, the band less `center` is written into it, in its precision.
        """

    def finish(
        self,
        stage: Stage,
        band: Band,
        center: Vector | None,
        affine: Affine | None,
        extra: Band | None,
    ) -> Band:
        """Take `center` away, normalise, ReLU where the stage has one, add `extra`.

        Reads full and half precision; the band may be changed.
        """

    def save(self, store: Band, band: Band) -> None:
        """Write a band into its place in a store, in the store's precision."""
