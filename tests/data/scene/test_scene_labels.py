from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data.scene.facts import Raster
from pocketvision.data.scene.labels import (
    MAX_CLASSES,
    ClassMap,
    check_names,
    colour_classes,
    name_classes,
    palette,
    read_labels,
)
from pocketvision.data.scene.scene import ArrayCube, Colour
from pocketvision.errors import DataError

PATH = Path("labels.npy")


def read(numbers: Any, no_data: float | None = None) -> ClassMap:
    cube = ArrayCube(array=np.asarray(numbers)[..., None])
    return read_labels(PATH, Raster(cube=cube, no_data=no_data))


def luminance(colour: Colour) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in (part / 255 for part in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_numbers_with_gaps_become_classes() -> None:
    labels, class_ids = read([[0, 300, 7], [7, 0, 12]])
    assert class_ids == (7, 12, 300)
    assert labels.tolist() == [[0, 3, 1], [1, 0, 2]]
    assert labels.dtype == np.int16


@given(st.lists(st.integers(0, 40), min_size=1).filter(any), st.sampled_from(["u1", "i8", "f4"]))
def test_class_ids_give_the_numbers_back(numbers: list[int], dtype: str) -> None:
    labels, class_ids = read(np.array([numbers], dtype=dtype))
    assert np.array([0, *class_ids])[labels].tolist() == [numbers]
    assert sorted(set(labels.ravel().tolist()) - {0}) == list(range(1, len(class_ids) + 1))


@pytest.mark.parametrize("no_data", [255.0, np.nan])
def test_no_data_value_of_the_file_is_unlabelled(no_data: float) -> None:
    labels, class_ids = read(np.array([[0, 1, no_data]]), no_data)
    assert (labels.tolist(), class_ids) == ([[0, 1, 0]], (1,))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[0, 1.5]], r"labels\.npy' are not whole numbers: 1\.5 occurs; expected 0 \(unlabelled\)"),
        ([[1, np.nan]], "are not whole numbers: nan occurs"),
        ([[1, np.inf]], "are not whole numbers: inf occurs"),
        ([[1, -1]], "have the negative number -1; expected 0"),
        ([[0, 0]], "have 0 different numbers above 0; expected 1 to 200 classes"),
        ([list(range(210))], "have 209 different numbers above 0; expected 1 to"),
    ],
)
def test_numbers_that_are_no_labels(numbers: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(numbers)


def test_names_by_number_and_default_names() -> None:
    assert name_classes((2, 7), {}) == ("class 2", "class 7")
    assert name_classes((2, 7), {7: "corn", 9: "not there"}) == ("class 2", "corn")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({1: "corn", 2: "corn"}, "Two classes are called 'corn'; give each its own name"),
        ({1: " "}, "The class name ' ' is not printable text; change it"),
        ({2: "a\x1b[31m"}, r"The class name 'a\\x1b\[31m' is not printable text"),
    ],
)
def test_names_that_cannot_be_used(names: dict[int, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        name_classes((1, 2), names)


def test_list_of_names_must_reach_the_highest_label() -> None:
    check_names(PATH, (1, 3), ("a", "b", "c", "d"))
    with pytest.raises(
        DataError, match=r"2 class names are given, but 'labels\.npy' has labels up to 3; give one"
    ):
        check_names(PATH, (1, 3), ("a", "b"))


def test_given_colours_count_only_where_they_tell_all_classes_apart() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    assert colour_classes((2, 7), {7: red, 2: blue, 1: red}) == (blue, red)
    assert colour_classes((2, 7), {2: blue}) == palette(2)
    assert colour_classes((2, 7), {2: blue, 7: blue}) == palette(2)


def test_colour_out_of_range() -> None:
    with pytest.raises(DataError, match=r"The colour \(0, 256, 0\) is out of range; expected"):
        colour_classes((1,), {1: (0, 256, 0)})


def test_palette_has_different_colours_for_any_number_of_classes() -> None:
    colours = palette(MAX_CLASSES)
    assert len(set(colours)) == MAX_CLASSES
    assert colours[:16] == palette(16)
    assert all(0 <= value <= 255 for colour in colours for value in colour)


def test_palette_is_readable_on_white() -> None:
    contrasts = [1.05 / (luminance(colour) + 0.05) for colour in palette(MAX_CLASSES)]
    assert min(contrasts) > 3  # WCAG 2.1, 1.4.11: graphics


def test_palette_keeps_a_few_classes_apart() -> None:
    colours = np.array(palette(20), dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(20, dtype=bool)].min() > 40
    assert min(float(np.linalg.norm(a - b)) for a, b in pairwise(colours)) > 100
