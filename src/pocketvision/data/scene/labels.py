"""Label maps: numbers in a file, which may have gaps, to classes with names and colours."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.facts import Raster, check_text
from pocketvision.data.scene.scene import Colour, Labels, equals
from pocketvision.errors import DataError

MAX_CLASSES = 200  # more different numbers are a band; `palette` repeats itself from 206 on

GOLDEN_RATIO = 0.618034  # of a turn: hues of neighbouring classes lie far apart
LUMINANCES = (0.16, 0.28, 0.07)  # relative, in turn; all at least 3:1 in contrast to white


class ClassMap(NamedTuple):
    """Labels 0..K, and the number that each class 1..K has in the file."""

    labels: Labels
    class_ids: tuple[int, ...]


def read_labels(path: Path, raster: Raster) -> ClassMap:
    """The numbers of a label file as classes; 0, and the file's own no-data value, are unlabelled.

    Raises: DataError: numbers that are not whole, or negative, none but 0, or more than
        200 different ones.
    """
    numbers = raster.cube.rows(0, raster.cube.shape[0])[..., 0]
    if raster.no_data is not None:
        gone = equals(numbers, raster.no_data) | np.isnan(numbers)
        numbers = np.where(gone, np.zeros((), numbers.dtype), numbers)
    _check(path, numbers)
    ids = np.unique(numbers)
    ids = ids[ids > 0]
    if not 1 <= len(ids) <= MAX_CLASSES:
        raise DataError(
            f"The labels in {str(path)!r} have {len(ids):,} different numbers above 0; "
            f"expected 1 to {MAX_CLASSES} classes."
        )
    labels = np.zeros(numbers.shape, np.int16)
    labelled = numbers > 0
    labels[labelled] = np.searchsorted(ids, numbers[labelled]) + 1
    return ClassMap(labels, tuple(int(number) for number in ids))


def _check(path: Path, numbers: NDArray[Any]) -> None:
    if numbers.dtype.kind == "f":
        fractions = ~np.isfinite(numbers) | (numbers != np.rint(numbers))
        if fractions.any():
            raise DataError(
                f"The labels in {str(path)!r} are not whole numbers: {numbers[fractions][0]} "
                f"occurs; expected 0 (unlabelled), 1, 2, ..."
            )
    if numbers.dtype.kind != "b" and numbers.min() < 0:
        raise DataError(
            f"The labels in {str(path)!r} have the negative number {numbers.min()}; "
            f"expected 0 (unlabelled), 1, 2, ..."
        )


def name_classes(class_ids: tuple[int, ...], names: Mapping[int, str]) -> tuple[str, ...]:
    """A name for each class: the one given for its number, or "class 2".

    Raises: DataError: a name that two classes share, or that cannot be printed.
    """
    chosen = tuple(names.get(number, f"class {number}") for number in class_ids)
    for name in chosen:
        check_text("class name", name)
        if chosen.count(name) > 1:
            raise DataError(f"Two classes are called {name!r}; give each its own name.")
    return chosen


def check_names(path: Path, class_ids: tuple[int, ...], names: tuple[str, ...]) -> None:
    """Raises: DataError: unless a list of names for 1, 2, ... reaches the highest label."""
    if len(names) < class_ids[-1]:
        raise DataError(
            f"{len(names)} class names are given, but {str(path)!r} has labels up to "
            f"{class_ids[-1]}; give one for each of 1, 2, ..., or name them by number in "
            f'scene.json: {{"classes": {{"{class_ids[-1]}": "..."}}}}.'
        )


def colour_classes(class_ids: tuple[int, ...], given: Mapping[int, Colour]) -> tuple[Colour, ...]:
    """The given colours where there is one for each class and no two are the same, else `palette`.

    Raises: DataError: a colour outside 0..255.
    """
    for colour in given.values():
        if not all(0 <= value <= 255 for value in colour):
            raise DataError(f"The colour {colour} is out of range; expected three of 0 to 255.")
    colours = [given[number] for number in class_ids if number in given]
    if len(set(colours)) < len(class_ids):
        return palette(len(class_ids))
    return tuple(colours)


def palette(count: int) -> tuple[Colour, ...]:
    """Colours readable on white, different up to 200; a longer palette begins like a shorter."""
    return tuple(_colour(number) for number in range(count))


def _colour(number: int) -> Colour:
    """A hue brought to a luminance: darkened, or mixed with white, in linear light."""
    hue = colorsys.hsv_to_rgb(number * GOLDEN_RATIO % 1, 1, 1)
    linear = np.array([_to_linear(value) for value in hue])
    luminance, wanted = relative_luminance(linear), LUMINANCES[number % len(LUMINANCES)]
    if luminance > wanted:
        linear *= wanted / luminance
    else:
        linear += (1 - linear) * (wanted - luminance) / (1 - luminance)
    red, green, blue = (round(255 * _to_srgb(value)) for value in linear)
    return red, green, blue


def relative_luminance(linear: NDArray[np.float64]) -> float:
    """0..1 of linear red, green and blue. Source: IEC 61966-2-1 (sRGB)."""
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _to_linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _to_srgb(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
