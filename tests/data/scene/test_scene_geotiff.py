from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pocketvision.data.scene.geotiff import GeoTiffCube
from pocketvision.data.scene.reading import open_scene
from pocketvision.errors import DataError, MissingExtraError

CUBE = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


def write(path: Path, cube: NDArray[Any], colormap: Any = None, **options: Any) -> Path:
    height, width, bands = cube.shape
    transform = rasterio.Affine(20, 0, 6e5, 0, -20, 4e6)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=cube.dtype,
        transform=transform, **options,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(cube, -1, 0))
        if colormap:
            file.write_colormap(1, colormap)
    return path


def test_georeference_and_no_data(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "cube.tif", CUBE, crs="EPSG:32611", nodata=-9999))
    assert scene.no_data == -9999
    assert scene.georeference is not None
    assert scene.georeference.transform == (20.0, 0.0, 600000.0, 0.0, -20.0, 4000000.0)
    assert rasterio.crs.CRS.from_wkt(scene.georeference.crs).to_epsg() == 32611


def test_nan_is_a_no_data_value(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "cube.tiff", CUBE.astype("f4"), nodata=float("nan")))
    assert scene.no_data is not None
    assert np.isnan(scene.no_data)


def test_file_without_a_place(tmp_path: Path) -> None:
    path = tmp_path / "cube.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", height=3, width=4, count=5, dtype="int16") as file,
    ):
        file.write(np.moveaxis(CUBE, -1, 0))
    scene = open_scene(path)
    assert scene.georeference is None
    np.testing.assert_array_equal(scene.cube.rows(1, 3), CUBE[1:])


def test_cube_is_read_in_windows(tmp_path: Path) -> None:
    path = write(tmp_path / "cube.tif", CUBE, tiled=True, blockxsize=16, blockysize=16)
    cube = open_scene(path).cube
    assert isinstance(cube, GeoTiffCube)
    np.testing.assert_array_equal(cube.rows(1, 2), CUBE[1:2])


def test_label_map_with_colours(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2, 2], [0, 255, 1, 1], [2, 2, 2, 2]], dtype=np.uint8)[..., None]
    write(tmp_path / "cube.tif", CUBE)
    write(
        tmp_path / "labels.tif", labels, nodata=255,
        colormap={0: (0, 0, 0, 255), 1: (200, 10, 0, 255), 2: (0, 100, 20, 255)},
    )  # fmt: skip
    scene = open_scene(tmp_path)
    assert scene.colours == ((200, 10, 0), (0, 100, 20))
    assert scene.labels is not None
    assert scene.labels.tolist() == [[0, 1, 2, 2], [0, 0, 1, 1], [2, 2, 2, 2]]


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds complex numbers; expected whole or real ones"):
        open_scene(write(tmp_path / "cube.tif", CUBE.astype(np.complex64)))


def test_file_that_is_no_geotiff(tmp_path: Path) -> None:
    path = tmp_path / "cube.tif"
    path.write_text('<VRTDataset rasterXSize="4" rasterYSize="3"></VRTDataset>')
    with pytest.raises(DataError, match=r"cube\.tif' cannot be read \(.*check the file"):
        open_scene(path)


def test_damaged_pixels_are_named_when_they_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 8), dtype=np.uint8)
    path = write(tmp_path / "cube.tif", noise, compress="deflate")
    cube = open_scene(path).cube
    data = bytearray(path.read_bytes())
    data[2000:-2000] = bytes(len(data) - 4000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cube\.tif' is damaged in the rows 0 to 63 \("):
        cube.rows(0, 64)


def test_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "cube.tif", CUBE)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketvision\[hyperspectral\]'"):
        open_scene(path)
