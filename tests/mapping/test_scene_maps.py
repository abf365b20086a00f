"""Maps of whole scenes: pictures, GeoTIFF and arrays, and what is refused before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from small_scenes import (
    COLOURS,
    HOLE,
    IDS,
    TRANSFORM,
    small_cube,
    small_labels,
    write_geotiff,
    write_scene,
)

from pocketvision.data.scene.geotiff import open_raster
from pocketvision.data.scene.reading import open_scene
from pocketvision.errors import ConfigError, DataError, MissingExtraError
from pocketvision.mapping import maps
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.maps import map_scene
from pocketvision.report.scene_pictures import map_scale


def classes_of(artefact: SceneArtefact) -> NDArray[np.int16]:
    """classes.npy of a fitted folder."""
    classes: NDArray[np.int16] = np.load(artefact.folder / "classes.npy")
    return classes


def test_map_of_the_fitted_scene_is_its_classes_twice(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    found = map_scene(fitted.folder, scene, tmp_path / "a.npy")
    map_scene(fitted.folder, scene / "cube.npy", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), classes_of(fitted))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert found.files == (str(tmp_path / "a.npy"),)
    assert found.classified == sum(found.pixels.values()) == 40 * 48
    assert found.pixels["hay"] == (classes_of(fitted) == 2).sum()


def test_tiff_has_the_place_the_numbers_and_the_colours_of_the_labels(
    fitted_placed: SceneArtefact, placed: Path, tmp_path: Path
) -> None:
    map_scene(fitted_placed.folder, placed, tmp_path / "map.tif")
    classes = classes_of(fitted_placed)
    with (
        rasterio.open(tmp_path / "map.tif") as made,
        rasterio.open(placed / "cube.tif") as cube,
        rasterio.open(placed / "labels.tif") as labels,
    ):
        assert made.crs == cube.crs
        assert made.transform == cube.transform
        assert made.nodata == 0
        numbers, palette, given = made.read(1), made.colormap(1), labels.colormap(1)
    np.testing.assert_array_equal(numbers, np.array([0, *IDS])[classes])
    assert (numbers[HOLE] == 0).all()
    assert [palette[number][:3] for number in IDS] == list(COLOURS)
    assert all(palette[number] == given[number] for number in IDS)


def test_picture_lies_where_the_scene_does(
    fitted_placed: SceneArtefact, placed: Path, tmp_path: Path
) -> None:
    found = map_scene(fitted_placed.folder, placed / "cube.tif", tmp_path / "map.png")
    names = [Path(file).name for file in found.files]
    assert names == ["map.png", "map.pgw", "map.prj"]
    scale = map_scale(40, 48)
    a, d, b, e, x, y = map(float, (tmp_path / "map.pgw").read_text().split())
    assert (a, d, b, e) == pytest.approx((20 / scale, 0, 0, -20 / scale))
    assert (x, y) == pytest.approx((TRANSFORM[2] + a / 2, TRANSFORM[5] + e / 2))
    crs = rasterio.crs.CRS.from_wkt((tmp_path / "map.prj").read_text())
    assert crs.to_epsg() == 32611
    picture = np.asarray(Image.open(tmp_path / "map.png").convert("RGB"))
    row, column = 2, 3
    expected = COLOURS[classes_of(fitted_placed)[row, column] - 1]
    assert tuple(picture[row * scale, column * scale]) == expected


@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_uncertainty_is_from_0_to_1_and_nan_in_the_hole(
    fitted_placed: SceneArtefact, placed: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"unsure{ending}"
    found = map_scene(fitted_placed.folder, placed, tmp_path / "map.npy", uncertainty=path)
    assert found.files[1] == str(path)
    if ending == ".npy":
        unsure = np.load(path)
    else:
        with rasterio.open(path) as file:
            assert np.isnan(file.nodata)
            unsure = file.read(1)
    assert unsure.dtype == np.float32
    assert np.isnan(unsure[HOLE]).all()
    assert np.isnan(unsure).sum() == (classes_of(fitted_placed) == 0).sum()
    assert 0 <= np.nanmin(unsure) < np.nanmax(unsure) <= 1


def test_picture_without_a_place_stands_alone(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    found = map_scene(
        fitted.folder, scene, tmp_path / "map.png", uncertainty=tmp_path / "unsure.png"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "unsure.png"]
    assert len(found.files) == 2


def test_tiff_without_a_place(fitted: SceneArtefact, scene: Path, tmp_path: Path) -> None:
    """No warning reaches the user either: warnings are errors here."""
    map_scene(fitted.folder, scene, tmp_path / "map.tif")
    assert open_scene(scene, labels=tmp_path / "map.tif").labels is not None


def test_no_data_value_of_the_fitted_scene_is_remembered(
    fitted_placed: SceneArtefact, tmp_path: Path
) -> None:
    """A cube of the same sensor that does not say so itself."""
    cube = small_cube(small_labels())
    cube[HOLE] = -9999
    np.save(tmp_path / "cube.npy", cube)
    map_scene(fitted_placed.folder, tmp_path / "cube.npy", tmp_path / "map.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), classes_of(fitted_placed))


def test_undeclared_no_data_is_refused_and_declared_becomes_0(
    fitted: SceneArtefact, tmp_path: Path
) -> None:
    cube = small_cube(small_labels())
    cube[HOLE] = -1
    np.save(tmp_path / "cube.npy", cube)
    with pytest.raises(DataError, match=r"64 of 1,920 pixels have -1 in every band; .*no-data -1"):
        map_scene(fitted.folder, tmp_path / "cube.npy", tmp_path / "map.npy")
    assert not (tmp_path / "map.npy").exists()
    found = map_scene(fitted.folder, tmp_path / "cube.npy", tmp_path / "map.npy", no_data=-1)
    assert (np.load(tmp_path / "map.npy")[HOLE] == 0).all()
    assert found.classified == 40 * 48 - 64


def test_nan_pixels_become_0(fitted: SceneArtefact, tmp_path: Path) -> None:
    cube = small_cube(small_labels()).astype(np.float32)
    cube[5, 5, 3] = np.nan
    np.save(tmp_path / "cube.npy", cube)
    with pytest.raises(DataError, match="1 of 1,920 pixels have NaN or infinite values"):
        map_scene(fitted.folder, tmp_path / "cube.npy", tmp_path / "map.npy")
    map_scene(fitted.folder, tmp_path / "cube.npy", tmp_path / "map.npy", no_data=float("nan"))
    assert np.argwhere(np.load(tmp_path / "map.npy") == 0).tolist() == [[5, 5]]


def test_cube_of_other_bands_is_refused(fitted: SceneArtefact, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", small_cube(small_labels(), bands=19))
    with pytest.raises(ConfigError, match="the cube has 19 bands, this network takes 20"):
        map_scene(fitted.folder, tmp_path / "cube.npy", tmp_path / "map.npy")


def test_unknown_ending_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"map\.jpg ends in '\.jpg'; expected one of \['\.png'"):
        map_scene(tmp_path, tmp_path / "nowhere", tmp_path / "map.jpg")


@pytest.mark.parametrize("name", ["map.png", "map.pgw", "map.prj"])
def test_existing_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    """A world file of another picture would misplace this one."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{name} exists; nothing was changed"):
        map_scene(tmp_path, tmp_path / "nowhere", tmp_path / "map.png")
    assert (tmp_path / name).read_text() == "mine"


