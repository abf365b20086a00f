from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pocketvision.data.scene.geotiff import GeoTiffCube
from pocketvision.data.scene.reading import check_values, open_scene
from pocketvision.data.scene.scene import missing
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


def masked(path: Path, cube: NDArray[Any], **options: Any) -> Path:
    """With a mask inside the file that hides the pixel (1, 2)."""
    visible = np.ones(cube.shape[:2], bool)
    visible[1, 2] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, cube, **options)
        with rasterio.open(path, "r+") as file:
            file.write_mask(visible)
    return path


@pytest.mark.parametrize(
    ("dtype", "read"), [("i2", "f4"), ("u1", "f4"), ("i4", "f8"), ("f8", "f8")]
)
def test_masked_pixels_are_missing(tmp_path: Path, dtype: str, read: str) -> None:
    scene = open_scene(masked(tmp_path / "cube.tif", CUBE.astype(dtype)))
    assert scene.cube.dtype == read
    rows = scene.cube.rows(0, 3)
    assert rows.dtype == read
    assert np.argwhere(missing(rows, scene.no_data)).tolist() == [[1, 2]]
    np.testing.assert_array_equal(rows[0], CUBE[0])
    check_values(scene)


def test_a_mask_and_a_no_data_value_go_together(tmp_path: Path) -> None:
    cube = CUBE.copy()
    cube[0, 0] = -9999
    scene = open_scene(masked(tmp_path / "cube.tif", cube, nodata=-9999))
    assert np.argwhere(missing(scene.cube.rows(0, 3), scene.no_data)).tolist() == [[0, 0], [1, 2]]
    check_values(scene)


def test_masked_labels_are_unlabelled(tmp_path: Path) -> None:
    write(tmp_path / "cube.tif", CUBE)
    masked(tmp_path / "labels.tif", np.ones((3, 4, 1), np.uint8), nodata=255)
    labels = open_scene(tmp_path).labels
    assert labels is not None
    assert np.argwhere(labels == 0).tolist() == [[1, 2]]


def test_a_band_of_transparency_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "cube.tif", CUBE, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as file:
        gray, alpha = rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha
        file.colorinterp = [gray, gray, gray, alpha, gray]
    with pytest.raises(
        DataError,
        match=r"cube\.tif' declares its band 4 as alpha, .* again with photometric=MINISBLACK; if "
        r"it marks pixels without one, give those a no-data value and remove the band\.$",
    ):
        open_scene(path)


def tagged(path: Path, tags: list[dict[str, str]], **options: str) -> tuple[float, ...]:
    write(path, CUBE)
    with rasterio.open(path, "r+") as file:
        for band, of_band in enumerate(tags, 1):
            if "description" in of_band:
                file.set_band_description(band, of_band["description"])
            else:
                file.update_tags(band, **options, **of_band)
    return open_scene(path).wavelengths_nm


@pytest.mark.parametrize(
    ("unit", "factor"), [("Nanometers", 1), ("Micrometers", 1000), ("", 1000), ("Wavenumber", 0)]
)
def test_wavelengths_of_band_tags(tmp_path: Path, unit: str, factor: int) -> None:
    tags = [{"wavelength": str(n + 0.5), "wavelength_units": unit} for n in range(5)]
    expected = tuple(factor * (n + 0.5) for n in range(5)) if factor else ()
    assert tagged(tmp_path / "cube.tif", tags) == expected


def test_central_wavelengths_and_descriptions(tmp_path: Path) -> None:
    central = [{"CENTRAL_WAVELENGTH_UM": f"0.{4 + n}"} for n in range(5)]
    assert list(tagged(tmp_path / "a.tif", central, ns="IMAGERY")) == [400, 500, 600, 700, 800]
    described = [{"description": f"Band {n} ({400.5 + n} Nanometers)"} for n in range(5)]
    assert list(tagged(tmp_path / "b.tif", described)) == [400.5, 401.5, 402.5, 403.5, 404.5]


@pytest.mark.parametrize("key", ["wavelength", "description"])
def test_tags_that_do_not_give_every_band_a_wavelength_are_left_out(
    tmp_path: Path, key: str
) -> None:
    tags = [{key: text} for text in ("400 nm", "blue", "x", "500 nm", "2")]
    assert tagged(tmp_path / "cube.tif", tags) == ()
    assert tagged(tmp_path / "few.tif", [{key: "400"}] * 2) == ()
