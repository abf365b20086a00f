"""What is known of a scene beside its numbers: from scene.json, and from the files themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pocketvision.data.scene.scene import Colour, Cube, Georeference
from pocketvision.errors import ArtefactError, DataError
from pocketvision.storage import from_json

FACTS_FILE = "scene.json"
MAX_FACTS_BYTES = 4_000_000

Shape = tuple[int, int, int]  # height, width, bands


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneFacts:
    """The schema of scene.json; whatever is left out is read from the files, or has a default.

    classes, colours: by label number, {"2": "corn"}, or a list for the labels 1, 2, ...
    wavelengths_nm: one for each band. no_data: marks pixels without a measurement; NaN is allowed.
    """

    name: str | None = None
    classes: tuple[str, ...] | dict[int, str] | None = None
    colours: tuple[Colour, ...] | dict[int, Colour] | None = None
    wavelengths_nm: tuple[float, ...] = ()
    no_data: float | None = None
    source: str | None = None
    licence: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Raster:
    """What one file holds: spectra, or label numbers as a single band; and what it says of them.

    classes, colours: by label number, of a classification file. bad_bands, suspicions: as in Scene.
    """

    cube: Cube
    wavelengths_nm: tuple[float, ...] = ()
    no_data: float | None = None
    georeference: Georeference | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, Colour] = field(default_factory=dict)
    bad_bands: tuple[int, ...] = ()
    suspicions: tuple[str, ...] = ()


def read_facts(folder: Path) -> SceneFacts:
    """scene.json of a folder; without one, nothing is known.

    Raises: DataError: a file that is too large, or does not follow the schema.
    """
    path = folder / FACTS_FILE
    if not path.exists():
        return SceneFacts()
    if path.stat().st_size > MAX_FACTS_BYTES:
        raise DataError(
            f"{str(path)!r} has {path.stat().st_size:,} bytes; "
            f"expected at most {MAX_FACTS_BYTES:,}."
        )
    try:
        return from_json(SceneFacts, path.read_bytes(), source=repr(str(path)))
    except ArtefactError as error:
        raise DataError(f"{error} Correct it, or remove it.") from error


def by_number(values: tuple[Any, ...] | Mapping[int, Any]) -> dict[int, Any]:
    """A list for the labels 1, 2, ... as a mapping; a mapping as it is."""
    return dict(values) if isinstance(values, Mapping) else dict(enumerate(values, 1))


def check_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    """Raises: DataError: unless the values are whole or real numbers."""
    if dtype.kind not in "biuf":
        raise DataError(
            f"{str(path)!r} holds values of type {dtype}; expected whole or real numbers."
        )


def check_text(what: str, text: str) -> None:
    """Raises: DataError: unless the text can be printed on one line."""
    if not text.strip() or not text.isprintable():
        raise DataError(f"The {what} {text!r} is not printable text; change it.")


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as messages show it: 145x145x200."""
    return "x".join(map(str, shape))
