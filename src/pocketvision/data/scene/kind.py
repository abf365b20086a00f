"""Whether a path holds a hyperspectral scene or photos."""

from __future__ import annotations

from pathlib import Path

from pocketvision.data.layout import SUFFIXES, folders_in, image_files
from pocketvision.data.scene.files import FORMATS

CUBES = tuple(suffix for suffix in FORMATS if suffix not in SUFFIXES)


def is_scene(path: Path) -> bool:
    """True for a file, and for a folder with a file such as a cube in it and no image below it."""
    if not path.is_dir():
        return True
    if not any(entry.suffix.lower() in CUBES and entry.is_file() for entry in path.iterdir()):
        return False
    return not any(next(image_files(folder), None) for folder in folders_in(path))
