"""Jobs carried out: one photo is decoded and one encoded while a third is restyled."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import stylize
from stylize.errors import StylizeError
from stylize.imaging.photo import MARK, MAX_MEGAPIXELS, Photo, read_photo
from stylize.imaging.write import FORMATS, check_sides, encode_photo, write_photo
from stylize.inference.batch import Job
from stylize.inference.restyle import Look, restyle_photo
from stylize.networks.ground import ground_tile

if TYPE_CHECKING:
    from stylize.inference.stylizer import Stylizer

LARGE = 40_000_000
"""Pixels from which on a photo is handled alone: a second one beside it would take memory that it
needs."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    error: StylizeError | None = None


def run_jobs(
    load: Callable[[], Stylizer],
    jobs: Sequence[Job],
    look: Look,
    max_megapixels: float = MAX_MEGAPIXELS,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Iterator[Outcome]:
    """Restyle files; a bad one costs no other.

    Args:
        load: gives the style; called while the first photo is decoded.
        on_progress: called with the number of photos restyled so far, parts counted.

    Yields:
        The outcomes in the order of the jobs. Whoever stops asking leaves only whole files.

    Raises:
        UsageError, StylizeError: what `load` raises.
    """
    with ThreadPoolExecutor(1) as decoder, ThreadPoolExecutor(1) as encoder:

        def decode(job: Job) -> Future[Photo]:
            # Waited for here: Ctrl-C ends no other thread's waiting.
            source = sys.stdin.buffer.read() if job.source is None else job.source
            return decoder.submit(read_photo, source, max_megapixels)

        coming: Future[Photo] | None = decode(jobs[0]) if jobs else None
        encoder.submit(ground_tile)  # which is kept; until there are results it has nothing to do
        writing: deque[tuple[Job, Future[bytes]]] = deque()
        try:
            stylizer = load()
            for number, job in enumerate(jobs):
                photo_future = coming or decode(job)
                coming = None
                try:
                    photo = photo_future.result()
                    sides = look.sides(*photo.size)
                    if job.target is not None:
                        check_sides(job.target, *sides)
                    _check_result(job, sides, len(photo.frames), max_megapixels)
                    large = max(math.prod(photo.size), math.prod(sides)) >= LARGE
                    if not large and number + 1 < len(jobs):
                        coming = decode(jobs[number + 1])
                    restyled = restyle_photo(
                        stylizer,
                        photo,
                        look,
                        lambda part, n=number: on_progress(n + part),  # type: ignore[misc]
                    )
                except StylizeError as error:
                    yield from _written(writing, keep=0)
                    yield Outcome(job, error)
                    continue
                del photo, photo_future
                writing.append((job, encoder.submit(_write, job, restyled, stylizer)))
                del restyled
                yield from _written(writing, keep=0 if large else 1)
            yield from _written(writing, keep=0)
        finally:
            if coming:
                coming.cancel()


def _check_result(job: Job, sides: tuple[int, int], frames: int, limit: float) -> None:
    """Refuse to enlarge a photo beyond what is read of one."""
    height, width = sides
    megapixels = height * width * frames / 1e6
    if megapixels > limit:
        raise StylizeError(
            f"{job.name} would become {width} x {height} px, {megapixels:.0f} megapixels; up to "
            f"{limit:g} are made, --max-megapixels {megapixels + 1:.0f} raises that"
        )


def _written(writing: deque[tuple[Job, Future[bytes]]], keep: int) -> Iterator[Outcome]:
    """Wait until at most `keep` results are still being written."""
    while len(writing) > keep:
        job, future = writing.popleft()
        try:
            _pass_on(future.result())
        except StylizeError as error:
            yield Outcome(job, error)
        else:
            yield Outcome(job)


def _write(job: Job, photo: Photo, stylizer: Stylizer) -> bytes:
    """Write a result's file; what belongs on standard output is returned."""
    software = (
        f"{MARK}{stylize.__version__}; style {stylizer.card.name}; model sha256 {stylizer.sha256}"
    )
    if job.target is not None:
        write_photo(job.target, photo, software)
        return b""
    format_name = photo.format if photo.format in FORMATS.values() else "PNG"
    return encode_photo(photo, format_name, software)


def _pass_on(data: bytes) -> None:
    """Where nobody reads, this waits; so it is no other thread's, whose wait Ctrl-C would not end.

    Raises:
        StylizeError: standard output is closed.
    """
    if not data:
        return
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise StylizeError(f"cannot write to standard output: {error}") from error
