"""Restyle a photo with a style that ships: `make demo`, `make demo PHOTO=me.jpg STYLE=...`.

Without a photo it takes one that scikit-image bundles, so nothing is downloaded. Runs the real
command line, as its last line says, so that the next command can be typed after it.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

FOLDER = Path("demo")


def bundled_photo() -> Path:
    """A rocket at dusk (photo by SpaceX, CC0), as a file: a night sky for The Starry Night."""
    from skimage import data

    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "rocket.png"
    Image.fromarray(data.rocket()).save(path)
    return path


def main() -> int:
    """Restyle, and say where the result lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("--style", default="starry_night")
    arguments = parser.parse_args()
    photo = arguments.photo or bundled_photo()
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"{photo.stem}-{arguments.style}.jpg"
    words = ["apply", str(photo), "--style", arguments.style, "-o", str(target), "--overwrite"]
    print(f"stylize {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "stylize", *words], check=False)
    if done.returncode == 0:
        print(f"Now look at {target.resolve()}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
