"""What takes long is made once: the next run of a recipe finds it in its work folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pocketvision.storage import from_json, to_json, write_atomic

T = TypeVar("T")


def made_once(kind: type[T], result: Path, make: Callable[[], T]) -> T:
    """What `make` gives, kept in the file `result` and read from there the next time."""
    if result.exists():
        return from_json(kind, result.read_bytes(), source=str(result))
    made = make()
    write_atomic(result, to_json(made))
    return made
