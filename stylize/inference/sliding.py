"""A convolution that is fed band by band."""

from __future__ import annotations

from collections.abc import Callable

from stylize.errors import StylizeError
from stylize.inference.backend import Band, BandMemoryError, Tile
from stylize.networks.plan import Stage


class SlidingConvolution:
    """One stage's convolution: it takes rows as they come, and holds back those that it needs.

    Args:
        stage: whose convolution it is.
        height: rows of its input, before they are enlarged.
        output_height: rows of its output.
        remembers: whether `recall` will ask for the input again.
        compute: convolves a tile, or raises `BandMemoryError`.
        join: lays bands below each other.
        on_want: called where memory did not suffice for a tile, which is then computed in halves.
    """

    def __init__(
        self,
        stage: Stage,
        height: int,
        output_height: int,
        remembers: bool,
        compute: Callable[[Tile], Band],
        join: Callable[[list[Band]], Band],
        on_want: Callable[[], None],
    ) -> None:
        self.stage = stage
        self._compute, self._join, self._on_want = compute, join, on_want
        self._height = height * stage.upsample
        """Rows of the input, enlarged."""
        self._output_height = output_height
        self._held: list[Band] = []
        """Input rows that are still needed, in pieces: joining them would copy what comes in."""
        self._first = 0
        """Input row with which `_held` begins."""
        self._taken = 0
        """Input rows seen so far."""
        self._made = 0
        """Output rows made so far."""
        self._remembers = remembers
        self._remembered: list[Band] = []

    def push(self, band: Band) -> Band | None:
        """Take the next input rows; give the output rows that they complete, not normalised.

        Raises:
            StylizeError: not even a single row fits into the memory.
        """
        stage = self.stage
        if self._remembers:
            self._remembered.append(band)
        self._held.append(band)
        self._taken += band.shape[0]
        there = self._taken * stage.upsample
        if there == self._height:
            end = self._output_height
        else:
            end = max(self._made, (there - 1 - stage.padding) // stage.stride + 1)
        if end == self._made:
            return None
        made = self._convolve(self._made, end)
        self._made = end
        needed = max(0, end * stage.stride - stage.padding) // stage.upsample
        needed = min(max(needed, self._first), self._taken)
        self._held = _rows_of(self._held, needed - self._first, self._taken - self._first)
        self._first = needed
        return made

    def recall(self, rows: int) -> Band:
        """The next rows of the input, for the end of a residual block."""
        there = sum(piece.shape[0] for piece in self._remembered)
        recalled = _rows_of(self._remembered, 0, rows)
        self._remembered = _rows_of(self._remembered, rows, there)
        return self._join(recalled)

    def _convolve(self, start: int, end: int) -> Band:
        """Output rows `start` to `end` - 1; in halves where the memory does not suffice."""
        stage = self.stage
        low, high = start * stage.stride, (end - 1) * stage.stride
        low_row = max(0, low - stage.padding)
        high_row = min(self._height, high + stage.padding + 1)
        begin, stop = low_row // stage.upsample, -(-high_row // stage.upsample)
        tile = Tile(
            _rows_of(self._held, begin - self._first, stop - self._first),
            skip=low_row - begin * stage.upsample,
            count=high_row - low_row,
            top=max(0, stage.padding - low),
            bottom=max(0, high + stage.padding + 1 - self._height),
        )
        try:
            return self._compute(tile)
        except BandMemoryError as error:
            if end - start == 1:
                raise StylizeError(
                    f"not enough memory for a single row of {tile.width} px; "
                    f"make the picture smaller with --size, or close other programs"
                ) from error
        self._on_want()
        middle = (start + end) // 2
        return self._join([self._convolve(start, middle), self._convolve(middle, end)])


def _rows_of(pieces: list[Band], start: int, stop: int) -> list[Band]:
    """Rows `start` to `stop` - 1 of what the pieces are together."""
    found = []
    for piece in pieces:
        count = piece.shape[0]
        if start < count and stop > 0:
            found.append(piece[max(0, start) : stop])
        start, stop = start - count, stop - count
    return found
