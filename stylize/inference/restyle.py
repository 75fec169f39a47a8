"""A whole photo restyled: its colours, transparency, depth and frames kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stylize.errors import UsageError
from stylize.imaging.colour import blend, from_own_space, on_white, to_own_space
from stylize.imaging.geometry import fitted_sides, resize
from stylize.imaging.photo import Frame, Photo

if TYPE_CHECKING:
    from stylize.inference.stylizer import Stylizer


@dataclass(frozen=True)
class Look:
    """How a photo is restyled.

    Raises:
        UsageError: a value is out of its range.
    """

    strength: float = 1.0
    """0 gives the photo back, 1 the restyled picture."""
    keep_colors: bool = False
    """Whether the photo's own colours stay, and only lightness is restyled."""
    style_scale: float | None = None
    """Size of the strokes against the network's own; None: by the photo's size."""
    size: int | None = None
    """Longer side in pixels to which larger photos are shrunk first; None: as they are."""
    enlarge: bool = False
    """Whether smaller photos are enlarged to `size` first: strokes are as fine then as the result's
    pixels allow, where those of a result that is enlarged would be blurred."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"--strength is {self.strength:g}; it must be 0 to 1")
        if self.size is not None and self.size < 1:
            raise UsageError(f"--size is {self.size}; it must be at least 1 px")
        if self.enlarge and self.size is None:
            raise UsageError("--enlarge needs --size, the result's longest side in px")

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result of a photo of this size, in pixels."""
        if self.size is None:
            return height, width
        return fitted_sides(height, width, self.size, self.enlarge)


def restyle_photo(
    stylizer: Stylizer,
    photo: Photo,
    look: Look,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Photo:
    """Restyle every frame of a photo.

    Returns:
        The photo with other pixels; all else is as it was.

    Raises:
        StylizeError: the memory does not suffice.
    """
    frames = []
    count = len(photo.frames)
    for number, frame in enumerate(photo.frames):

        def report(done: float, number: int = number) -> None:
            on_progress((number + done) / count)

        frames.append(_restyle_frame(stylizer, _fitted(frame, look), photo, look, report))
    return replace(photo, frames=frames)


def _restyle_frame(
    stylizer: Stylizer, frame: Frame, photo: Photo, look: Look, report: Callable[[float], None]
) -> Frame:
    seen = on_white(from_own_space(frame.pixels, photo.profile), frame.alpha)
    restyled = stylizer.restyle(seen, look.style_scale, report)
    own = to_own_space(restyled, photo.profile)
    return replace(frame, pixels=blend(frame.pixels, own, look.strength, look.keep_colors))


def _fitted(frame: Frame, look: Look) -> Frame:
    height, width = look.sides(*frame.pixels.shape[:2])
    alpha = None if frame.alpha is None else resize(frame.alpha, height, width)
    return replace(frame, pixels=resize(frame.pixels, height, width), alpha=alpha)
