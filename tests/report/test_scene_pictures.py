"""Maps as pictures: every pixel in its colour, legends beside, and where they lie."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scene_records import COLOURS, CROPS, labels

from pocketvision.errors import ConfigError, DataError
from pocketvision.report import scene_pictures
from pocketvision.report.scene_pictures import (
    GREYS,
    class_map,
    display_bands,
    false_colour,
    map_scale,
    map_with_legend,
    no_label,
    ramp,
    uncertainty_map,
    world_file,
)

CLASSES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
TWO = ((200, 30, 30), (30, 30, 200))


class ArrayCube:
    """Spectra in memory that remember how many rows were read at once."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.most = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, bands = self.array.shape
        return height, width, bands

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        self.most = max(self.most, stop - start)
        return self.array[start:stop]


@given(st.integers(1, 5))
def test_every_pixel_of_a_map_has_the_colour_of_its_class(scale: int) -> None:
    painted = np.asarray(class_map(CLASSES, TWO, scale))
    assert painted.shape == (2 * scale, 3 * scale, 3)
    colours = np.array([no_label(TWO), *TWO])
    expected = colours[CLASSES].repeat(scale, axis=0).repeat(scale, axis=1)
    np.testing.assert_array_equal(painted, expected)


@given(st.lists(st.sampled_from([*GREYS[:3], (255, 0, 0), (230, 228, 226)]), max_size=5))
def test_no_class_looks_like_no_label(colours: list[tuple[int, int, int]]) -> None:
    grey = np.array(no_label(colours))
    assert all(np.linalg.norm(grey - colour) >= 40 for colour in colours)


def test_colours_that_leave_no_grey_still_give_one() -> None:
    assert no_label(GREYS) in GREYS


@pytest.mark.parametrize(
    ("classes", "scale", "error", "match"),
    [
        (CLASSES, 0, ConfigError, "scale=0 is not allowed"),
        (CLASSES[0], 1, ConfigError, "classes is 3; expected anyxany"),
        (CLASSES + 1, 1, DataError, "classes go from 1 to 3, but there are 2 colours"),
        (CLASSES.astype(int) - 1, 1, DataError, r"expected 0 \(no label\) to 2"),
    ],
)
def test_maps_that_cannot_be_painted_are_refused(
    classes: NDArray[Any], scale: int, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        class_map(classes, TWO, scale)


@pytest.mark.parametrize(("size", "scale"), [((145, 145), 5), ((600, 20), 1), ((5000, 10), 1)])
def test_small_scenes_are_shown_large(size: tuple[int, int], scale: int) -> None:
    assert map_scale(*size) == scale


def test_the_map_stands_at_the_top_left_with_its_legend_beside() -> None:
    truth = labels()
    counts = np.bincount(truth.ravel())[1:].tolist()
    picture = map_with_legend(truth, CROPS, COLOURS, title="Ground truth", counts=counts)
    painted = class_map(truth, COLOURS, 5)
    np.testing.assert_array_equal(
        np.asarray(picture)[: painted.height, : painted.width], np.asarray(painted)
    )
    legend = np.asarray(picture)[:, painted.width :].reshape(-1, 3)
    for colour in (*COLOURS, no_label(COLOURS)):
        assert (legend == colour).all(axis=1).sum() > 100


def test_a_legend_of_many_classes_has_columns() -> None:
    names = [f"class {k}" for k in range(1, 101)]
    colours = [(2 * k, 200 - k, k) for k in range(100)]
    classes = np.arange(101, dtype=np.uint8)[None].repeat(40, axis=0)
    picture = map_with_legend(classes, names, colours, title="Many", counts=[40] * 100)
    assert picture.height <= 300
    legend = picture.crop((606, 0, picture.width, picture.height))
    seen = legend.getcolors(legend.width * legend.height) or []
    assert set(colours) <= {colour for _, colour in seen}


def test_legends_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 names, 2 colours and 2 counts; expected one of each"):
        map_with_legend(CLASSES, ["a"], TWO, title="", counts=[2, 2])


def test_the_ramp_grows_lighter_and_shows_what_is_missing() -> None:
    painted = np.asarray(ramp(np.linspace(0, 1, 256)[None]), np.float64)[0]
    lightness = painted @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) >= -1).all()
    assert lightness[-1] - lightness[0] > 150
    assert ramp(np.array([[np.nan, 1.0]])).getpixel((0, 0)) == GREYS[0]
    assert ramp(np.full((2, 2), np.nan)).getpixel((1, 1)) == GREYS[0]
    with pytest.raises(ConfigError, match=r"values go from 0 to 1\.5; expected 0 to 1"):
        ramp(np.array([[0.0, 1.5]]))


