"""Photos on disk to restyled photos on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import stylize
from stylize.errors import StylizeError, UsageError
from stylize.imaging.files import check_file, open_picture
from stylize.imaging.write import can_write, check_writable, write_picture
from stylize.safe_write import make_folder

if TYPE_CHECKING:
    from stylize.inference.stylizer import Stylizer


def plan_outputs(
    photos: list[Path], style: str, output: Path | None, overwrite: bool
) -> list[tuple[Path, Path]]:
    """Decide where each photo's result goes, and refuse early what could not end well.

    Args:
        photos: existing files.
        style: the style's name, for `photo-STYLE.jpg`.
        output: a file for a single photo; a folder, made where it is missing, for several.
        overwrite: whether results may replace files.

    Returns:
        (photo, result) for each photo.

    Raises:
        UsageError: a missing photo, a folder that is missing, two photos with one result.
        StylizeError: a result exists.
    """
    for photo in photos:
        check_file(photo)
    if output is not None and len(photos) == 1 and not output.is_dir():
        targets = [output]
    else:
        if output is not None and not output.exists():
            make_folder(output)
        targets = [
            (photo.parent if output is None else output) / _result_name(photo, style)
            for photo in photos
        ]
    sources: dict[Path, Path] = {}
    for photo, target in zip(photos, targets, strict=True):
        check_writable(target)
        if target in sources:
            raise UsageError(f"{sources[target]} and {photo} would both become {target}")
        sources[target] = photo
        if target.exists() and target.samefile(photo):
            raise UsageError(f"{target} is the photo itself; give another --output")
        if target.exists() and not overwrite:
            raise StylizeError(f"{target} exists; give --overwrite to replace it")
    return list(zip(photos, targets, strict=True))


def restyle_file(stylizer: Stylizer, photo: Path, target: Path) -> None:
    """Restyle one file into another, which names its style, model and version.

    Raises:
        StylizeError: the photo cannot be read, or the result cannot be written.
    """
    restyled = stylizer(open_picture(photo))
    write_picture(
        target,
        restyled,
        software=f"stylize {stylize.__version__}",
        description=f"style {stylizer.card.name}, model sha256 {stylizer.sha256}",
    )


def _result_name(photo: Path, style: str) -> str:
    """`photo.jpg` -> `photo-STYLE.jpg`; formats that are only read become JPEG."""
    suffix = photo.suffix if can_write(photo) else ".jpg"
    return f"{photo.stem}-{style}{suffix}"
