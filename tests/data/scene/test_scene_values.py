from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pocketvision.data.scene import scene as scene_module
from pocketvision.data.scene.reading import check_values
from pocketvision.data.scene.scene import ArrayCube, Scene, missing
from pocketvision.errors import DataError

Array = NDArray[Any]

CUBE = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)


def scene_of(cube: Array, no_data: float | None = None) -> Scene:
    return Scene(
        name="made", cube=ArrayCube(array=cube), labels=None, classes=(), class_ids=(),
        colours=(), no_data=no_data,
    )  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_must_be_declared(bad: float) -> None:
    cube = CUBE.astype(np.float32)
    cube[1, 2, 3] = cube[1, 2, 4] = cube[0, 0, 0] = bad
    with pytest.raises(
        DataError, match=r"^2 of 12 pixels have NaN or infinite values; .* with --no-data nan\.$"
    ):
        check_values(scene_of(cube))
    check_values(scene_of(cube, no_data=-9999))
    check_values(scene_of(cube, no_data=np.nan))


def test_a_cube_with_nan_and_a_negative_constant_needs_one_declaration() -> None:
    cube = CUBE.astype(np.float32)
    cube[0, 0] = np.nan
    cube[0, 1] = -9999
    with pytest.raises(DataError, match=r"1 of 12 pixels have NaN .* say so with --no-data nan\.$"):
        check_values(scene_of(cube))
    with pytest.raises(DataError, match=r"1 of 12 pixels have -9999 .* with --no-data -9999\.$"):
        check_values(scene_of(cube, no_data=np.nan))
    check_values(scene_of(cube, no_data=-9999))
    assert missing(cube, -9999).sum() == 2


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8"])
def test_negative_constant_pixels_must_be_declared(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_module, "CHUNK_BYTES", 1)
    cube = CUBE.astype(dtype)
    cube[0, :2] = cube[2, 3] = -9999
    cube[1, 1] = -5
    with pytest.raises(
        DataError,
        match=r"^3 of 12 pixels have -9999 in every band; .* say so with --no-data -9999\.$",
    ):
        check_values(scene_of(cube))
    with pytest.raises(
        DataError,
        match=r"^1 of 12 pixels have -5 in every band; the declared no-data value is -9999: if "
        r"they are without a measurement, give them that value\.$",
    ):
        check_values(scene_of(cube, no_data=-9999))


def test_smallest_float_is_named_exactly() -> None:
    smallest = float(np.finfo(np.float32).min)
    cube = CUBE.astype(np.float32)
    cube[0, 0] = smallest
    with pytest.raises(DataError, match=r"--no-data -3\.4028234663852886e\+38\.$"):
        check_values(scene_of(cube))
    check_values(scene_of(cube, no_data=-3.4028234663852886e38))


@pytest.mark.parametrize("value", [-9999.9, -3.4e38, 0.1, -1e-40])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_a_no_data_value_is_what_the_type_of_the_cube_makes_of_it(value: float, dtype: str) -> None:
    cube = CUBE.astype(dtype)
    with np.errstate(over="ignore"):
        cube[0, 1] = np.float64(value)
    check_values(scene_of(cube, no_data=value))
    assert np.argwhere(missing(cube, value)).tolist() == [[0, 1]]
    assert np.argwhere(missing(cube, np.float64(value))).tolist() == [[0, 1]]


@pytest.mark.parametrize("no_data", [-9999, 0.5, 1e300, np.inf, -np.inf, np.nan, None])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i8", "u8", "f4", "bool"])
def test_a_no_data_value_that_the_type_cannot_hold_marks_nothing(
    dtype: str, no_data: float | None
) -> None:
    cube = (CUBE % 2).astype(dtype)
    assert not missing(cube, no_data).any()


def test_large_whole_numbers_are_told_apart() -> None:
    cube = np.full((1, 2, 3), 2**62, np.int64)
    cube[0, 1] += 1
    assert missing(cube, float(2**62)).tolist() == [[True, False]]


def test_no_data_in_some_bands_is_a_measurement() -> None:
    cube = CUBE.astype(np.int16)
    cube[1, 1, :4] = -9999
    cube[0, 0] = -9999
    assert missing(cube, -9999).sum() == 1


def test_values_of_measured_spectra_pass() -> None:
    check_values(scene_of(CUBE))
    check_values(scene_of(np.zeros((3, 4, 5), np.uint8)))
    check_values(scene_of(-CUBE.astype(np.int16)))  # negative, but not constant
