"""Finds a style by its name or path: first what ships with stylize, then the user's own folder."""

from __future__ import annotations

import contextlib
import difflib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylize.errors import UsageError
from stylize.model_file import ModelCard, read_card
from stylize.paths import shipped, user_styles

SUFFIX = ".safetensors"
DEFAULT_STYLE = "starry_night"
FOREIGN = frozenset({".pth", ".pt", ".model"})
"""Endings of other programs' models."""

ALL = "all"
"""Stands for every style, less the twins."""

TWINS = {
    "_batch": "the same, with batch norm",
    "_fast": "the same, half as wide: twice as fast",
}
"""What ships beside a style's main network: how its name goes on, and how it differs."""


@dataclass(frozen=True)
class Style:
    """A style that can be applied by name."""

    name: str
    path: Path
    origin: Literal["shipped", "yours"]

    def card(self) -> ModelCard:
        """Read the card; StylizeError where the file is damaged."""
        return read_card(self.path)

    @property
    def twin(self) -> str:
        """How it differs from the network of the same painting beside which it ships, if it is so;
        empty for all others.
        """
        if self.origin != "shipped":
            return ""
        return next((how for end, how in TWINS.items() if self.name.endswith(end)), "")


def list_styles() -> list[Style]:
    """All styles there are, by name; the user's own hide shipped ones of the same name."""
    found = {style.name: style for style in _scan("shipped", shipped("models"))}
    found |= {style.name: style for style in _scan("yours", user_styles())}
    return [found[name] for name in sorted(found)]


def find_style(name_or_path: str | Path) -> Path:
    """The model file of a style.

    Args:
        name_or_path: a name from `list_styles`, or the path of a model file.

    Raises:
        UsageError: there is none, with the nearest name where one is near; or it is a painting or
            another program's model, with the command that makes a style of it.

    Example:
        >>> find_style("starry_nihgt")
        Traceback (most recent call last):
        stylize.errors.UsageError: no style 'starry_nihgt'; did you mean starry_night?
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    styles = {style.name: style.path for style in list_styles()}
    if text in styles:
        return styles[text]
    if path.is_file():
        if path.suffix not in (SUFFIX, ""):
            raise UsageError(f"{text} is no trained style; {_how_to_become_one(path)}")
        return path
    if path.suffix == SUFFIX or path.parent != Path():
        raise UsageError(f"no such model file: {text}")
    close = difflib.get_close_matches(text, styles, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(styles) or 'none'}"
    raise UsageError(f"no style {text!r}; {hint}")


def _how_to_become_one(path: Path) -> str:
    """What to do with a file that was given for a style."""
    quoted = shlex.quote(str(path))
    if path.suffix.lower() in FOREIGN:
        return f"take it over with: stylize import {quoted}"
    return f"learn a painting with: stylize train --style {quoted}"


def find_styles(names_or_paths: Sequence[str]) -> dict[str, Path]:
    """The model files of several styles by their names, each once.

    Args:
        names_or_paths: as for `find_style`; `all` stands for everything in `list_styles` but the
            twins, which show no other painting.

    Raises:
        UsageError: there is no such style, or there are two of one name.
    """
    found: dict[str, Path] = {}
    for word in names_or_paths:
        if word == ALL:
            paths = [style.path for style in list_styles() if not style.twin]
        else:
            paths = [find_style(word)]
        for path in paths:
            other = found.setdefault(path.stem, path)
            if other.resolve() != path.resolve():
                raise UsageError(f"{other} and {path} would give results of one name; rename one")
    return found


def _scan(origin: Literal["shipped", "yours"], folder: Path) -> Iterator[Style]:
    paths: list[Path] = []
    with contextlib.suppress(PermissionError):  # whoever runs as somebody else has their home
        paths = sorted(folder.glob(f"*{SUFFIX}"))
    for path in paths:
        yield Style(path.stem, path, origin)
