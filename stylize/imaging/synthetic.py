"""Generated pictures to train on where there are no photos.

Photographs are, to a network that learns a painting's strokes, shapes that hide each other, at all
sizes, with shading and texture. "Dead leaves" have just these statistics (Lee, Mumford and Huang,
"Occlusion Models for Natural Images", 2001); gradients stand for skies, thin lines for twigs and
wires, noise with a falling spectrum for everything else (Field, 1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from stylize.imaging.files import Pixels, read_rgb

Floats = npt.NDArray[np.float32]

SIDE = 320
"""Pixels of a generated picture's sides."""

LEAVES = 220
"""Shapes of a picture at the most; the power law of their sizes leaves few of them large."""

SMALLEST, LARGEST = 4.0, 120.0
"""Radii of the shapes in pixels."""


@dataclass(frozen=True)
class Synthetic:
    """A generated picture: the same for the same two numbers."""

    seed: int
    number: int

    def pixels(self) -> Pixels:
        """(SIDE, SIDE, 3); some 30 ms the first time."""
        return _generate(self.seed, self.number)

    def __str__(self) -> str:
        return f"generated picture {self.number}"


Source: TypeAlias = Path | Synthetic
"""A photo, or a generated picture."""


def read_source(source: Source, enough: int | None = None) -> Pixels:
    """A photo as `read_rgb` gives it, or a generated picture.

    Raises:
        StylizeError: the photo cannot be read.
    """
    return source.pixels() if isinstance(source, Synthetic) else read_rgb(source, enough)


@lru_cache(maxsize=320)  # 100 MB
def _generate(seed: int, number: int) -> Pixels:
    random = np.random.default_rng([seed, number, 0x1EAF])  # no other sequence of this seed
    palette = _palette(random)
    labels, count = _leaves(random)
    colours = palette[random.integers(len(palette), size=count)]
    colours = colours + random.normal(0, 0.06, (count, 3))
    shading = random.normal(0, 0.25, (2, count, 1)) * (random.random((count, 1)) < 0.7)
    roughness = random.exponential(0.08, (count, 1)).clip(0, 0.35)
    roughness[0] *= 0.3  # the ground, often a sky
    y, x = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE - 0.5)[..., None]
    noise = _noise(random)
    picture = colours[labels] + shading[0][labels] * y + shading[1][labels] * x
    picture = picture + roughness[labels] * noise
    picture = (picture - 0.5) * random.uniform(0.6, 1.3) + random.uniform(0.4, 0.6)
    picture = picture.clip(0, 1) ** random.uniform(0.7, 1.4)
    pixels: Pixels = np.rint(picture * 255).astype(np.uint8)
    return _softened(pixels, random)


def _palette(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """A few colours that go together: greys, tinted alike, and now and then a strong one."""
    grey = random.random((6, 1))
    tint = random.normal(0, 0.08, (1, 3)) + random.normal(0, 0.08, (6, 3))
    strong = random.random((6, 3)) * (random.random((6, 1)) < 0.2)
    return np.where(strong > 0, strong, grey + tint)


def _leaves(random: np.random.Generator) -> tuple[npt.NDArray[np.int32], int]:
    """Which shape is seen at each pixel, (SIDE, SIDE), and how many there are, the ground first."""
    image = Image.new("I", (SIDE, SIDE), 0)
    draw = ImageDraw.Draw(image)
    count = int(random.integers(LEAVES // 4, LEAVES))
    # Density ~ radius^-3, which looks alike at every scale: the inverse of its distribution.
    u = random.random(count)
    radii = (LARGEST**-2 + u * (SMALLEST**-2 - LARGEST**-2)) ** -0.5
    radii *= random.choice([1.0, 3.0, 8.0], count, p=[0.4, 0.35, 0.25])
    radii = radii[np.argsort(-radii * random.uniform(0.3, 1, count))]  # small ones mostly in front
    for label, radius in enumerate(radii, start=1):
        x, y = random.uniform(-0.1, 1.1, 2) * SIDE
        kind = random.random()
        if kind < 0.3:
            wide = radius * random.uniform(0.4, 1)
            draw.ellipse([x - wide, y - radius, x + wide, y + radius], fill=label)
        elif kind < 0.85:
            corners = int(random.integers(3, 9))
            angles = np.sort(random.uniform(0, 2 * np.pi, corners))
            reach = radius * random.uniform(0.5, 1.2, corners)
            points = zip(x + reach * np.cos(angles), y + reach * np.sin(angles), strict=True)
            draw.polygon([(float(a), float(b)) for a, b in points], fill=label)
        else:
            steps = np.cumsum(random.normal(0, 1, (5, 2)), axis=0) * radius
            path = [(float(x + a), float(y + b)) for a, b in steps]
            draw.line(path, fill=label, width=int(random.integers(1, 5)))
    return np.asarray(image, np.int32), count + 1


def _noise(random: np.random.Generator) -> Floats:
    """Noise whose amplitude falls with frequency, (SIDE, SIDE, 3), of variance 1 or so."""
    white = np.fft.rfft2(random.normal(size=(2, SIDE, SIDE)), axes=(1, 2))
    down, right = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    frequency = np.hypot(down, right) + 1 / SIDE
    coloured = white * frequency ** -random.uniform(0.4, 1.4)
    fields = np.fft.irfft2(coloured, (SIDE, SIDE), axes=(1, 2))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    colour = random.normal(0, 0.3, 3)
    mixed: Floats = (fields[0][..., None] + fields[1][..., None] * colour).astype(np.float32)
    return mixed


def _softened(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Edges as a lens gives them: a slight blur, by going through a smaller size and back."""
    side = round(SIDE / random.uniform(1.2, 2.2))
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