def test_one_file_cannot_be_both_maps(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    with pytest.raises(ConfigError, match=r"map\.npy cannot be both maps; give --uncertainty an"):
        map_scene(tmp_path, tmp_path / "nowhere", path, uncertainty=path)


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is not a folder that can be written"):
        map_scene(tmp_path, tmp_path / "nowhere", tmp_path / "file" / "map.npy")


def test_tiff_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} {extra}")

    monkeypatch.setattr(maps, "require", missing)
    with pytest.raises(MissingExtraError, match="rasterio hyperspectral"):
        map_scene(tmp_path, tmp_path / "nowhere", tmp_path / "map.tif")


def test_numbers_beyond_a_palette_are_whole_numbers(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    """A label file may number its classes as it likes; the map of one class keeps the type."""
    card = fitted.session().card
    object.__setattr__(card, "class_ids", (1, 2, 3, 300))
    try:
        classes = np.ones((40, 48), np.int16)
        maps.write_class_map(fitted, open_scene(scene), classes, tmp_path / "map.tif")
    finally:
        object.__setattr__(card, "class_ids", (1, 2, 3, 4))
    with open_raster(tmp_path / "map.tif", "GTiff") as file:
        assert file.dtypes == ("uint16",)
        assert (file.read(1) == 1).all()


def test_numbers_beyond_any_type_are_refused_before_the_work(
    fitted: SceneArtefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert maps._tiff_dtype((1, 70_000)) == np.int32
    card = fitted.session().card
    object.__setattr__(card, "class_ids", (1, 2, 3, 2**31))
    monkeypatch.setattr(maps, "SceneArtefact", lambda _: fitted)
    try:
        with pytest.raises(ConfigError, match=r"label number 2147483648 does not fit a \.tif"):
            map_scene(fitted.folder, tmp_path / "nowhere", tmp_path / "map.tif")
    finally:
        object.__setattr__(card, "class_ids", (1, 2, 3, 4))


def test_copied_folder_maps_alike(fitted: SceneArtefact, scene: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fitted.folder, tmp_path / "copy")
    map_scene(copy, scene, tmp_path / "map.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), classes_of(fitted))


def test_smaller_scene_than_the_window(fitted: SceneArtefact, tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "small", small_cube(small_labels())[:5, :4], np.ones((5, 4)))
    map_scene(fitted.folder, folder, tmp_path / "map.npy")
    assert (np.load(tmp_path / "map.npy") > 0).all()
    write_geotiff(tmp_path / "cube.tif", small_cube(small_labels())[:5, :4])
    map_scene(fitted.folder, tmp_path / "cube.tif", tmp_path / "again.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), np.load(tmp_path / "again.npy"))
