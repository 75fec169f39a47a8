"""Pages that stand alone: one HTML file, its pictures inside, every name in it escaped."""

from __future__ import annotations

import base64
import io
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader
from PIL import Image

import stylize
from stylize.imaging.files import Pixels


def render(package: str, template: str, **values: Any) -> bytes:
    """Fill a template, which may extend `page.html.jinja` with its macros; the page in UTF-8.

    Args:
        package: where the template is.
        template: its file name.
        values: what it names; pictures go through the filter `data_uri`.
    """
    folders = [PackageLoader(name, ".") for name in (package, __package__ or "")]
    environment = Environment(loader=ChoiceLoader(folders), autoescape=True)
    environment.filters["data_uri"] = _data_uri
    page = environment.get_template(template).render(version=stylize.__version__, **values)
    return page.encode(errors="backslashreplace")  # a file's name need be no text


def _data_uri(picture: Pixels | bytes) -> str:
    """Pixels become a JPEG; bytes are a PNG's."""
    if isinstance(picture, bytes):
        kind, data = "png", picture
    else:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=90, subsampling="4:4:4")
        kind, data = "jpeg", buffer.getvalue()
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
