"""What is trained on: every sample a pure function of (seed, step, position)."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from stylize.errors import StylizeError
from stylize.held_out import split
from stylize.imaging.files import Pixels, find_pictures, read_rgb
from stylize.imaging.geometry import resize_shorter_side
from stylize.imaging.grit import soften
from stylize.imaging.synthetic import Source, Synthetic, read_source
from stylize.imaging.tensors import to_tensor
from stylize.losses import MAX_SHIFT
from stylize.networks.ground import GROUND_PERIOD

ENOUGH_PHOTOS = 100
"""With fewer photos, generated pictures are mixed in until there are so many: a network that sees
ten photos over and over learns those ten."""

GENERATED = 256
"""Generated pictures where there is no photo."""

HELD_OUT_GENERATED, FIRST_HELD_OUT = 4, 1_000_000
"""How many generated pictures are held out where there is no photo, and the first one's number."""

MAX_ZOOM = 1.5
"""A crop shows the whole shorter side at the least and 1 / MAX_ZOOM of it at the most."""

LONGEST = 8
"""Times its shorter side that of a painting is learned from: a photo of a stripe, at its size for
training, would be larger than memory."""

PREFETCH = 3
"""Batches decoded ahead; decoding is far quicker than a step, so a few hide its jitter."""


def with_generated(photos: Sequence[Path], seed: int) -> list[Source]:
    """The photos, and generated pictures where they are too few."""
    count = ENOUGH_PHOTOS - len(photos) if photos else GENERATED
    return [*photos, *(Synthetic(seed, number) for number in range(count))]


def split_content(content: Path | None, seed: int) -> tuple[list[Path], list[Source]]:
    """What is trained on, and what is held out.

    Args:
        content: a folder of photos; None: generated pictures, of which HELD_OUT_GENERATED are held
            out, and no photo is there to be trained on.
        seed: of generated pictures.

    Raises:
        UsageError: a missing or empty folder.
    """
    if content is None:
        return [], [
            Synthetic(seed, FIRST_HELD_OUT + number) for number in range(HELD_OUT_GENERATED)
        ]
    photos, held_out = split(find_pictures(content))
    return photos, [*held_out]


def fingerprint(sources: Sequence[Source], folder: Path | None) -> str:
    """What tells one collection from another: its files' names, wherever the folder lies.

    Args:
        sources: photos in `folder`, and generated pictures.
        folder: None where there are no photos.
    """
    names = (
        one.relative_to(folder).as_posix() if folder and isinstance(one, Path) else str(one)
        for one in sources
    )
    # As the system has them: names from elsewhere need be no text in its encoding.
    return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()[:16]


class PhotoSampler:
    """Random crops of photos, the same for the same seed on any machine and in any order.

    Args:
        paths: the photos or generated pictures, in a fixed order.
        size: side of the square crops in pixels.
        batch_size: samples a step.
        seed: of shuffling, scale, crop and flip.
        shard: which of how many equal parts of each batch `batch` gives.
        half_size_steps: steps, from the first, whose crops have half that side.

    Attributes:
        unreadable: {path: reason} of the files met so far that could not be read; each is replaced
            by the next readable photo.
    """

    def __init__(
        self,
        paths: Sequence[Source],
        size: int,
        batch_size: int,
        seed: int,
        shard: tuple[int, int] = (0, 1),
        half_size_steps: int = 0,
    ) -> None:
        self.paths = paths
        self.size = size
        self.half_size_steps = half_size_steps
        self.batch_size = batch_size
        self.seed = seed
        number, parts = shard
        part = batch_size // parts
        self.positions = range(number * part, (number + 1) * part)
        self.unreadable: dict[Source, str] = {}
        # Held by the instance, so that two samplers don't push out each other's shuffles.
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def sample(self, step: int, position: int) -> Pixels:
        """One crop, (S, S, 3) uint8, of the step's size S.

        Raises:
            StylizeError: none of the photos can be read.
        """
        size = self.size // 2 if step < self.half_size_steps else self.size
        index = step * self.batch_size + position
        for offset in range(len(self.paths)):
            epoch, place = divmod(index + offset, len(self.paths))
            path = self.paths[self._order(epoch)[place]]
            if path in self.unreadable:
                continue
            try:
                # The largest side that a crop can ask for, so that drafts lose no detail.
                photo = read_source(path, enough=round(size * MAX_ZOOM))
            except StylizeError as error:
                self.unreadable[path] = str(error)
                continue
            return _crop(photo, size, np.random.default_rng([self.seed, step, position]))
        raise StylizeError(f"none of the {len(self.paths)} photos could be read")

    def batch(self, step: int) -> Tensor:
        """The shard's part of a step: (N, 3, S, S), float32 in 0..1, channels_last."""
        return to_tensor([self.sample(step, position) for position in self.positions])

    def shift(self, step: int) -> tuple[int, int]:
        """Rows and columns by which the loss network's view of a step moves."""
        random = np.random.default_rng([self.seed, step, self.batch_size])  # no position's number
        down, right = random.integers(0, MAX_SHIFT, 2)
        return int(down), int(right)

    def ground_place(self, step: int) -> tuple[int, int]:
        """Row and column of the ground at which a step's crops lie: anywhere on it."""
        random = np.random.default_rng([self.seed, step, self.batch_size + 1])
        row, column = random.integers(0, GROUND_PERIOD, 2)
        return int(row), int(column)

    def batches(self, first: int, end: int) -> Iterator[Tensor]:
        """The batches of steps `first` to `end` - 1, decoded ahead on threads."""
        with ThreadPoolExecutor(max_workers=PREFETCH) as pool:
            waiting: OrderedDict[int, Future[Tensor]] = OrderedDict()
            try:
                for step in range(first, end):
                    for ahead in range(step, min(step + PREFETCH, end)):
                        if ahead not in waiting:
                            waiting[ahead] = pool.submit(self.batch, ahead)
                    yield waiting.pop(step).result()
            finally:
                for future in waiting.values():
                    future.cancel()

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.paths))


def load_painting(path: Path, shorter_side: int) -> Pixels:
    """A painting with its shorter side resized to so many pixels.

    Of a scroll, longer than LONGEST times its shorter side, the middle.
    """
    painting = read_rgb(path)
    longest = LONGEST * min(painting.shape[:2])
    top, left = (max(0, side - longest) // 2 for side in painting.shape[:2])
    middle = painting[top : top + longest, left : left + longest]
    return resize_shorter_side(middle, shorter_side)


def load_style(path: Path, shorter_side: int, style_grit: float = 0.0) -> Tensor:
    """The painting as it is learned: (1, 3, H, W), float32 in 0..1.

    Args:
        path, shorter_side: as for `load_painting`.
        style_grit: with more it is smoothed (`stylize.imaging.grit`); 0: it is left as it is.
    """
    painting = load_painting(path, shorter_side)
    return to_tensor([soften(painting, style_grit) if style_grit else painting])


def _crop(photo: Pixels, size: int, random: np.random.Generator) -> Pixels:
    """Random scale, place and flip, by one resampling of the chosen square."""
    height, width = photo.shape[:2]
    side = min(height, width) / random.uniform(1.0, MAX_ZOOM)
    left, top = random.uniform(0, width - side), random.uniform(0, height - side)
    crop = Image.fromarray(photo).resize(
        (size, size),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
    )
    pixels = np.asarray(crop)
    return pixels[:, ::-1] if random.random() < 0.5 else pixels
