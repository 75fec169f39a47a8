"""`stylize styles`: what there is, and what is known of it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stylize.console.bars import make_console
from stylize.errors import StylizeError, plain
from stylize.imaging.files import Pixels
from stylize.imaging.geometry import resize
from stylize.model_file import ModelCard, file_sha256, read_card, read_thumbnail
from stylize.paths import user_styles
from stylize.zoo import find_style, list_styles

PICTURE_COLUMNS, CARD_COLUMNS = 14, 32
"""Characters across a small picture, in the list and on a card; half as many lines."""

HALF_BLOCK = "▀"

PICTURE_TERMINAL = 80
"""Characters across a terminal that has room for them."""


def print_styles(as_json: bool) -> None:
    """All styles, one a line; a damaged one is named as such."""
    entries: list[dict[str, Any]] = []
    for style in list_styles():
        entry: dict[str, Any] = {
            "name": style.name,
            "origin": style.origin,
            "path": str(style.path),
            "twin": style.twin,
        }
        try:
            card = style.card()
        except StylizeError as error:
            entry["error"] = str(error)
        else:
            entry |= {"title": card.title, "norm": card.norm, "width": card.width}
            entry["steps"], entry["held_out_loss"] = card.steps, card.held_out_after
        entries.append(entry)
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    console = make_console()
    console.print(_with_pictures(entries) if shows_pictures(console) else _in_lines(entries))
    typer.echo(f"Your own styles go into {user_styles()}", err=True)


def _in_lines(entries: Sequence[dict[str, Any]]) -> Table:
    """One a line, as scripts and narrow terminals have it."""
    table = Table("style", "painting", "held-out loss", "from", box=None, pad_edge=False)
    for column in table.columns:
        # A name is there to be typed: only the painting's title gives way.
        column.no_wrap = column.header != "painting"
    for entry in entries:
        table.add_row(entry["name"], _about(entry), _total(entry), entry["origin"])
    return table


def _with_pictures(entries: Sequence[dict[str, Any]]) -> Table:
    """A picture each, and beside it what is known of it and of its twins."""
    rows: dict[str, tuple[Text, Text]] = {}
    for entry in entries:
        loss = f"held-out loss {_total(entry)}" if _total(entry) else ""
        origin = "" if entry["origin"] == "shipped" else entry["origin"]
        known = [_about(entry), ", ".join(filter(None, [loss, origin]))]
        main = entry["name"].rpartition("_")[0]
        if entry["twin"] and main in rows:
            rows[main][1].append(f"\n{entry['name']}\n", "bold").append(", ".join(known))
        else:
            about = Text().append(f"{entry['name']}\n", "bold").append("\n".join(known))
            rows[entry["name"]] = _picture(entry), about
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows.values():
        table.add_row(*row)
    return table


def _about(entry: dict[str, Any]) -> str:
    """What was painted by what, how a twin differs, or what is wrong with a file."""
    if entry["twin"] or "error" in entry:
        return plain(entry["twin"] or entry["error"])
    norm, width = entry["norm"], entry["width"]
    network = [f"{norm} norm"] * (norm != "instance") + [f"width {width:g}"] * (width != 1.0)
    return plain(", ".join(filter(None, [entry["title"], *network])))


def _total(entry: dict[str, Any]) -> str:
    loss = entry.get("held_out_loss")
    return f"{loss['total']:.3f}" if loss else ""


def shows_pictures(console: Console) -> bool:
    """Whether a terminal has the colours, the width and the character for small pictures."""
    try:
        HALF_BLOCK.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return console.color_system in ("256", "truecolor") and console.width >= PICTURE_TERMINAL


def half_blocks(picture: Pixels, columns: int = PICTURE_COLUMNS) -> Text:
    """A square picture in characters of two pixels each: the upper half block, in the colour of the
    upper pixel, on that of the lower one.
    """
    text = Text()
    levels = resize(picture, columns, columns)
    for upper, lower in zip(levels[::2], levels[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            colours = (f"rgb({r},{g},{b})" for r, g, b in (above, below))
            text.append(HALF_BLOCK, " on ".join(colours))
        text.append("\n")
    return text


def _picture(entry: dict[str, Any]) -> Text:
    found = None if "error" in entry else read_thumbnail(Path(entry["path"]))
    return Text() if found is None else half_blocks(found)


def print_card(name: str, as_json: bool) -> None:
    """Everything that a model file says of itself.

    Raises:
        UsageError: no such style.
        StylizeError: the file is damaged.
    """
    path = find_style(name)
    card, sha256 = read_card(path), file_sha256(path)
    if as_json:
        typer.echo(json.dumps(asdict(card) | {"path": str(path), "sha256": sha256}, indent=2))
        return
    console, picture = make_console(), read_thumbnail(path)
    if picture is not None and shows_pictures(console):
        console.print(half_blocks(picture, CARD_COLUMNS))
    settings = ", ".join(f"{key}={value}" for key, value in card.settings.items() if value != "")
    for label, text in [
        ("style", card.name),
        ("painting", card.title or card.style_image),
        ("network", f"{card.norm} norm, width {card.width:g}"),
        ("trained", f"{card.steps} steps on {_content(card)}, from {describe_start(card.start)}"),
        ("loss network", str(card.perceptual.get("name", "unknown"))),
        ("held-out before", _loss(card.held_out_before)),
        ("held-out after", _loss(card.held_out_after)),
        ("settings", settings),
        ("licence", card.licence or "not stated"),
        ("weights", f"rounded from {card.rounded_from}" if card.rounded_from else "as trained"),
        ("file", str(path)),
        ("sha256", sha256),
    ]:
        typer.echo(f"{label:16} {plain(text)}")


def _content(card: ModelCard) -> str:
    kinds = {"photos": card.photos, "generated pictures": card.generated}
    return " and ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "nothing"


def describe_start(start: dict[str, Any] | None) -> str:
    """What training began from, as a card has it, in words."""
    if not start:
        return "random weights"
    colours = " in the painting's colours" if start.get("recoloured") else ""
    return f"{start['name']}{colours}"


def _loss(loss: dict[str, float] | None) -> str:
    if loss is None:
        return "not measured"
    return (
        f"{loss['total']:.3f} (content {loss['content']:.3f}, style {loss['style']:.3f}, "
        f"{loss['photos']:.0f} pictures)"
    )
