"""Contact sheets: rows of pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from stylize.imaging.files import Pixels

GAP = 8
"""Pixels between pictures and around the sheet."""

_LABEL_SIZE = 18


def contact_sheet(rows: Sequence[Sequence[Pixels]], labels: Sequence[str] = ()) -> Image.Image:
    """Lay pictures out in rows and columns on white.

    Args:
        rows: pictures (H, W, 3); those of one row stand at their own size, top-aligned.
        labels: one for each column, written above it.

    Returns:
        An RGB image.
    """
    columns = max(map(len, rows), default=0)
    widths = [
        max((row[column].shape[1] for row in rows if column < len(row)), default=0)
        for column in range(columns)
    ]
    heights = [max((picture.shape[0] for picture in row), default=0) for row in rows]
    top = GAP + (_LABEL_SIZE + GAP if labels else 0)
    size = (GAP + sum(widths) + GAP * columns, top + sum(heights) + GAP * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LABEL_SIZE)
    for column, label in enumerate(labels[:columns]):
        left = GAP + sum(widths[:column]) + GAP * column
        draw.text((left, GAP), label, fill="black", font=font)
    for index, row in enumerate(rows):
        y = top + sum(heights[:index]) + GAP * index
        for column, picture in enumerate(row):
            x = GAP + sum(widths[:column]) + GAP * column
            sheet.paste(Image.fromarray(picture), (x, y))
    return sheet
