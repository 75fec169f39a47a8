"""Which files are restyled into which: words of a command line to jobs."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stylize.errors import StylizeError, UsageError
from stylize.imaging.files import check_file, find_pictures, is_worth_reading
from stylize.imaging.photo import is_own_result
from stylize.imaging.write import can_write, check_writable
from stylize.safe_write import check_folder_writable, make_folder

STANDARD = "-"
"""Stands for standard input and standard output."""


@dataclass(frozen=True)
class Job:
    """One file to restyle in one style."""

    source: Path | None
    """None: standard input."""
    target: Path | None
    """None: standard output."""
    style: str
    """Its name."""

    @property
    def name(self) -> str:
        """As messages call it."""
        return "standard input" if self.source is None else str(self.source)


@dataclass
class Jobs:
    """What is to be done, and what was left out of several, and why."""

    jobs: list[Job] = field(default_factory=list)
    existing: int = 0
    """Results that were there already."""
    own_results: int = 0
    """Pictures that stylize itself had made."""


def plan_jobs(
    words: Sequence[str], styles: Sequence[str], output: str | None, overwrite: bool
) -> Jobs:
    """Decide where each photo's results go, and refuse early what could not end well.

    Args:
        words: files, patterns such as `*.jpg`, folders (searched to the bottom), or `-`.
        styles: the styles' names, for `photo-STYLE.jpg`; the jobs of each come together.
        output: a file for a single result, `-`, or a folder, which is made where it is missing;
            a folder of photos is mirrored there.
        overwrite: whether results may replace files.

    Raises:
        UsageError: a missing photo or folder, two photos with one result, a folder without output.
        StylizeError: one file was given by name, and its result in the one style exists, or it is
            such a result itself; nothing can be written where results belong.
    """
    found = Jobs()
    sources = list(_sources(words, output))
    several = len(styles) > 1
    by_name = len(sources) == 1 and sources[0][1] is None
    single = by_name and not several
    if several and any(source is None for source, _ in sources):
        raise UsageError(
            f"standard input is there once, for one style, not {len(styles)}; give a file"
        )
    if output is not None and output != STANDARD and (not single or Path(output).is_dir()):
        _make_results_folder(Path(output))
    photos = []
    for source, below in sources:
        if source is None or not is_own_result(source):
            photos.append((source, below))
        elif by_name:
            raise StylizeError(f"{source} is a result of stylize itself; give the photo")
        else:
            found.own_results += 1
    taken: dict[Path, str] = {}
    for style, (source, below) in itertools.product(styles, photos):
        target = _target(source, below, style, output, single)
        if target is None:
            if output == STANDARD and not single:
                count = len(sources) * len(styles)
                raise UsageError(f"-o - takes one result, not {count}; give --output FOLDER")
            found.jobs.append(Job(source, None, style))
            continue
        if source is not None and below is not None:
            target = _distinct(target, taken, source)
            make_folder(target.parent)
        job = Job(source, target, style)
        check_writable(target)
        if target in taken:
            raise UsageError(f"{taken[target]} and {job.name} would both become {target}")
        taken[target] = job.name
        if target.exists() and source is not None and target.samefile(source):
            raise UsageError(f"{target} is the photo itself; give another --output")
        if target.exists() and not overwrite:
            if single:
                raise StylizeError(f"{target} exists; give --overwrite to replace it")
            found.existing += 1
            continue
        found.jobs.append(job)
    for folder in dict.fromkeys(job.target.parent for job in found.jobs if job.target):
        check_folder_writable(folder)
    return found


def _make_results_folder(folder: Path) -> None:
    if folder.is_file() or (can_write(folder) and not folder.exists()):
        raise UsageError(f"{folder} names one picture; several results need a folder for --output")
    make_folder(folder)


def _sources(words: Sequence[str], output: str | None) -> Iterator[tuple[Path | None, Path | None]]:
    """(photo, the folder in which it was found); the folder is None where it was given by name."""
    for word in words:
        path = Path(word)
        if word == STANDARD:
            yield None, None
        elif path.is_dir():
            if output is None or output == STANDARD or Path(output).is_file():
                raise UsageError(f"{path} is a folder; give --output FOLDER for the results")
            results = Path(output).resolve()
            for photo in find_pictures(path):
                inside = results in photo.resolve().parents and results != path.resolve()
                if not inside:
                    yield photo, path
        elif not path.exists() and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - may be absolute
            if not matches:
                raise UsageError(f"no file matches {word}")
            for match in matches:
                if is_worth_reading(Path(match)):
                    yield Path(match), None
        else:
            check_file(path)
            yield path, None


def _target(
    source: Path | None, below: Path | None, style: str, output: str | None, single: bool
) -> Path | None:
    """Where a result goes; None: to standard output."""
    if output == STANDARD or (output is None and source is None):
        return None
    name = f"stdin-{style}.png" if source is None else result_name(source, style)
    if output is None:
        assert source is not None
        return source.parent / name
    if single and not Path(output).is_dir():
        return Path(output)
    if source is None or below is None:
        return Path(output) / name
    return Path(output) / source.parent.relative_to(below) / name


def _distinct(target: Path, taken: dict[Path, str], source: Path) -> Path:
    """`a.heic` beside `a.jpg` would give one result for both: then its own ending goes before."""
    if target not in taken:
        return target
    ending = source.suffix.lstrip(".")
    return target.with_name(target.name.replace(source.stem, f"{source.stem}.{ending}", 1))


def result_name(photo: Path, style: str) -> str:
    """`photo.jpg` -> `photo-STYLE.jpg`; formats that are only read become JPEG.

    Example:
        >>> result_name(Path("a/photo.PNG"), "the_scream"), result_name(Path("b.heic"), "udnie")
        ('photo-the_scream.PNG', 'b-udnie.jpg')
    """
    suffix = photo.suffix if can_write(photo) else ".jpg"
    return f"{photo.stem}-{style}{suffix}"