def test_uncertainty_stands_left_of_its_bar() -> None:
    uncertainty = np.array([[0.0, 0.5], [1.0, np.nan]])
    picture = np.asarray(uncertainty_map(uncertainty))
    painted = np.asarray(ramp(uncertainty, 300))
    np.testing.assert_array_equal(picture[:600, :600], painted)
    bar = {tuple(pixel) for pixel in picture[:, 620].tolist()}
    assert {painted[0, 0, 0], painted[300, 0, 0]} <= {red for red, _, _ in bar}
    assert len(bar) > 100


def test_bands_of_visible_light_are_found() -> None:
    wavelengths = [400.0 + 10 * band for band in range(100)]
    assert display_bands(100, wavelengths) == (25, 15, 5)
    assert display_bands(100, ()) == (83, 50, 16)
    assert display_bands(60, [1000.0 + 20 * band for band in range(60)]) == (50, 30, 10)
    assert display_bands(1, ()) == (0, 0, 0)


def test_false_colour_is_stretched_whatever_the_chunks() -> None:
    array = np.random.default_rng(0).integers(500, 4000, (30, 20, 6)).astype(np.uint16)
    whole, parts = ArrayCube(array), ArrayCube(array)
    picture = false_colour(whole, [(0, 30)])
    np.testing.assert_array_equal(
        false_colour(parts, [(0, 7), (7, 14), (14, 21), (21, 30)]), picture
    )
    assert parts.most == 9
    assert picture.shape == (30, 20, 3)
    for channel, band in enumerate((5, 3, 1)):
        shown, values = picture[..., channel], array[..., band]
        assert (shown.min(), shown.max()) == (0, 255)
        order = np.argsort(values, axis=None, kind="stable")
        assert (np.diff(shown.ravel()[order].astype(int)) >= 0).all()


def test_false_colour_leaves_out_what_was_not_measured() -> None:
    array = np.random.default_rng(0).random((8, 8, 6)).astype(np.float32)
    array[0, 0], array[0, 1, 5] = -9999, np.nan
    picture = false_colour(ArrayCube(array), [(0, 8)], no_data=-9999.0)
    assert tuple(picture[0, 0]) == tuple(picture[0, 1]) == GREYS[0]
    assert len(np.unique(picture[1:])) > 50
    blank = false_colour(ArrayCube(np.full((2, 2, 3), np.nan)), [(0, 2)])
    assert (blank == GREYS[0]).all()


def test_a_large_scene_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_pictures, "FALSE_COLOUR_PIXELS", 25)
    array = np.arange(15 * 15, dtype=np.float32).reshape(15, 15, 1)
    picture = false_colour(ArrayCube(array), [(0, 4), (4, 8), (8, 15)])
    assert picture.shape == (5, 5, 3)
    np.testing.assert_array_equal(picture, false_colour(ArrayCube(array[::3, ::3]), [(0, 5)]))


def test_one_value_everywhere_is_no_error() -> None:
    assert false_colour(ArrayCube(np.ones((3, 3, 4))), [(0, 3)]).max() == 0


def test_a_world_file_speaks_of_the_centres_of_small_pixels() -> None:
    # 20 m pixels, the scene's corner at (500000, 4400000); each drawn as 5 x 5 pixels of 4 m.
    lines = world_file((20, 0, 500_000, 0, -20, 4_400_000), 5).splitlines()
    assert [float(line) for line in lines] == [4, 0, 0, -4, 500_002, 4_399_998]


@given(st.lists(st.floats(-1e4, 1e4), min_size=6, max_size=6), st.integers(1, 9))
def test_a_world_file_puts_corners_where_the_transform_does(
    transform: list[float], scale: int
) -> None:
    a, b, c, d, e, f = transform
    big_a, big_d, big_b, big_e, x0, y0 = map(float, world_file(transform, scale).split())
    column, row = 7, 3  # of the scene; its top left small pixel reaches half a pixel further
    x = big_a * (scale * column - 0.5) + big_b * (scale * row - 0.5) + x0
    y = big_d * (scale * column - 0.5) + big_e * (scale * row - 0.5) + y0
    assert x == pytest.approx(a * column + b * row + c, abs=1e-6)
    assert y == pytest.approx(d * column + e * row + f, abs=1e-6)


def test_a_world_file_needs_six_numbers() -> None:
    with pytest.raises(ConfigError, match="transform is 3; expected 6"):
        world_file((1, 0, 0), 1)
    with pytest.raises(ConfigError, match="scale=0 is not allowed"):
        world_file((1, 0, 0, 0, 1, 0), 0)


def test_a_data_uri_holds_the_picture() -> None:
    image = class_map(CLASSES, TWO)
    uri = scene_pictures.data_uri(image)
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    opened = Image.open(io.BytesIO(base64.b64decode(body)))
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(image))
